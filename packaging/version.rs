//! The version that a program prints, for the build scripts of both programs.

use std::env;
use std::process::Command;

/// Sets `SKYCACHE_VERSION`: the version, with the commit in release builds. Builds for development do without, so that a commit
/// builds nothing again. `SKYCACHE_COMMIT` names it where there is no repository.
pub(crate) fn set() {
    println!("cargo:rerun-if-env-changed=SKYCACHE_COMMIT");
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|it| it.status.success())?;
        String::from_utf8(output.stdout).ok().map(|it| it.trim().to_owned()).filter(|it| !it.is_empty())
    };
    let is_release = env::var("PROFILE").is_ok_and(|it| it == "release");
    let commit = env::var("SKYCACHE_COMMIT").ok().or_else(|| {
        let head = is_release.then(|| git(&["rev-parse", "--git-path", "logs/HEAD"])).flatten()?;
        println!("cargo:rerun-if-changed={head}");
        git(&["rev-parse", "--short=12", "HEAD"])
    });
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let suffix = commit.map_or_else(String::new, |commit| format!(" ({commit})"));
    println!("cargo:rustc-env=SKYCACHE_VERSION={version}{suffix}");
}
