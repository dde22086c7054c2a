//! Signed list of the contents of a carousel.
//!
//! It is sent in private sections on the carousel's own PID (ISO/IEC 13818-1 clause 2.4.4.10), with a table_id that other
//! receivers do not filter for. Three levels cover everything: the list has the digests of DSI and DIIs, and of the modules with
//! directories; a directory has the digest of each file. So no byte is added to messages or modules.
//!
//! | bytes | what |
//! |---|---|
//! | 5 | `SKYM` and the format, 1 |
//! | 32 | SHA-256 of the DSI, from protocolDiscriminator on |
//! | 2 + 32 each | DIIs, likewise |
//! | 2 + 35 each | modules with directories: moduleId, moduleVersion, SHA-256 of the module before compression |

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::build::{Builder, Inside};
use crate::bytes::{Reader, WireError, Writer};
use crate::digest::Digest;
use crate::limits;
use crate::ts::Section;
use crate::ts::section::SectionHead;

/// table_id of the list's sections, from the user private range of ISO/IEC 13818-1.
pub const TABLE_SIGNED: u8 = 0xdc;
const MAGIC: &[u8; 5] = b"SKYM\x01";
/// Bytes of the document in one section.
const SECTION_BYTES: usize = 4000;

limits! {
    /// Sections of one list.
    const MAX_LIST_SECTIONS: usize = 16, "sections" {
        why: "64,000 bytes: 1,800 DIIs and modules with directories, for some 500,000 objects.",
        full: "Sections with a higher last_section_number are skipped; the headend refuses to sign a longer list.",
        free: "Holds for one list.",
        test: "a_list_of_several_sections_is_put_together_between_others",
    }
    /// Lists of several sections that are put together at a time, for each carousel.
    const MAX_LISTS_OPEN: usize = 4, "lists" {
        why: "A sender has one, and a newer one while it changes.",
        full: "The one that was begun first makes room.",
        free: "When a list is complete.",
        test: "a_list_of_several_sections_is_put_together_between_others",
    }
}

/// The list without its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedList {
    initiate: Digest,
    infos: BTreeSet<Digest>,
    directories: BTreeMap<(u16, u8), Digest>,
}

impl SignedList {
    /// Reads a list: all of `bytes`.
    ///
    /// # Errors
    /// If the bytes are not a list.
    pub fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len(), "list of modules")? != MAGIC {
            return Err(WireError::Unsupported { what: "list of modules", value: 0 });
        }
        let initiate = Digest(reader.array("DSI")?);
        let (mut infos, mut directories) = (BTreeSet::new(), BTreeMap::new());
        for _ in 0..reader.u16("number of DIIs")? {
            infos.insert(Digest(reader.array("DII")?));
        }
        for _ in 0..reader.u16("number of directories")? {
            let module = (reader.u16("moduleId")?, reader.u8("moduleVersion")?);
            directories.insert(module, Digest(reader.array("directories")?));
        }
        if reader.remaining() > 0 {
            let value = reader.remaining() as u64;
            return Err(WireError::Illegal {
                what: "bytes behind the list",
                value,
                clause: "list of modules",
            });
        }
        Ok(Self { initiate, infos, directories })
    }

    /// The list as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        Writer::new(&mut out).bytes(&self.initiate.0).u16(self.infos.len() as u16);
        for info in &self.infos {
            out.extend_from_slice(&info.0);
        }
        Writer::new(&mut out).u16(self.directories.len() as u16);
        for (&(id, version), digest) in &self.directories {
            Writer::new(&mut out).u16(id).u8(version).bytes(&digest.0);
        }
        out
    }

    /// Whether it names the DSI of this digest.
    pub(super) fn has_initiate(&self, digest: &Digest) -> bool {
        self.initiate == *digest
    }

    /// Whether it names the DII of this digest.
    pub(super) fn has_info(&self, digest: &Digest) -> bool {
        self.infos.contains(digest)
    }

    /// The digest of a module with directories; `None`: it may have none.
    pub(super) fn directories(&self, id: u16, version: u8) -> Option<Digest> {
        self.directories.get(&(id, version)).copied()
    }
}

