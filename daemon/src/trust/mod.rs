//! Trust in carousels: its options, and the file that remembers versions and enrolled keys across restarts.
//!
//! [`carousel::trust`] decides. This room writes its memory to a file: immediately when a key is enrolled, confirmed or
//! revoked, otherwise if a version has changed, half a minute to ten minutes after the last time by the length of the file, and at the
//! end. A live carousel changes its versions every few seconds, and writing each would wear out the flash.
//!
//! It also removes objects from the cache whose signers are trusted no longer.

mod options;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use carousel::trust::{KeyId, SignedBy, Trust};

use crate::clock;
use crate::store::{CameBy, EvictReason, ObjectMeta, Store};
use crate::sys;
use crate::vitals::{self, Vitals};

pub use options::{SignatureMode, TrustOptions, TrustService};

/// Name of the file in the store's folder.
const FILE: &str = "trust";
/// Interval at which changes are checked.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of versions that are written in a second on average, at most 35 MB a day.
const BYTES_PER_LOOK: usize = 400;
/// Fewest and most checks between two writes of versions. What was recorded since the last one could be replayed after a power cut, until
/// the carousel itself is heard.
const LOOKS_BETWEEN: (u32, u32) = (30, 600);

/// Checks between two writes of a file of this length.
fn looks_between(file_bytes: usize) -> u32 {
    let looks = u32::try_from(file_bytes / BYTES_PER_LOOK).unwrap_or(u32::MAX);
    looks.clamp(LOOKS_BETWEEN.0, LOOKS_BETWEEN.1)
}

/// Signer of an object, in the form of its metadata.
pub fn signer_text(by: &SignedBy) -> Arc<str> {
    format!("{} {} {}", by.root, by.key, by.service).into()
}

/// Root key, online key and service of the output of [`signer_text`].
fn signer_of(text: &str) -> Option<(KeyId, KeyId, &str)> {
    let (root, rest) = text.split_once(' ')?;
    let (key, service) = rest.split_once(' ')?;
    Some((KeyId::from_text(root)?, KeyId::from_text(key)?, service))
}

/// Removes objects that came by a carousel and that its trust no longer covers: they are received again where it does.
fn remove_untrusted(trust: &Trust, store: &Store) {
    let is_untrusted = |meta: &ObjectMeta| {
        meta.came_by != CameBy::Origin && !trust.keeps(meta.signed_by.as_deref().and_then(signer_of))
    };
    let removed = store.remove_selected(is_untrusted, EvictReason::Untrusted);
    if removed > 0 {
        tracing::warn!(objects = removed, "removed from the cache: [trust] no longer covers them");
    }
}

/// Thread that writes the memory to disk, and once more when it is dropped.
#[derive(Debug)]
pub struct TrustKeeper {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TrustKeeper {
    /// Recalls what the file beside the store remembers, and keeps it up to date. The store loses what is trusted no longer.
    ///
    /// # Errors
    /// If no thread is available.
    pub fn start(trust: Arc<Trust>, store: Store, vitals: &Vitals) -> std::io::Result<Self> {
        let path = store.path().join(FILE);
        recall(&trust, &path);
        let mut generation = trust.generation();
        if !trust.awaits_enrolment() {
            remove_untrusted(&trust, &store);
        }
        // Before the thread runs: what changes until then is to be written too.
        let mut written = trust.changes();
        let (stop, stopped) = sync_channel(1);
        let sign = vitals.show("trust".to_owned(), clock::now());
        let keep = move || {
            let (mut looks, mut file_bytes) = (0, 0);
            loop {
                sign.give(clock::now());
                let ends = !matches!(stopped.recv_timeout(LOOK), Err(RecvTimeoutError::Timeout));
                let now = trust.generation();
                if std::mem::replace(&mut generation, now) != now {
                    remove_untrusted(&trust, &store);
                }
                let (changes, urgent) = trust.changes();
                looks += 1;
                let is_due = urgent != written.1
                    || (changes != written.0 && (ends || looks >= looks_between(file_bytes)));
                if is_due {
                    file_bytes = write(&trust, &path);
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

/// Writes the memory; returns its length.
fn write(trust: &Trust, path: &Path) -> usize {
    let memory = trust.memory();
    if let Err(err) = sys::replace(path, memory.as_bytes()) {
        tracing::warn!(file = %path.display(), %err, "the memory of signatures cannot be written");
    }
    memory.len()
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
        let store = crate::store::testing::open(&folder);
        {
            let trust = Arc::new(Trust::new(policy.clone()));
            let _keeper = TrustKeeper::start(Arc::clone(&trust), store.clone(), &Vitals::default()).unwrap();
            assert_eq!(ask(&trust, &new), Ok(true));
        }
        let trust = Arc::new(Trust::new(policy.clone()));
        let keeper = TrustKeeper::start(Arc::clone(&trust), store.clone(), &Vitals::default()).unwrap();
        assert_eq!(ask(&trust, &old), Err(TrustDrop::Replayed));
        drop(keeper);
        // A damaged file costs the memory and nothing else.
        std::fs::write(store.path().join(FILE), "?").unwrap();
        let trust = Arc::new(Trust::new(policy));
        drop(TrustKeeper::start(Arc::clone(&trust), store.clone(), &Vitals::default()).unwrap());
        assert_eq!(ask(&trust, &old), Ok(true));
    }

    #[test]
    fn versions_are_written_sooner_where_that_costs_little() {
        for (bytes, looks) in [(0, 30), (12_000, 30), (40_000, 100), (240_000, 600), (usize::MAX, 600)] {
            assert_eq!(looks_between(bytes), looks);
        }
    }

    #[test]
    fn what_no_trusted_key_has_signed_leaves_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::testing::open(&folder);
        let (root, key) = (SecretKey::from_seed(&[1; 32]).public(), SecretKey::from_seed(&[2; 32]).public());
        let fill = || {
            let signer = |root: KeyId| format!("{root} {} tag:a b", key.id()).into();
            for (name, signed_by, came_by) in [
                ("h/signed", Some(signer(root.id())), CameBy::Carousel),
                ("h/foreign", Some(signer(key.id())), CameBy::CarouselRepaired),
                ("h/unsigned", None, CameBy::Carousel),
                ("h/origin", None, CameBy::Origin),
            ] {
                let (frozen, meta) = crate::store::testing::carried(&store, name, b"x");
                store.publish(&frozen, ObjectMeta { signed_by, came_by, ..meta }).unwrap();
            }
        };
        let held =
            || ["h/signed", "h/foreign", "h/unsigned", "h/origin"].map(|name| u8::from(store.contains(name)));
        let trust = Arc::new(Trust::new(Policy { mode: Mode::Off, ..Policy::default() }));
        fill();
        let keeper = TrustKeeper::start(Arc::clone(&trust), store.clone(), &Vitals::default()).unwrap();
        assert_eq!(held(), [1; 4]);
        for (mode, left) in [(Mode::Require, [1, 0, 0, 1]), (Mode::Prefer, [1, 0, 1, 1])] {
            fill();
            trust.configure(Policy { mode, keys: vec![root], ..Policy::default() });
            let end = std::time::Instant::now() + Duration::from_secs(20);
            while held() != left && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(held(), left);
        }
        drop(keeper);
        // At the next start, with a key less.
        let trust = Arc::new(Trust::new(Policy { mode: Mode::Require, ..Policy::default() }));
        drop(TrustKeeper::start(trust, store.clone(), &Vitals::default()).unwrap());
        assert_eq!(held(), [0, 0, 0, 1]);
    }
}
