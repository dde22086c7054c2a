//! The signed index of `.apk` packages, `packages.adb`, in the form that apk-tools 3 reads (OpenWrt from 25.12).
//!
//! ```text
//! "ADB." "indx"
//!     block ADB:  packages: what each says of itself, length of its file, SHA-256 of its block ADB; how files are named
//!     block SIG:  of the operator's key, over schema, head of this block and SHA-512 of the block ADB
//! ```
//!
//! The block ADB of a package has the digest of each of its files, so the index covers their contents too. openssl has the key and signs.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use carousel::digest::Digest;
use sha2::{Digest as _, Sha512};

use super::adb::{self, BLOCK_ADB, BLOCK_SIG, Block, Values, block};

/// Schemas of files.
const PACKAGE: &[u8; 4] = b"pckg";
const INDEX: &[u8; 4] = b"indx";

/// How files of the repository are named, as `apk` expects of packages that are in an index.
const FILE_NAMES: &str = "${name}-${version}_${arch}.apk";

/// Places in what a package says of itself.
const NAME: usize = 1;
const VERSION: usize = 2;
const HASHES: usize = 3;
const ARCHITECTURE: usize = 5;
const FILE_BYTES: usize = 13;

/// SHA-512, as apk-tools number digests.
const SHA_512: u8 = 4;
/// Bytes that name a key.
const KEY_ID_BYTES: usize = 16;

/// The index of packages, each with the name of its file and its bytes, without a signature: the content of its block ADB.
pub(super) fn index(packages: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let mut values = Values::new();
    let mut all = Vec::new();
    for (file, bytes) in packages {
        let wrong = || format!("{file}: no package of apk-tools 3");
        let content = adb::content(bytes, PACKAGE).ok_or_else(wrong)?;
        let from = Block(&content);
        let info = from.root().and_then(|root| from.slots(root)?.first().copied()).ok_or_else(wrong)?;
        let slots = from.slots(info).ok_or_else(wrong)?;
        let text = |slot: usize| {
            let text = slots.get(slot - 1).and_then(|it| from.blob(*it))?;
            String::from_utf8(text.to_vec()).ok()
        };
        let named = [NAME, VERSION, ARCHITECTURE].map(text);
        let [Some(name), Some(version), Some(architecture)] = named else { return Err(wrong()) };
        let expected = format!("{name}-{version}_{architecture}.apk");
        if *file != expected {
            return Err(format!("{file}: apk looks for it as {expected}; rename it"));
        }
        let mut copied: Vec<(usize, u32)> = Vec::new();
        for (at, value) in slots.iter().enumerate() {
            copied.push((at + 1, values.copy(&from, *value).ok_or_else(wrong)?));
        }
        copied.retain(|(slot, _)| ![HASHES, FILE_BYTES].contains(slot));
        copied.push((HASHES, values.blob(&Digest::of(&content).0)));
        copied.push((FILE_BYTES, values.int(bytes.len() as u64)));
        all.push((name, version, architecture, values.object(&copied)));
    }
    all.sort();
    let list: Vec<u32> = all.into_iter().map(|it| it.3).collect();
    let slots = [(2, values.array(&list)), (3, values.text(FILE_NAMES))];
    let root = values.object(&slots);
    Ok(values.finish(root))
}

/// The private key of a repository: a PEM file, which openssl reads.
#[derive(Debug)]
pub(super) struct Key<'a> {
    file: &'a Path,
    id: [u8; KEY_ID_BYTES],
}

impl<'a> Key<'a> {
    pub(super) fn read(file: &'a Path) -> Result<Self, String> {
        let mut command = Command::new("openssl");
        let der = openssl(command.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(file), &[])
            .map_err(|err| {
                format!(
                    "{}: {err}; `openssl ecparam -name prime256v1 -genkey -noout -out FILE` makes a key",
                    file.display()
                )
            })?;
        let public = public_bits(&der).ok_or_else(|| format!("{}: no public key in it", file.display()))?;
        let id = Sha512::digest(public);
        Ok(Self { file, id: std::array::from_fn(|at| id[at]) })
    }

    /// The file `packages.adb` of an index.
    pub(super) fn signed(&self, index: &[u8]) -> Result<Vec<u8>, String> {
        let mut head = vec![0, SHA_512];
        head.extend_from_slice(&self.id);
        let message = [&INDEX[..], &head, Sha512::digest(index).as_slice()].concat();
        let mut command = Command::new("openssl");
        let signature = openssl(command.args(["dgst", "-sha512", "-sign"]).arg(self.file), &message)?;
        let mut file = b"ADB.".to_vec();
        file.extend_from_slice(INDEX);
        block(&mut file, BLOCK_ADB, &[index]);
        block(&mut file, BLOCK_SIG, &[&head, &signature]);
        Ok(adb::compressed(&file))
    }
}

/// Output of openssl for `input`.
fn openssl(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|err| format!("openssl: {err}; apt-get install openssl"))?;
    // It has read all before it answers, and one that does not read says why.
    if let Some(mut to) = child.stdin.take() {
        let _ = to.write_all(input);
    }
    let output = child.wait_with_output().map_err(|err| format!("openssl: {err}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("openssl: {}", said.lines().next().unwrap_or_default().trim()))
}

/// The key in a SubjectPublicKeyInfo: SEQUENCE { algorithm, BIT STRING }.
fn public_bits(der: &[u8]) -> Option<&[u8]> {
    let (tag, sequence, _) = element(der)?;
    let (_, _, rest) = element(sequence).filter(|_| tag == 0x30)?;
    let (tag, bits, _) = element(rest)?;
    // The first byte says how many bits of the last are unused.
    bits.strip_prefix(&[0]).filter(|_| tag == 3)
}

/// An element of DER: tag, content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
