//! Tests of the Helm chart: as Helm itself renders it (`packaging/helm/rendering/check.py`), and its configurations as the daemon
//! reads them.

use std::fs;
use std::process::Command;

use skycache::config::Config;
use skycache_tests::programs::python_with_packages;

use crate::workspace;

#[test]
fn the_chart_is_rendered_and_the_daemon_reads_its_configurations() {
    let folder = workspace().join("packaging/helm/rendering");
    let Some(python) = python_with_packages(&folder) else { return };
    let out = tempfile::tempdir().unwrap();
    let mut check = Command::new(python);
    check.arg(folder.join("check.py")).arg(workspace().join("target/tools/helm")).arg(out.path());
    let output = check.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    if said.starts_with("SKIPPED: ") {
        return;
    }
    assert!(output.status.success(), "{said}");
    let read = |name: &str| {
        Config::load(&out.path().join(name).join("skycached.toml"))
            .unwrap_or_else(|err| panic!("{name}: {err}"))
    };
    let values = fs::read_dir(folder.join("values")).unwrap().map(|it| it.unwrap().path());
    let configs: Vec<(String, Config)> = values
        .map(|it| it.file_stem().unwrap().to_string_lossy().into_owned())
        .map(|name| (name.clone(), read(&name)))
        .collect();
    assert!(configs.len() >= 4, "{}", configs.len());
    for (name, config) in configs {
        let route = config.routes.first();
        match name.as_str() {
            "edge-full" => {
                assert_eq!(route.unwrap().parents.as_deref(), Some("shields"));
                assert_eq!(config.parents[0].members.len(), 3);
                assert!(config.kafka.is_some_and(|it| it.sasl.is_some() && it.tls.is_some()));
                assert_eq!((config.http.shutdown_delay_ms, config.http.drain_ms), (12_000, 88_000));
            }
            "shield" => assert!(config.receive.announcement.is_empty() && config.kafka.is_some()),
            _ => assert!(config.kafka.is_none() && config.parents.is_empty(), "{name}"),
        }
    }
}
