//! Writer of `.apk` packages for apk-tools 3 (OpenWrt from 25.12), as apk-v3(5) describes them. No tool in the package
//! registries writes this format.
//!
//! ```text
//! "ADBd" deflate( "ADB." "pckg"
//!     block ADB:  header, then values: a tag word each, pointing backwards at what does not fit it
//!     block DATA: number of the folder, number of the file, its bytes        (one for each file that has any)
//! )
//! ```
//!
//! Left out: signatures. The operator of a repository signs its index with keys of their own (`apk mkndx --sign-key`); a
//! single package is installed with `apk add --allow-untrusted`.

use std::collections::BTreeMap;
use std::io::Write as _;

use carousel::digest::Digest;

use super::Release;
use super::package::{HOMEPAGE, LICENSE, MAINTAINER, Package};
use super::tree::{Node, Tree};

/// Types of values, in the four high bits of their tag.
const INT: u32 = 0x1000_0000;
const INT_32: u32 = 0x2000_0000;
const INT_64: u32 = 0x3000_0000;
const BLOB_8: u32 = 0x8000_0000;
const BLOB_16: u32 = 0x9000_0000;
const BLOB_32: u32 = 0xa000_0000;
const ARRAY: u32 = 0xd000_0000;
const OBJECT: u32 = 0xe000_0000;
const NULL: u32 = 0;

/// Types of blocks, in the two high bits of their size.
const BLOCK_ADB: u32 = 0;
const BLOCK_DATA: u32 = 2;

/// Bytes of a package's identity.
const ID_BYTES: usize = 20;

/// Writes `openwrt/NAME_VERSION_ARCH.apk`.
pub(crate) fn write(release: &Release, package: &Package) -> Result<(), String> {
    let Package { name, version, architecture, .. } = package;
    release.write(&format!("openwrt/{name}-{version}_{architecture}.apk"), &bytes(release, package))
}

/// Values as they are written: each where the one before ends, aligned, the same one once.
#[derive(Debug)]
struct Values {
    bytes: Vec<u8>,
    written: BTreeMap<(usize, Vec<u8>), u32>,
}

impl Values {
    /// Eight bytes of header: versions, and the root, which is known last.
    fn new() -> Self {
        Self { bytes: vec![0; 8], written: BTreeMap::new() }
    }

    fn place(&mut self, bytes: &[u8], align: usize) -> u32 {
        if let Some(&at) = self.written.get(&(align, bytes.to_vec())) {
            return at;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        let at = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(bytes);
        self.written.insert((align, bytes.to_vec()), at);
        at
    }

    fn int(&mut self, value: u64) -> u32 {
        match u32::try_from(value) {
            Ok(small @ 0..0x1000_0000) => INT | small,
            Ok(value) => INT_32 | self.place(&value.to_le_bytes(), 4),
            Err(_) => INT_64 | self.place(&value.to_le_bytes(), 4),
        }
    }

    fn blob(&mut self, value: &[u8]) -> u32 {
        let (kind, length, align) = match value.len() {
            0 => return NULL,
            n @ 1..=0xff => (BLOB_8, vec![n as u8], 1),
            n @ 0x100..=0xffff => (BLOB_16, (n as u16).to_le_bytes().to_vec(), 2),
            n => (BLOB_32, u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes().to_vec(), 4),
        };
        kind | self.place(&[&length, value].concat(), align)
    }

    fn text(&mut self, value: &str) -> u32 {
        self.blob(value.as_bytes())
    }

    /// Slots by number from 1; what is left out between them is null.
    fn object(&mut self, slots: &[(usize, u32)]) -> u32 {
        let last = slots.iter().filter(|(_, value)| *value != NULL).map(|(slot, _)| *slot).max().unwrap_or(0);
        let mut values = vec![NULL; last];
        for (slot, value) in slots.iter().filter(|(slot, _)| *slot <= last) {
            values[slot - 1] = *value;
        }
        self.slots(OBJECT, &values)
    }

    fn array(&mut self, values: &[u32]) -> u32 {
        self.slots(ARRAY, values)
    }

    fn slots(&mut self, kind: u32, values: &[u32]) -> u32 {
        if values.is_empty() {
            return NULL;
        }
        let count = u32::try_from(values.len() + 1).unwrap_or(u32::MAX);
        let words: Vec<u8> =
            std::iter::once(&count).chain(values).flat_map(|word| word.to_le_bytes()).collect();
        kind | self.place(&words, 4)
    }

    /// Names with relations, `name` or `name>=version`; only names are needed here.
    fn dependencies(&mut self, names: &[String]) -> u32 {
        let mut sorted = names.to_vec();
        sorted.sort();
        let each: Vec<u32> = sorted
            .iter()
            .map(|name| {
                let name = self.text(name);
                self.object(&[(1, name)])
            })
            .collect();
        self.array(&each)
    }
}

/// A folder with the files that lie in it.
#[derive(Debug, Default)]
struct Folder<'a> {
    mode: u32,
    files: Vec<(&'a str, u32, &'a [u8])>,
}

