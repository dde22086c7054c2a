//! Trust in carousels: its options, and the file that remembers versions and enrolled keys across restarts.
//!
//! [`carousel::trust`] decides. This room writes its memory to a file: immediately when a key is enrolled, confirmed or
//! revoked, otherwise every ten minutes if a version has changed, and at the end. A live carousel changes its versions every
//! few seconds, and writing each would wear out the flash.

mod options;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use carousel::trust::{SignedBy, Trust};

use crate::clock;
use crate::sys;
use crate::vitals::{self, Vitals};

pub use options::{SignatureMode, TrustOptions, TrustService};

/// Name of the file in the store's folder.
const FILE: &str = "trust";
/// Interval at which changes are checked.
const LOOK: Duration = Duration::from_secs(1);
/// Checks between two writes of versions.
const LOOKS_BETWEEN: u32 = 600;

/// Signer of an object, in the form of its metadata.
pub fn signer_text(by: &SignedBy) -> Arc<str> {
    format!("{} {} {}", by.root, by.key, by.service).into()
}

/// Thread that writes the memory to disk, and once more when it is dropped.
#[derive(Debug)]
pub struct TrustKeeper {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TrustKeeper {
    /// Recalls what the file in `folder` remembers, and keeps it up to date.
    ///
    /// # Errors
    /// If no thread is available.
    pub fn start(trust: Arc<Trust>, folder: &Path, vitals: &Vitals) -> std::io::Result<Self> {
        let path = folder.join(FILE);
        recall(&trust, &path);
        // Before the thread runs: what changes until then is to be written too.
        let mut written = trust.changes();
        let (stop, stopped) = sync_channel(1);
        let sign = vitals.show("trust".to_owned(), clock::now());
        let keep = move || {
            let mut looks = 0;
            loop {
                sign.give(clock::now());
                let ends = !matches!(stopped.recv_timeout(LOOK), Err(RecvTimeoutError::Timeout));
                let (changes, urgent) = trust.changes();
                looks += 1;
                let is_due =
                    urgent != written.1 || (changes != written.0 && (ends || looks >= LOOKS_BETWEEN));
                if is_due {
                    write(&trust, &path);
                    (written, looks) = ((changes, urgent), 0);
                }
                if ends {
                    return;
                }
            }
        };
        let thread = vitals::start("trust", keep)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for TrustKeeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

fn recall(trust: &Trust, path: &Path) {
    match std::fs::read_to_string(path) {
        Ok(text) if trust.recall(&text) => {}
        Ok(_) => {
            tracing::warn!(file = %path.display(), "no memory of signatures: older versions of carousels pass once more");
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
        Err(err) => tracing::warn!(file = %path.display(), %err, "the memory of signatures cannot be read"),
    }
}

fn write(trust: &Trust, path: &Path) {
    if let Err(err) = sys::replace(path, trust.memory().as_bytes()) {
        tracing::warn!(file = %path.display(), %err, "the memory of signatures cannot be written");
    }
}

/// Trust by these options, with the memory in `folder`; nothing is written. For recordings.
///
/// # Errors
/// A key or list that cannot be read.
pub fn recalled(options: &TrustOptions, folder: &Path) -> Result<Arc<Trust>, String> {
    let trust = Arc::new(Trust::new(options.policy()?));
    recall(&trust, &folder.join(FILE));
    Ok(trust)
}

#[cfg(test)]
mod tests {
    use carousel::trust::{
        Allowance, BLANK, Certificate, Edition, Judged, Kind, Mode, Policy, Sealer, SecretKey, Stream,
        TrustDrop,
    };

    use super::*;

    fn document(version: u64) -> Vec<u8> {
        let (root, online) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let certificate = Certificate::issue(&root, online.public(), (0, 1), (0, u64::MAX), Vec::new());
        let sealer = Sealer::new(online, certificate, None, 0).unwrap();
        let stream = Stream { service: "tag:a".to_owned(), name: "s".to_owned(), tsi: 7 };
        let edition = Edition { version, until: 10, ..Edition::default() };
        sealer.seal_xml(Kind::Fdt, &stream, &edition, &format!("<FDT-Instance{BLANK}/>")).into_bytes()
    }

    fn ask(trust: &Trust, bytes: &[u8]) -> Result<bool, TrustDrop> {
        let judged = Judged {
            kind: Kind::Fdt,
            bytes,
            tsi: Some(7),
            mode: Mode::Require,
            allowance: Allowance::Untrusted(0),
        };
        trust.judge(carousel::time::Instant::default(), None, &judged).map(|it| it.is_some())
    }

    #[test]
    fn a_key_enrolled_and_versions_are_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let policy = Policy { mode: Mode::Require, enrol: true, ..Policy::default() };
        let (old, new) = (document(1), document(2));
        {
            let trust = Arc::new(Trust::new(policy.clone()));
            let _keeper = TrustKeeper::start(Arc::clone(&trust), folder.path(), &Vitals::default()).unwrap();
            assert_eq!(ask(&trust, &new), Ok(true));
        }
        let trust = Arc::new(Trust::new(policy.clone()));
        let keeper = TrustKeeper::start(Arc::clone(&trust), folder.path(), &Vitals::default()).unwrap();
        assert_eq!(ask(&trust, &old), Err(TrustDrop::Replayed));
        drop(keeper);
        // A damaged file costs the memory and nothing else.
        std::fs::write(folder.path().join(FILE), "?").unwrap();
        let trust = Arc::new(Trust::new(policy));
        drop(TrustKeeper::start(Arc::clone(&trust), folder.path(), &Vitals::default()).unwrap());
        assert_eq!(ask(&trust, &old), Ok(true));
    }
}
