//! An object carousel laid out as OpenCaster's `oc-update` lays it out: directories and files mixed in modules as they fill,
//! object keys of four bytes, blocks of 4,066 bytes, no compression, transaction identifiers with the version in front.

use std::collections::BTreeMap;

use carousel::dsmcc::delivery::{Event, InMemory};
use carousel::dsmcc::{BLOCK_BYTES, Receiver};
use carousel::ts::Section;
use carousel::ts::section::crc32;

const CAROUSEL_ID: u32 = 7;
const ASSOCIATION_TAG: u16 = 0x0b;
const VERSION: u8 = 5;
/// Bytes of a module after which the next one begins.
const MODULE_BYTES: usize = 20_000;

/// Big-endian bytes of fields, one after the other.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// An object: its kind, its module and its key.
#[derive(Clone, Copy)]
struct Place {
    kind: &'static [u8; 4],
    module: u16,
    key: u32,
}

/// Transaction identifier: originated by the network, version, identification.
fn transaction(identification: u16) -> u32 {
    0x8000_0000 | u32::from(VERSION) << 16 | u32::from(identification)
}

/// IOR with one profile: location, and a connection binder with a tap to the DII.
fn ior(place: Place) -> Vec<u8> {
    let location = Bytes::default().u32(CAROUSEL_ID).u16(place.module).u8(1).u8(0).u8(4).u32(place.key).0;
    let tap = Bytes::default()
        .u8(1)
        .u16(0)
        .u16(0x16)
        .u16(ASSOCIATION_TAG)
        .u8(10)
        .u16(1)
        .u32(transaction(2))
        .u32(u32::MAX)
        .0;
    let profile = Bytes::default()
        .u8(0)
        .u8(2)
        .u32(0x4953_4f50)
        .u8(location.len() as u8)
        .raw(&location)
        .u32(0x4953_4f40)
        .u8(tap.len() as u8)
        .raw(&tap)
        .0;
    Bytes::default().u32(4).raw(place.kind).u32(1).u32(0x4953_4f06).u32(profile.len() as u32).raw(&profile).0
}

/// A BIOP message: header, kind, object info, and a body behind an empty list of service contexts.
fn biop(place: Place, info: &[u8], body: &[u8]) -> Vec<u8> {
    let rest = Bytes::default()
        .u8(4)
        .u32(place.key)
        .u32(4)
        .raw(place.kind)
        .u16(info.len() as u16)
        .raw(info)
        .u8(0)
        .u32(body.len() as u32)
        .raw(body)
        .0;
    Bytes::default().raw(b"BIOP").u8(1).u8(0).u8(0).u8(0).u32(rest.len() as u32).raw(&rest).0
}

/// Bindings of a directory: name with its zero, kind, IOR, and a file's size as object info.
fn directory(place: Place, bindings: &[(String, Place, u64)]) -> Vec<u8> {
    let mut body = Bytes::default().u16(bindings.len() as u16);
    for (name, target, size) in bindings {
        let is_file = target.kind == b"fil\0";
        body = body.u8(1).u8(name.len() as u8 + 1).raw(name.as_bytes()).u8(0).u8(4).raw(target.kind);
        body = body.u8(if is_file { 1 } else { 2 }).raw(&ior(*target));
        body = if is_file { body.u16(8).raw(&size.to_be_bytes()) } else { body.u16(0) };
    }
    biop(place, &[], &body.0)
}

/// A section of DSM-CC with its CRC_32. `header` is the message's `messageId` and transaction or download identifier.
fn section(table_id: u8, extension: u16, number: u8, header: (u16, u32), message: &[u8]) -> Vec<u8> {
    let body = Bytes::default()
        .u8(0x11)
        .u8(3)
        .u16(header.0)
        .u32(header.1)
        .u8(0xff)
        .u8(0)
        .u16(message.len() as u16)
        .raw(message)
        .0;
    let length = 5 + body.len() + 4;
    let mut out = Bytes::default()
        .u8(table_id)
        .u16(0xb000 | length as u16)
        .u16(extension)
        .u8(0xc0 | VERSION << 1 | 1)
        .u8(number)
        .u8(number)
        .raw(&body)
        .0;
    out.extend_from_slice(&crc32(&out).to_be_bytes());
    out
}