impl Builder {
    /// The list of the current contents. Call it after [`Builder::commit`].
    ///
    /// # Errors
    /// As [`Builder::write_initiate`].
    pub fn signed_list(&self) -> Result<SignedList, WireError> {
        let digest = |section: &[u8]| {
            let section =
                Section::parse(section).map_err(|_| WireError::Unsupported { what: "section", value: 0 })?;
            Ok::<_, WireError>(Digest::of(section.body))
        };
        let mut section = Vec::new();
        self.write_initiate(&mut section)?;
        let (initiate, mut infos) = (digest(&section)?, BTreeSet::new());
        for group in self.infos() {
            section.clear();
            self.write_info(group, &mut section)?;
            infos.insert(digest(&section)?);
        }
        let directories = self.modules.iter().filter(|(_, it)| matches!(it.inside, Inside::Directories(_)));
        let directories = directories.filter_map(|(id, it)| Some(((*id, it.version), it.digest?)));
        Ok(SignedList { initiate, infos, directories: directories.collect() })
    }
}

/// Sections of a sealed list.
///
/// # Errors
/// If it is longer than [`MAX_LIST_SECTIONS`] hold.
pub fn write_sections(document: &[u8]) -> Result<Vec<Vec<u8>>, WireError> {
    let pieces: Vec<&[u8]> = document.chunks(SECTION_BYTES).collect();
    if pieces.len() > MAX_LIST_SECTIONS {
        let value = document.len() as u64;
        return Err(WireError::Illegal { what: "signed list", value, clause: "MAX_LIST_SECTIONS" });
    }
    // Digest by which two lists whose sections are interleaved are distinguished.
    let Digest([high, low, version, ..]) = Digest::of(document);
    let piece = |(number, piece): (usize, &&[u8])| {
        let head = SectionHead {
            table_id: TABLE_SIGNED,
            private: false,
            extension: u16::from_be_bytes([high, low]),
            version: version & 0x1f,
            number: number as u8,
            last_number: (pieces.len() - 1) as u8,
        };
        let mut out = Vec::new();
        head.write(&mut out, |out| {
            out.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(out)
    };
    pieces.iter().enumerate().map(piece).collect()
}

#[derive(Debug)]
struct Open {
    list: (u16, u8, u8),
    pieces: Vec<Option<Vec<u8>>>,
}

/// Assembler of lists from sections.
#[derive(Debug, Default)]
pub struct ListAssembler(VecDeque<Open>);

impl ListAssembler {
    /// Adds a section; returns the document that it completes.
    pub fn push(&mut self, section: &Section<'_>) -> Option<Vec<u8>> {
        let (number, count) = (usize::from(section.number), usize::from(section.last_number) + 1);
        if section.table_id != TABLE_SIGNED || number >= count || count > MAX_LIST_SECTIONS {
            return None;
        }
        if count == 1 {
            return Some(section.body.to_vec());
        }
        let list = (section.extension, section.version, section.last_number);
        let at = self.0.iter().position(|it| it.list == list).unwrap_or_else(|| {
            if self.0.len() >= MAX_LISTS_OPEN {
                self.0.pop_front();
            }
            self.0.push_back(Open { list, pieces: vec![None; count] });
            self.0.len() - 1
        });
        let open = self.0.get_mut(at)?;
        open.pieces[number] = Some(section.body.to_vec());
        if open.pieces.iter().any(Option::is_none) {
            return None;
        }
        let open = self.0.remove(at)?;
        Some(open.pieces.into_iter().flatten().flatten().collect())
    }
}

#[cfg(test)]
#[path = "signed_tests.rs"]
mod tests;
