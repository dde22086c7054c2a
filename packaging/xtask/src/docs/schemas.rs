//! Documents of `--json` against `docs/schema`, by a validator that is not ours; and `docs/openapi.json` against the daemon.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use boon::{Compiler, Schemas};
use serde_json::Value;
use skycache::admin::{ENDPOINTS, Endpoint};
use skycache_tests::Story;
use skycache_tests::programs::program;

use crate::workspace;

/// Errors of a document against its schema. An invalid schema panics.
fn complaint(name: &str, document: &Value) -> Option<String> {
    let path = workspace().join("docs/schema").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let schema: Value = serde_json::from_str(&text).unwrap_or_else(|err| panic!("{name}: {err}"));
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("schema.json", schema).unwrap_or_else(|err| panic!("{name}: {err}"));
    let index = compiler.compile("schema.json", &mut schemas).unwrap_or_else(|err| panic!("{name}: {err:#}"));
    schemas.validate(document, index).err().map(|err| format!("{name}: {err:#}"))
}

fn check(name: &str, document: &Value) {
    if let Some(complaint) = complaint(name, document) {
        panic!("{complaint}\n{document:#}");
    }
}

/// The document that a command prints, with any exit code.
fn printed(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{command:?}: {err}\n{said}"))
}

#[test]
fn what_the_programs_print_is_what_the_schemas_say() {
    let mut story = Story::new();
    story.headend_extra = "[source.service]\n[dvb_i]\n".to_owned();
    story.start_daemon();
    let (headend, daemon) = (story.headend_config(), story.daemon_config());
    let with = |name: &str, config: &Path, arguments: &[&str]| {
        let mut command = program(name);
        command.args(arguments).arg("-c").arg(config);
        printed(&mut command)
    };
    story.start_headend(false);
    story.until_complete(std::time::Duration::from_secs(60));
    check("scan", &printed(program("headend").arg("scan").arg(&story.folder).arg("--json")));
    check("plan", &with("headend", &headend, &["plan", "--json"]));
    check("check", &with("headend", &headend, &["check", "--json"]));
    check("headend-status", &with("headend", &headend, &["status", "--json"]));
    let out = story.dir().join("catalogue");
    check("catalog", &with("headend", &headend, &["catalog", "--json", "--out", out.to_str().unwrap()]));
    check("check", &with("skycached", &daemon, &["check", "--json", "--seconds", "1"]));
    check("status", &with("skycached", &daemon, &["status", "--json"]));
    check("trust", &with("skycached", &daemon, &["trust", "list", "--json"]));
    let keys = story.dir().join("keys");
    check("keygen", &printed(program("headend").args(["keygen", "--json", "--out"]).arg(&keys)));
    for (name, target) in [("logs", "/api/v1/logs?level=info"), ("samples", "/api/v1/samples")] {
        let answer = story.admin_answers(target);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let document: Value =
            serde_json::from_str(body).unwrap_or_else(|err| panic!("{target}: {err}: {body}"));
        assert!(name != "logs" || !document["lines"].as_array().unwrap().is_empty(), "{document:#}");
        check(name, &document);
    }
    let objects = with("skycached", &daemon, &["ls", "--json"]);
    check("objects", &objects);
    let key = objects["objects"][0]["key"].as_str().unwrap();
    for verb in ["pin", "unpin", "purge"] {
        check("change", &with("skycached", &daemon, &[verb, "--json", key]));
    }
    check("change", &with("skycached", &daemon, &["ban", "--json", "*.m4s"]));
    let recording = story.dir().join("cycle.pcap");
    let built = program("headend")
        .arg("build")
        .arg("-c")
        .arg(&headend)
        .arg("--out")
        .arg(&recording)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    check("inspect", &printed(program("headend").arg("inspect").arg("--json").arg(&recording)));
    check("replay", &printed(program("skycached").arg("replay").arg(&recording)));
}

#[test]
fn sources_that_did_not_come_are_in_the_document_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("headend.toml");
    let source = |name: &str| {
        format!(
            "[[source]]\npath = '{name}'\nbase = 'http://h/{name}/'\npull = 'http://127.0.0.1:9/{name}.m3u8'\n"
        )
    };
    std::fs::write(&config, format!("link.rate_bps = 1_000_000\n{}{}", source("one"), source("two")))
        .unwrap();
    let document = printed(program("headend").args(["pull", "--json", "-c"]).arg(&config));
    check("pull", &document);
    for (at, name) in ["one", "two"].into_iter().enumerate() {
        let source = &document["sources"][at];
        assert!(source["source"] == name && source["failed"]["reason"] == "connect", "{document:#}");
    }
}

#[test]
fn forecasts_and_simulations_are_plans_too() {
    let config = workspace().join("configs/feasibility.toml");
    check("plan", &printed(program("headend").args(["plan", "--json", "-c"]).arg(config)));
    let config = workspace().join("configs/launch.toml");
    let mut command = program("headend");
    command.args(["plan", "--json", "--simulate", "--receivers", "100", "-c"]).arg(config);
    check("plan", &printed(&mut command));
}

#[test]
fn a_document_that_lacks_something_or_has_it_wrong_is_refused() {
    let good = serde_json::json!({ "schema": 1, "healthy": true, "findings": [] });
    check("check", &good);
    for (name, value) in
        [("schema", Value::from(2)), ("healthy", Value::from("yes")), ("findings", Value::Null)]
    {
        let mut bad = good.clone();
        bad[name] = value;
        assert!(complaint("check", &bad).is_some(), "{bad}");
        bad.as_object_mut().unwrap().remove(name);
        assert!(complaint("check", &bad).is_some(), "{bad}");
    }
}

#[test]
fn the_description_of_the_admin_interface_names_its_paths() {
    let text = std::fs::read_to_string(workspace().join("docs/openapi.json")).unwrap();
    let api: Value = serde_json::from_str(&text).unwrap();
    let described: BTreeSet<(&str, String)> =
        api["paths"].as_object().unwrap().iter().flat_map(of_path).collect();
    let methods = |it: &'static Endpoint| {
        it.methods.split(", ").filter(|it| *it != "HEAD").map(|method| (it.path, method.to_owned()))
    };
    let there: BTreeSet<(&str, String)> = ENDPOINTS.iter().flat_map(methods).collect();
    assert_eq!(described, there, "docs/openapi.json and daemon/src/admin/endpoints.rs");
    let page = std::fs::read_to_string(workspace().join("docs/api.md")).unwrap();
    for endpoint in &ENDPOINTS {
        assert!(page.contains(endpoint.path), "docs/api.md does not have {}", endpoint.path);
    }
    let mut references = Vec::new();
    collect(&api, &mut references);
    for reference in references {
        assert!(workspace().join("docs").join(&reference).exists(), "{reference}");
    }
}

/// Paths with their methods.
fn of_path<'a>((path, item): (&'a String, &'a Value)) -> impl Iterator<Item = (&'a str, String)> {
    let methods = item
        .as_object()
        .unwrap()
        .keys()
        .filter(|it| matches!(it.as_str(), "get" | "post" | "put" | "delete"));
    methods.map(move |method| (path.as_str(), method.to_uppercase()))
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|it| collect(it, found));
        }
        Value::Array(list) => list.iter().for_each(|it| collect(it, found)),
        _ => {}
    }
}
