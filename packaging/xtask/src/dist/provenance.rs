//! Provenance of packages: an in-toto statement (v1) with SLSA provenance (v1) about everything that a run has written.
//!
//! It names the commit, the locked packages of cargo and npm, and the toolchains. It says nothing of the machine and the time,
//! so that another build of the commit can be compared with it byte for byte. `cargo xtask repository` signs it, as it signs
//! the repository's indexes.

use carousel::digest::Digest;
use serde_json::{Value, json};

use super::package::HOMEPAGE;
use super::{Arguments, Release, git, toolchain};

/// Writes `provenance.intoto.json`.
pub(super) fn write(release: &Release, arguments: &Arguments) -> Result<(), String> {
    let names = |values: Vec<Option<clap::builder::PossibleValue>>| -> Vec<String> {
        values.into_iter().flatten().map(|it| it.get_name().to_owned()).collect()
    };
    let formats = names(arguments.formats.iter().map(clap::ValueEnum::to_possible_value).collect());
    let cpus = names(arguments.cpu.iter().map(clap::ValueEnum::to_possible_value).collect());
    let statement = statement(release, &formats, &cpus)?;
    release.write("provenance.intoto.json", format!("{statement:#}\n").as_bytes())
}

fn statement(release: &Release, formats: &[String], cpus: &[String]) -> Result<Value, String> {
    let mut written = release.written.borrow().clone();
    written.sort();
    let subject: Vec<Value> = written
        .iter()
        .map(|(name, digest)| json!({ "name": name, "digest": { "sha256": digest } }))
        .collect();
    let locked = |path: &str| {
        let digest = Digest::of(&release.read(path)?).to_hex();
        Ok::<_, String>(json!({ "uri": path, "digest": { "sha256": digest } }))
    };
    let commit = git(&release.workspace, &["rev-parse", "HEAD"]).unwrap_or_default();
    let mut dependencies = vec![locked("Cargo.lock")?, locked("daemon/web/package-lock.json")?];
    if !commit.is_empty() {
        dependencies.insert(0, json!({ "uri": HOMEPAGE, "digest": { "gitCommit": commit } }));
    }
    Ok(json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subject,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": format!("{HOMEPAGE}xtask-dist/v1"),
                "externalParameters": { "formats": formats, "cpus": cpus },
                "internalParameters": {
                    "rust": toolchain::RUST, "zig": toolchain::ZIG, "sourceDateEpoch": release.epoch_s,
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": { "builder": { "id": format!("{HOMEPAGE}xtask-dist"), "version": { "xtask": release.version } } },
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_names_what_was_written_and_what_it_was_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let release = Release {
            version: "0.1.0".to_owned(),
            epoch_s: 7,
            workspace: crate::workspace(),
            out: folder.path().to_owned(),
            written: Default::default(),
        };
        release.write("b.deb", b"b").unwrap();
        release.write("a/a.ipk", b"a").unwrap();
        let statement = statement(&release, &["deb".to_owned()], &["armv7".to_owned()]).unwrap();
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        let subject = statement["subject"].as_array().unwrap();
        assert_eq!((&subject[0]["name"], &subject[1]["name"]), (&json!("a/a.ipk"), &json!("b.deb")));
        assert_eq!(subject[1]["digest"]["sha256"], Digest::of(b"b").to_hex());
        let made_of = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
        let lock = made_of.as_array().unwrap().iter().find(|it| it["uri"] == "Cargo.lock").unwrap();
        assert_eq!(lock["digest"]["sha256"], Digest::of(&release.read("Cargo.lock").unwrap()).to_hex());
    }
}
