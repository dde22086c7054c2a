//! Hand-over of a bundle to what installs it.

use std::fmt::Debug;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clock;

/// Time that an installation may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Interval at which it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(50);
/// Longest line that is kept of what the program has said.
const SAID_BYTES: usize = 400;

/// Something that installs bundles.
pub trait Installer: Debug + Send + Sync {
    /// Installs a bundle, and waits for the end.
    ///
    /// # Errors
    /// One line: why it is refused, or what failed.
    fn install(&self, bundle: &Path) -> Result<(), String>;
}

/// A program, with its arguments.
#[derive(Debug, Clone)]
pub struct Program(pub Vec<String>);

impl Installer for Program {
    fn install(&self, bundle: &Path) -> Result<(), String> {
        let (name, arguments) = self.0.split_first().ok_or("no program is configured")?;
        let log = bundle.with_extension("log");
        let stderr = File::create(&log).map_err(|err| format!("{}: {err}", log.display()))?;
        let mut command = Command::new(name);
        command.args(arguments).arg(bundle).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let mut child = command.spawn().map_err(|err| format!("{name}: {err}"))?;
        let begun = clock::now();
        loop {
            match child.try_wait().map_err(|err| format!("{name}: {err}"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(last_line(&log).unwrap_or_else(|| format!("{name}: {status}"))),
                None if clock::now().since(begun) < PATIENCE => clock::sleep(LOOK),
                None => {
                    // It has ended, or is given up.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("{name}: not done after {} s", PATIENCE.as_secs()));
                }
            }
        }
    }
}

/// The end of what a program has said, in one line.
fn last_line(log: &Path) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut said = File::open(log).ok()?;
    let length = said.metadata().ok()?.len();
    said.seek(SeekFrom::Start(length.saturating_sub(SAID_BYTES as u64))).ok()?;
    let mut bytes = Vec::new();
    said.take(SAID_BYTES as u64).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|it| !it.trim().is_empty())?;
    Some(line.trim().chars().filter(|it| !it.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_installs_or_says_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("b");
        std::fs::write(&bundle, "bundle").unwrap();
        let run = |script: &str| {
            Program(["/bin/sh", "-c", script, "x"].map(str::to_owned).to_vec()).install(&bundle)
        };
        assert_eq!(run("test \"$(cat $1)\" = bundle"), Ok(()));
        assert_eq!(
            run("echo first >&2; echo 'refused (signature): no' >&2; exit 1").unwrap_err(),
            "refused (signature): no"
        );
        assert!(run("exit 3").unwrap_err().contains("exit status: 3"));
        assert!(
            Program(vec!["/none/at/all".to_owned()]).install(&bundle).unwrap_err().contains("/none/at/all")
        );
        assert!(Program(Vec::new()).install(&bundle).is_err());
    }
}
