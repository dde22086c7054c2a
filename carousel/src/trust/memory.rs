//! The memory of [`Trust`] as text, for a file that survives restarts.
//!
//! ```text
//! skycache-trust 1
//! root ed25519:… confirmed 0 1795219200      how it came, epoch and time of its latest document
//! revoked …                                  its revocation list
//! stream 0 1795219200000 239.1.1.1:5000/7    epoch and version of its floor, name
//! page 1 0 1795219200123 2cf24d…             page, epoch, version, digest
//! ```

use std::fmt::Write as _;

use super::keys::{PublicKey, RevocationList};
use super::verifier::{
    MAX_PAGES, MAX_ROOTS, MAX_STREAMS, PageMemory, RootMemory, State, StreamMemory, Trust,
};
use crate::digest::Digest;

const HEAD: &str = "skycache-trust 1";

impl Trust {
    /// Text of the memory, for [`Self::recall`].
    pub fn memory(&self) -> String {
        let state = self.state();
        let mut out = format!("{HEAD}\n");
        for root in state.roots.values() {
            let how = match root.enrolled {
                None => "pinned",
                Some(false) => "enrolled",
                Some(true) => "confirmed",
            };
            let _ = writeln!(out, "root {} {how} {} {}", root.key, root.latest.0, root.latest.1);
            if let Some(list) = &root.revocations {
                let _ = writeln!(out, "revoked {}", list.to_text());
            }
            for (name, stream) in &root.streams {
                let _ = writeln!(out, "stream {} {} {name}", stream.floor.0, stream.floor.1);
                for (page, it) in &stream.pages {
                    let _ = writeln!(out, "page {page} {} {} {}", it.order.0, it.order.1, it.digest.to_hex());
                }
            }
        }
        out
    }

    /// Restores the output of `memory`; skips lines that cannot be read. Call it before the first document. False if the
    /// text is not such output.
    pub fn recall(&self, text: &str) -> bool {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return false;
        }
        let mut state = self.state();
        let mut root = None;
        let mut stream = None;
        for line in lines {
            // An unreadable line does not affect the others.
            let _ = state.recall(line, &mut root, &mut stream);
        }
        true
    }
}

impl State {
    fn recall(
        &mut self,
        line: &str,
        root: &mut Option<super::KeyId>,
        stream: &mut Option<String>,
    ) -> Option<()> {
        let (word, rest) = line.split_once(' ')?;
        if word == "root" {
            (*root, *stream) = (None, None);
            let mut fields = rest.split(' ');
            let key = PublicKey::from_text(fields.next()?)?;
            let enrolled = match fields.next()? {
                "enrolled" => Some(false),
                "confirmed" => Some(true),
                _ => None,
            };
            let latest = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            if self.roots.len() >= MAX_ROOTS && !self.roots.contains_key(&key.id()) {
                return None;
            }
            let memory = self.roots.entry(key.id()).or_insert_with(|| RootMemory::new(key));
            (memory.enrolled, memory.latest) = (enrolled, latest);
            *root = Some(key.id());
            return Some(());
        }
        let memory = self.roots.get_mut(&(*root)?)?;
        match word {
            "revoked" => {
                memory.take_over(&RevocationList::from_text(rest)?);
            }
            "stream" => {
                *stream = None;
                let mut fields = rest.splitn(3, ' ');
                let floor = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
                let name = fields.next()?.to_owned();
                if memory.streams.len() < MAX_STREAMS {
                    memory.streams.insert(name.clone(), StreamMemory { floor, ..StreamMemory::default() });
                    *stream = Some(name);
                }
            }
            "page" => {
                let pages = &mut memory.streams.get_mut(stream.as_ref()?)?.pages;
                let mut fields = rest.split(' ');
                let page = fields.next()?.parse().ok()?;
                let order = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
                let digest = Digest::from_hex(fields.next()?)?;
                if pages.len() < MAX_PAGES {
                    // Its signature is verified once more after a start.
                    pages.insert(page, PageMemory { order, digest, key: None, verified: None, heard: 0 });
                }
            }
            _ => return None,
        }
        Some(())
    }
}