/// In the order of their names, the root first.
fn folders(tree: &Tree) -> BTreeMap<&str, Folder<'_>> {
    let mut folders = BTreeMap::from([("", Folder { mode: 0o755, files: Vec::new() })]);
    for (path, entry) in tree.iter() {
        match &entry.node {
            Node::Folder => folders.entry(path).or_default().mode = entry.mode,
            Node::File(bytes) => {
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                folders.entry(folder).or_default().files.push((name, entry.mode, bytes));
            }
        }
    }
    folders
}

fn bytes(release: &Release, package: &Package) -> Vec<u8> {
    let mut tree = package.tree.clone();
    // What OpenWrt's scripts look up: which init scripts there are to enable, and what an upgrade of the system keeps.
    let paths: String = package.tree.files().map(|(path, _)| format!("/{path}\n")).collect();
    let kept: String = package.conffiles.iter().map(|path| format!("{path}\n")).collect();
    let about = |kind: &str| format!("lib/apk/packages/{}.{kind}", package.name);
    tree.add_file(&about("list"), 0o644, paths);
    tree.add_file(&about("conffiles"), 0o644, kept);
    tree.add_file(&about("rusers"), 0o644, "skycache:skycache\n");

    let mut values = Values::new();
    let folders = folders(&tree);
    let info = info(&mut values, release, package, &tree);
    let paths = paths_of(&mut values, &folders, release.epoch_s);
    let scripts = scripts(&mut values, package);
    let root = values.object(&[(1, info), (2, paths), (3, scripts)]);
    let mut adb = values.bytes;
    adb[4..8].copy_from_slice(&root.to_le_bytes());
    // The identity is the digest of everything else, its own place being zero.
    let id = Digest::of(&adb).0;
    if let Some(at) =
        adb.windows(ID_BYTES + 1).position(|it| it[0] as usize == ID_BYTES && it[1..].iter().all(|b| *b == 0))
    {
        adb[at + 1..=at + ID_BYTES].copy_from_slice(&id[..ID_BYTES]);
    }

    let mut file = b"ADB.pckg".to_vec();
    block(&mut file, BLOCK_ADB, &[&adb]);
    let place = |at: usize| u32::try_from(at + 1).unwrap_or(u32::MAX).to_le_bytes();
    for (number, folder) in folders.values().enumerate() {
        for (at, (_, _, bytes)) in folder.files.iter().enumerate().filter(|(_, file)| !file.2.is_empty()) {
            block(&mut file, BLOCK_DATA, &[&place(number), &place(at), bytes]);
        }
    }
    let mut out = b"ADBd".to_vec();
    let mut encoder = flate2::write::DeflateEncoder::new(&mut out, flate2::Compression::best());
    // Writing to memory does not fail.
    let _ = encoder.write_all(&file);
    let _ = encoder.finish();
    out
}