/// One pass of a carousel with these files, at most one folder deep.
fn one_pass(files: &BTreeMap<&str, Vec<u8>>) -> Vec<Vec<u8>> {
    let mut modules: Vec<Vec<u8>> = vec![Vec::new()];
    let mut next_key = 1;
    let mut root = Vec::new();
    let mut folders: BTreeMap<&str, Vec<(String, Place, u64)>> = BTreeMap::new();
    let mut messages = Vec::new();
    for (path, bytes) in files {
        if modules.last().is_some_and(|module| module.len() > MODULE_BYTES) {
            modules.push(Vec::new());
        }
        let place = Place { kind: b"fil\0", module: modules.len() as u16 + 1, key: next_key };
        next_key += 1;
        let content = Bytes::default().u32(bytes.len() as u32).raw(bytes).0;
        let info = (bytes.len() as u64).to_be_bytes();
        if let Some(module) = modules.last_mut() {
            module.extend(biop(place, &info, &content));
        }
        match path.split_once('/') {
            Some((folder, name)) => {
                folders.entry(folder).or_default().push((name.to_owned(), place, bytes.len() as u64));
            }
            None => root.push(((*path).to_owned(), place, bytes.len() as u64)),
        }
    }
    // Directories are in module 1, the gateway first.
    for (name, bindings) in &folders {
        let place = Place { kind: b"dir\0", module: 1, key: next_key };
        next_key += 1;
        root.push(((*name).to_owned(), place, 0));
        messages.extend(directory(place, bindings));
    }
    let gateway = Place { kind: b"srg\0", module: 1, key: 0 };
    modules.insert(0, [directory(gateway, &root), messages].concat());

    let reference = Bytes::default().raw(&ior(gateway)).u8(0).u8(0).u16(0).0;
    let initiate = Bytes::default().raw(&[0xff; 20]).u16(0).u16(reference.len() as u16).raw(&reference).0;
    let mut info = Bytes::default().u32(CAROUSEL_ID).u16(BLOCK_BYTES).u8(0).u8(0).u32(0).u32(0).u16(0);
    info = info.u16(modules.len() as u16);
    for (at, module) in modules.iter().enumerate() {
        let tap = Bytes::default().u8(1).u16(0).u16(0x17).u16(ASSOCIATION_TAG).u8(0);
        let about = Bytes::default().u32(u32::MAX).u32(u32::MAX).u32(1).raw(&tap.0).u8(0).0;
        info = info.u16(at as u16 + 1).u32(module.len() as u32).u8(VERSION).u8(about.len() as u8).raw(&about);
    }
    let info = info.u16(0).0;
    let mut sections = vec![
        section(0x3b, 0, 0, (0x1006, transaction(0)), &initiate),
        section(0x3b, 2, 0, (0x1002, transaction(2)), &info),
    ];
    for (at, module) in modules.iter().enumerate() {
        let id = at as u16 + 1;
        for (number, data) in module.chunks(usize::from(BLOCK_BYTES)).enumerate() {
            let block = Bytes::default().u16(id).u8(VERSION).u8(0xff).u16(number as u16).raw(data).0;
            sections.push(section(0x3c, id, number as u8, (0x1003, CAROUSEL_ID), &block));
        }
    }
    sections
}

/// Paths and contents, in order of the paths, and the receiver's drops.
fn receive<'a>(sections: impl IntoIterator<Item = &'a Vec<u8>>) -> (BTreeMap<String, Vec<u8>>, u64) {
    let mut receiver = Receiver::<InMemory>::default();
    let mut files = BTreeMap::new();
    for bytes in sections {
        receiver.section(&Section::parse(bytes).expect("a section"), &mut InMemory);
        while let Some(event) = receiver.poll_event() {
            if let Event::File(file) = event {
                let bytes = file.pieces.iter().flat_map(|piece| piece.bytes().to_vec()).collect();
                assert!(files.insert(file.path().to_owned(), bytes).is_none(), "once");
            }
        }
    }
    (files, receiver.dropped().map(|(_, count)| count).sum())
}

fn files() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        ("a-name-with.many.dots_and-dashes.js", b"run();".to_vec()),
        ("data.json", (0..13_893_u32).map(|at| (at * 7) as u8).collect()),
        ("img/logo.png", vec![0x89; 30_000]),
        ("img/small.png", vec![1; 10]),
        ("index.html", b"<html></html>".to_vec()),
        ("empty.txt", Vec::new()),
    ])
}

fn expected() -> BTreeMap<String, Vec<u8>> {
    files().into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect()
}

#[test]
fn every_file_comes_byte_for_byte_in_one_pass() {
    assert_eq!(receive(&one_pass(&files())), (expected(), 0));
}

#[test]
fn blocks_before_their_dii_and_lost_ones_come_with_the_next_pass() {
    let pass = one_pass(&files());
    let reversed: Vec<Vec<u8>> = pass.iter().rev().cloned().collect();
    assert_eq!(receive(&reversed).0, expected());
    let lossy = pass.iter().enumerate().filter(|(at, _)| at % 3 != 2).map(|(_, section)| section);
    assert!(receive(lossy.clone()).0.len() < expected().len());
    assert_eq!(receive(lossy.chain(&pass)).0, expected());
}
