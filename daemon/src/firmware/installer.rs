//! Installation of a bundle by an external program.

use std::fmt::Debug;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use carousel::config::without_numbers;

use crate::clock;

/// Longest installation.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Interval at which the end of the program is checked.
const LOOK: Duration = Duration::from_millis(50);
/// Exit code of a program that asks to be run again later (`EX_TEMPFAIL` of sysexits.h).
const TRY_LATER: i32 = 75;
/// Longest line of the program's output that is kept.
const SAID_BYTES: usize = 400;

/// Why a bundle was not installed, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallError {
    /// No program could be started. This says nothing about the bundle.
    NotStarted(String),
    /// The program asks to be run again later. This says nothing about the bundle.
    Later(String),
    /// It was refused, or the installation failed.
    Failed(String),
}

/// An installer of bundles.
pub trait Installer: Debug + Send + Sync {
    /// Whether it could be started.
    ///
    /// # Errors
    /// One line: why not.
    fn is_ready(&self) -> Result<(), String>;

    /// Installs a bundle, and waits for the end.
    ///
    /// # Errors
    /// Why it is not installed.
    fn install(&self, bundle: &Path) -> Result<(), InstallError>;
}

/// A program, with its arguments.
#[derive(Debug, Clone)]
pub struct Program(pub Vec<String>);

impl Installer for Program {
    fn is_ready(&self) -> Result<(), String> {
        let name = self.0.first().ok_or("no program is configured")?;
        let metadata = std::fs::metadata(name).map_err(|err| why_not(name, &err))?;
        if !metadata.is_file() {
            return Err(format!("{name}: this is not a file"));
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(format!("{name}: it is not executable"));
        }
        Ok(())
    }

    fn install(&self, bundle: &Path) -> Result<(), InstallError> {
        let not_started = InstallError::NotStarted;
        let (name, arguments) =
            self.0.split_first().ok_or_else(|| not_started("no program is configured".to_owned()))?;
        let log = bundle.with_extension("log");
        let stderr = File::create(&log).map_err(|err| not_started(format!("{}: {err}", log.display())))?;
        let mut command = Command::new(name);
        command.args(arguments).arg(bundle).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        // Also if the interpreter of its first line does not exist.
        let mut child = command.spawn().map_err(|err| not_started(why_not(name, &err)))?;
        let begun = clock::now();
        let ended = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if clock::now().since(begun) < PATIENCE => clock::sleep(LOOK),
                Ok(None) => {
                    // It has ended, or is given up.
                    let _ = child.kill();
                    let _ = child.wait();
                    break Err(format!("{name}: not done after {} s", PATIENCE.as_secs()));
                }
                Err(err) => break Err(format!("{name}: {}", without_numbers(&err))),
            }
        };
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) if status.code() == Some(TRY_LATER) => {
                let asks = || format!("{name}: it asks to be run again later");
                Err(InstallError::Later(last_line(&log).unwrap_or_else(asks)))
            }
            Ok(status) => {
                Err(InstallError::Failed(last_line(&log).unwrap_or_else(|| format!("{name}: {status}"))))
            }
            Err(why) => Err(InstallError::Failed(why)),
        }
    }
}

/// Why a program cannot be started, in one line.
fn why_not(name: &str, err: &std::io::Error) -> String {
    let why = match err.kind() {
        ErrorKind::NotFound if Path::new(name).exists() => {
            "the interpreter that its first line names is not there".to_owned()
        }
        ErrorKind::NotFound => "there is no such program".to_owned(),
        ErrorKind::PermissionDenied => "this user may not execute it".to_owned(),
        _ => without_numbers(err),
    };
    format!("{name}: {why}")
}

/// The end of a program's output, in one line.
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
        let failed = |why: &str| Err(InstallError::Failed(why.to_owned()));
        assert_eq!(run("test \"$(cat $1)\" = bundle"), Ok(()));
        assert_eq!(
            run("echo first >&2; echo 'refused (signature): no' >&2; exit 1"),
            failed("refused (signature): no")
        );
        assert_eq!(run("exit 3"), failed("/bin/sh: exit status: 3"));
        let later = |why: &str| Err(InstallError::Later(why.to_owned()));
        assert_eq!(run("echo 'a recording runs' >&2; exit 75"), later("a recording runs"));
        assert_eq!(run("exit 75"), later("/bin/sh: it asks to be run again later"));
    }

    #[test]
    fn a_program_that_cannot_be_started_says_nothing_of_the_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("b");
        let write = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let plain = write("plain", "#!/bin/sh\n", 0o644);
        let orphan = write("orphan", "#!/none/such/interpreter\n", 0o755);
        let good = write("good", "#!/bin/sh\n", 0o755);
        let here = folder.path().display().to_string();
        // Whether it is seen before the bundle is written out, and what is said.
        for (program, is_seen, said) in [
            (vec!["/none/at/all".to_owned()], true, "/none/at/all: there is no such program"),
            (vec![plain], true, "plain"),
            (vec![here], true, ""),
            (vec![orphan], false, "orphan: the interpreter"),
            (Vec::new(), true, "no program"),
        ] {
            let program = Program(program);
            assert_eq!(program.is_ready().is_err(), is_seen, "{program:?}");
            let result = program.install(&bundle);
            assert!(
                matches!(&result, Err(InstallError::NotStarted(why)) if why.contains(said)),
                "{program:?}: {result:?}"
            );
        }
        assert_eq!(Program(vec![good.clone()]).is_ready(), Ok(()));
        assert_eq!(Program(vec![good]).install(&bundle), Ok(()));
    }
}