/// A block, and what fills it up to eight bytes.
fn block(file: &mut Vec<u8>, kind: u32, parts: &[&[u8]]) {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    file.extend_from_slice(&(kind << 30 | u32::try_from(length).unwrap_or(u32::MAX)).to_le_bytes());
    for part in parts {
        file.extend_from_slice(part);
    }
    file.resize(file.len().next_multiple_of(8), 0);
}

fn info(values: &mut Values, release: &Release, package: &Package, tree: &Tree) -> u32 {
    let slots = [
        (1, values.text(package.name)),
        (2, values.text(&package.version)),
        (3, values.blob(&[0; ID_BYTES])),
        (4, values.text(package.summary)),
        (5, values.text(&package.architecture)),
        (6, values.text(LICENSE)),
        (7, values.text("skycache")),
        (8, values.text(MAINTAINER)),
        (9, values.text(HOMEPAGE)),
        (11, values.int(release.epoch_s)),
        (12, values.int(tree.bytes())),
        (15, values.dependencies(&package.depends)),
    ];
    values.object(&slots)
}

fn paths_of(values: &mut Values, folders: &BTreeMap<&str, Folder<'_>>, epoch_s: u64) -> u32 {
    let mut all = Vec::new();
    for (path, folder) in folders {
        let mut list = Vec::new();
        for (name, mode, bytes) in &folder.files {
            let slots = [
                (1, values.text(name)),
                (2, owner(values, *mode)),
                (3, values.int(bytes.len() as u64)),
                (4, values.int(epoch_s)),
                (5, values.blob(&Digest::of(bytes).0)),
            ];
            list.push(values.object(&slots));
        }
        let slots = [(1, values.text(path)), (2, owner(values, folder.mode)), (3, values.array(&list))];
        all.push(values.object(&slots));
    }
    values.array(&all)
}

/// Mode, user, group.
fn owner(values: &mut Values, mode: u32) -> u32 {
    let root = values.text("root");
    let mode = values.int(u64::from(mode & 0o7777));
    values.object(&[(1, mode), (2, root), (3, root)])
}

fn scripts(values: &mut Values, package: &Package) -> u32 {
    let text = |name: &str| package.scripts.iter().find(|it| it.0 == name).map_or("", |it| it.1.as_str());
    // What OpenWrt's scripts go by: an upgrade enables nothing that has been disabled.
    let upgrade = text("postinst").replacen("#!/bin/sh\n", "#!/bin/sh\nexport PKG_UPGRADE=1\n", 1);
    let slots = [
        (3, values.text(text("postinst"))),
        (4, values.text(text("prerm"))),
        (5, values.text(text("postrm"))),
        (7, values.text(&upgrade)),
    ];
    values.object(&slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_tagged_words_that_point_backwards() {
        let mut values = Values::new();
        assert_eq!(values.int(7), 0x1000_0007);
        assert_eq!(values.int(0x1000_0000), 0x2000_0008);
        assert_eq!(values.text(""), NULL);
        let text = values.text("ab");
        assert_eq!((text, &values.bytes[12..15]), (0x8000_000c, &b"\x02ab"[..]));
        assert_eq!(values.text("ab"), text, "the same once");
        let object = values.object(&[(1, text), (3, NULL)]);
        assert_eq!(object, 0xe000_0010);
        assert_eq!(values.bytes[16..], [2, 0, 0, 0, 0x0c, 0, 0, 0x80]);
        assert_eq!((values.object(&[(1, NULL)]), values.array(&[])), (NULL, NULL));
    }

    #[test]
    fn blocks_end_on_eight_bytes() {
        let mut file = Vec::new();
        block(&mut file, BLOCK_DATA, &[b"abc", b"de"]);
        assert_eq!(file, *b"\x09\x00\x00\x80abcde\0\0\0\0\0\0\0");
    }
}
