use super::*;
use crate::dsmcc::build::Builder;
use crate::dsmcc::delivery::InMemory;
use crate::dsmcc::describe::{Description, Part};
use crate::dsmcc::message::DownloadInfo;
use crate::dsmcc::profile::{Carried, Profile, Shape};
use crate::limits::{MAX_CAROUSEL_NAMES, MAX_MODULES_HELD_BYTES};
use crate::ts::{Demux, Pid, stream::Packets};

pub(in crate::dsmcc) type MemoryReceiver = Receiver<InMemory>;

fn files(receiver: &mut MemoryReceiver) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    while let Some(event) = receiver.poll_event() {
        if let Event::File(file) = event {
            out.push((
                file.path().to_owned(),
                file.pieces.iter().flat_map(|it| it.bytes().to_vec()).collect(),
            ));
        }
    }
    out
}

/// Paths with their content of an object carousel of another sender.
fn foreign(name: &str, pid: u16) -> Option<Vec<(String, Vec<u8>)>> {
    let path = format!("{}/../../shared/captures/dsmcc/{name}", env!("CARGO_MANIFEST_DIR"));
    let Ok(bytes) = std::fs::read(path) else {
        eprintln!("SKIPPED: ../shared/captures is absent");
        return None;
    };
    let mut demux = Demux::default();
    demux.open(Pid::new(pid));
    let mut receiver = MemoryReceiver::default();
    for packet in Packets::new(&bytes).unwrap() {
        demux.push(packet, |_, section| {
            if let Ok(section) = section {
                receiver.section(&section, &mut InMemory);
            }
        });
    }
    assert!(receiver.dropped().all(|(_, count)| count == 0), "{:?}", receiver.dropped().collect::<Vec<_>>());
    Some(files(&mut receiver))
}

#[test]
fn every_file_of_another_implementation_s_carousel_comes_byte_for_byte() {
    for name in ["app_c0.ts", "app_c0_psi_3loops.ts"] {
        let Some(mut received) = foreign(name, 2003) else { return };
        received.sort();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/captures/dsmcc/files.tsv");
        let table = std::fs::read_to_string(folder).unwrap();
        let mut expected: Vec<(String, String)> = table
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>())
            .filter(|row| row[0] == name)
            .map(|row| (row[4].to_owned(), row[6].to_owned()))
            .collect();
        expected.sort();
        assert!(!expected.is_empty());
        let received: Vec<(String, String)> =
            received.into_iter().map(|(path, bytes)| (path, Digest::of(&bytes).to_hex())).collect();
        assert_eq!(received, expected, "{name}");
    }
}

/// Objects in memory, carried.
pub(in crate::dsmcc) struct Studio {
    pub(in crate::dsmcc) builder: Builder,
    pub(in crate::dsmcc) bodies: BTreeMap<u64, Vec<u8>>,
}

impl Studio {
    pub(in crate::dsmcc) fn new(profile: Profile) -> Self {
        Self { builder: Builder::new(profile), bodies: BTreeMap::new() }
    }

    pub(in crate::dsmcc) fn add(&mut self, uri: &str, body: Vec<u8>) -> u64 {
        let carried = Carried {
            uri: uri.to_owned(),
            content_type: Some("video/mp4".into()),
            digest: Digest::of(&body),
            max_age_s: Some(60),
            length: body.len() as u64,
            is_text: uri.ends_with("mpd"),
            lane: 0,
        };
        let number = self.builder.add(carried).unwrap();
        self.bodies.insert(number, body);
        number
    }

    pub(in crate::dsmcc) fn commit(&mut self) {
        let bodies = &self.bodies;
        self.builder.commit(|number, offset, out| read(bodies, number, offset, out)).unwrap();
    }

    /// One pass: DSI, DIIs, and every block of every module.
    pub(in crate::dsmcc) fn sections(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut put = |write: &mut dyn FnMut(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            all.push(out);
        };
        put(&mut |out| self.builder.write_initiate(out).unwrap());
        for group in self.builder.infos() {
            put(&mut |out| self.builder.write_info(group, out).unwrap());
        }
        let mut fill = |number, offset, out: &mut [u8]| read(&self.bodies, number, offset, out);
        for module in self.builder.modules() {
            let reading = self.builder.read_module(module.id, &mut fill).unwrap().unwrap();
            for number in 0..module.blocks {
                put(&mut |out| {
                    let fill = |number, offset, out: &mut [u8]| read(&self.bodies, number, offset, out);
                    self.builder.write_block(&reading, number as u16, out, fill).unwrap();
                });
            }
        }
        all
    }
}

fn read(
    bodies: &BTreeMap<u64, Vec<u8>>,
    number: u64,
    offset: u64,
    out: &mut [u8],
) -> Result<(), crate::bytes::WireError> {
    let body = &bodies[&number];
    out.copy_from_slice(&body[offset as usize..offset as usize + out.len()]);
    Ok(())
}

pub(in crate::dsmcc) fn body(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| ((at * 31 + at / 251) as u8).wrapping_add(seed)).collect()
}

pub(in crate::dsmcc) fn take(
    receiver: &mut MemoryReceiver,
    sections: &[Vec<u8>],
) -> Vec<CarouselFile<Vec<u8>>> {
    for section in sections {
        receiver.section(&Section::parse(section).unwrap(), &mut InMemory);
    }
    let mut files = Vec::new();
    while let Some(event) = receiver.poll_event() {
        if let Event::File(file) = event {
            files.push(file);
        }
    }
    files
}

fn shuffled(mut sections: Vec<Vec<u8>>, mut seed: u64) -> Vec<Vec<u8>> {
    for at in (1..sections.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        sections.swap(at, (seed >> 33) as usize % (at + 1));
    }
    sections
}

#[test]
fn the_object_model_survives_in_every_shape_and_order() {
    for (shape, most_blocks, block_bytes) in [
        (Shape::Object, 65_536, 4066),
        (Shape::Object, 255, 4066),
        (Shape::Data, 255, 1000),
        (Shape::Object, 255, 1000),
    ] {
        let mut studio = Studio::new(Profile { shape, most_blocks, block_bytes, ..Profile::default() });
        let objects = [
            ("https://cdn.example.com/vod/a.mpd", body(3000, 0).repeat(3)),
            ("https://cdn.example.com/vod/1.m4s", body(400_000, 1)),
            ("http://cdn.example.com/vod/film.mp4", body(1_500_000, 2)),
            ("https://cdn.example.com/vod//odd/../x", body(100, 3)),
            ("https://cdn.example.com/empty", Vec::new()),
        ];
        for (uri, body) in &objects {
            studio.add(uri, body.clone());
        }
        studio.commit();
        for seed in 0..4 {
            let mut receiver = MemoryReceiver::default();
            let files = take(&mut receiver, &shuffled(studio.sections(), seed));
            let mut received: Vec<_> = files
                .iter()
                .map(|file| {
                    let bytes: Vec<u8> = file.pieces.iter().flat_map(|it| it.bytes().to_vec()).collect();
                    assert_eq!(file.description.digest, Some(Digest::of(&bytes)));
                    assert_eq!(file.description.max_age_s, Some(60));
                    assert_eq!(file.description.content_type.as_deref(), Some("video/mp4"));
                    let uri = file.description.uri.clone().unwrap_or_else(|| file.path().to_owned());
                    (uri, bytes)
                })
                .collect();
            received.sort();
            let mut expected: Vec<_> =
                objects.iter().map(|(uri, body)| ((*uri).to_owned(), body.clone())).collect();
            expected.sort();
            assert_eq!(received.len(), expected.len(), "{shape:?} {most_blocks} seed {seed}");
            assert!(received == expected, "{shape:?} {most_blocks} seed {seed}");
        }
    }
}

#[test]
fn losses_cost_passes_and_never_a_wrong_byte() {
    let mut studio = Studio::new(Profile::default());
    for at in 0..40 {
        studio.add(&format!("https://h/{at}.m4s"), body(20_000 + at * 997, at as u8));
    }
    studio.commit();
    let sections = studio.sections();
    let mut receiver = MemoryReceiver::default();
    let (mut state, mut files, mut passes) = (7_u64, 0, 0);
    while files < 40 {
        passes += 1;
        assert!(passes < 20, "seed 7");
        let kept: Vec<_> = sections
            .iter()
            .filter(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                !(state >> 33).is_multiple_of(5)
            })
            .cloned()
            .collect();
        for file in take(&mut receiver, &kept) {
            let bytes: Vec<u8> = file.pieces.iter().flat_map(|it| it.bytes().to_vec()).collect();
            assert_eq!(file.description.digest, Some(Digest::of(&bytes)));
            files += 1;
        }
    }
    assert!(passes > 1);
}

#[test]
fn a_new_version_comes_once_and_the_others_do_not_come_again() {
    let mut studio = Studio::new(Profile::default());
    studio.add("https://h/a.m4s", body(90_000, 0));
    let manifest = studio.add("https://h/live.mpd", body(500, 1));
    studio.commit();
    let mut receiver = MemoryReceiver::default();
    assert_eq!(take(&mut receiver, &studio.sections()).len(), 2);
    assert!(take(&mut receiver, &studio.sections()).is_empty());
    let new = body(600, 2);
    let carried = Carried {
        uri: "https://h/live.mpd".into(),
        content_type: None,
        digest: Digest::of(&new),
        max_age_s: None,
        length: 600,
        is_text: true,
        lane: 0,
    };
    studio.builder.replace(manifest, carried).unwrap();
    studio.bodies.insert(manifest, new.clone());
    studio.commit();
    let files = take(&mut receiver, &studio.sections());
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].path(), files[0].pieces[0].bytes()), ("h/live.mpd", &new[..]));
    receiver.forget_unless(|path| path != "h/a.m4s");
    let again = take(&mut receiver, &studio.sections());
    assert_eq!(again.iter().map(CarouselFile::path).collect::<Vec<_>>(), ["h/a.m4s"]);
}

#[test]
fn what_is_rejected_or_lost_comes_again_with_all_its_parts() {
    for (shape, most_blocks) in [(Shape::Object, 255), (Shape::Data, 255), (Shape::Object, 65_536)] {
        let profile = Profile { shape, most_blocks, block_bytes: 1000, ..Profile::default() };
        let mut studio = Studio::new(profile);
        studio.add("https://h/film.mp4", body(900_000, 2));
        studio.add("https://h/other.mp4", body(90_000, 3));
        studio.commit();
        let mut receiver = MemoryReceiver::default();
        let first = take(&mut receiver, &studio.sections());
        assert_eq!(first.len(), 2, "{shape:?}");
        let film = first.iter().find(|it| it.length() == 900_000).unwrap();
        receiver.reject(film);
        let again = take(&mut receiver, &studio.sections());
        assert_eq!(again.iter().map(CarouselFile::length).collect::<Vec<_>>(), [900_000], "{shape:?}");
        let paths: Vec<String> = again[0].paths.iter().map(ToString::to_string).collect();
        receiver.forget_unless(|path| !paths.iter().any(|it| it == path));
        assert_eq!(take(&mut receiver, &studio.sections()).len(), 1, "{shape:?}");
    }
}

#[test]
fn what_lies_is_counted_and_bounded() {
    let mut receiver = MemoryReceiver::default();
    let count = |receiver: &MemoryReceiver, why| receiver.dropped().find(|(it, _)| *it == why).unwrap().1;
    let module = |id: u16, size: u32, descriptors: Vec<u8>| ModuleInfo {
        id,
        size,
        version: 0,
        is_biop: false,
        descriptors,
    };
    let send = |receiver: &mut MemoryReceiver, identification: u16, modules: Vec<ModuleInfo>| {
        let info = DownloadInfo {
            transaction: TransactionId::new(identification, 0),
            download_id: 7,
            block_size: 100,
            modules,
        };
        let mut out = Vec::new();
        crate::dsmcc::message::write_dii(&mut out, &info, None).unwrap();
        receiver.section(&Section::parse(&out).unwrap(), &mut InMemory);
    };
    let block = |receiver: &mut MemoryReceiver, module_id, number, length: usize| {
        let mut out = Vec::new();
        let block = Block { download_id: 7, module_id, version: 0, number, data: &[] };
        crate::dsmcc::message::write_ddb::<crate::bytes::WireError>(&mut out, &block, length, 9, |_| Ok(()))
            .unwrap();
        receiver.section(&Section::parse(&out).unwrap(), &mut InMemory);
    };
    // Blocks that no DII describes.
    for at in 0..(MAX_EARLY_BLOCK_BYTES / 4000 + 10) {
        block(&mut receiver, 1, at as u16, 4000);
    }
    assert!(count(&receiver, CarouselDrop::EarlyBlock) >= 9 && receiver.early_bytes <= MAX_EARLY_BLOCK_BYTES);
    // Blocks of other lengths and numbers than their module has.
    send(&mut receiver, 1, vec![module(2, 250, vec![])]);
    for (number, length) in [(0, 99), (2, 100), (3, 100), (65_535, 100)] {
        block(&mut receiver, 2, number, length);
    }
    assert_eq!(count(&receiver, CarouselDrop::BlockLength), 4);
    send(&mut receiver, 9, vec![module(4, 65_537 * 100, vec![])]);
    assert_eq!(count(&receiver, CarouselDrop::ModuleSize), 1);
    // A bomb: the DII announces too many bytes, or too few.
    for original in [u32::MAX, 10] {
        let mut descriptors = vec![0x09, 5, 0x78];
        descriptors.extend_from_slice(&original.to_be_bytes());
        send(&mut receiver, 2 + (original & 1) as u16, vec![module(3, 30, descriptors)]);
        block(&mut receiver, 3, 0, 30);
    }
    assert_eq!(count(&receiver, CarouselDrop::Inflate), 2);
    // More modules at a time than may be open.
    for at in 0..=MAX_MODULES_OPEN as u16 {
        send(&mut receiver, 10 + at, vec![module(1000 + at, 200, vec![])]);
        block(&mut receiver, 1000 + at, 0, 100);
    }
    assert!(count(&receiver, CarouselDrop::NoRoom) >= 1 && receiver.open <= MAX_MODULES_OPEN);
    // A wrong CRC of a whole module.
    let mut receiver = MemoryReceiver::default();
    send(&mut receiver, 1, vec![module(1, 5, vec![0x05, 4, 1, 2, 3, 4])]);
    block(&mut receiver, 1, 0, 5);
    assert_eq!(count(&receiver, CarouselDrop::ModuleCrc), 1);
}

fn send_info(receiver: &mut MemoryReceiver, download_id: u32, identification: u16, modules: Vec<ModuleInfo>) {
    let transaction = TransactionId::new(identification, 0);
    let info = DownloadInfo { transaction, download_id, block_size: 100, modules };
    let mut out = Vec::new();
    crate::dsmcc::message::write_dii(&mut out, &info, None).unwrap();
    receiver.section(&Section::parse(&out).unwrap(), &mut InMemory);
}

fn send_block(receiver: &mut MemoryReceiver, key: ModuleKey, number: u16, data: &[u8]) {
    let block = Block { download_id: key.0, module_id: key.1, version: 0, number, data: &[] };
    let mut out = Vec::new();
    crate::dsmcc::message::write_ddb::<crate::bytes::WireError>(&mut out, &block, data.len(), 9, |out| {
        out.copy_from_slice(data);
        Ok(())
    })
    .unwrap();
    receiver.section(&Section::parse(&out).unwrap(), &mut InMemory);
}

fn plain(id: u16, size: u32, name: &str) -> ModuleInfo {
    // name_descriptor, ISO/IEC 13818-6 as profiled by TS 102 809.
    let mut descriptors = vec![0x02, name.len() as u8];
    descriptors.extend_from_slice(name.as_bytes());
    ModuleInfo { id, size, version: 0, is_biop: false, descriptors }
}

fn count_of(receiver: &MemoryReceiver, why: CarouselDrop) -> u64 {
    receiver.dropped().find(|it| it.0 == why).unwrap().1
}

#[test]
fn a_carousel_that_changes_its_download_id_forever_is_received_to_the_last() {
    let mut receiver = MemoryReceiver::default();
    let versions = MAX_DOWNLOAD_INFOS as u32 + 100;
    for version in 0..2500 {
        // Many modules each time: the limit on modules is reached as well.
        let modules = (0..30).map(|id| plain(id, 100, "f")).collect();
        send_info(&mut receiver, version, 1, modules);
        send_block(&mut receiver, (version, 7), 0, &[version as u8; 100]);
        assert_eq!(files(&mut receiver), [("f".to_owned(), vec![version as u8; 100])], "{version}");
        assert!(receiver.infos.len() <= MAX_DOWNLOAD_INFOS && receiver.modules.len() <= MAX_MODULES);
    }
    assert!(count_of(&receiver, CarouselDrop::TooManyInfos) > 0);
    // The same with DIIs of a module each.
    for version in 0..versions {
        send_info(&mut receiver, 1 << 20 | version, 1, vec![plain(7, 100, "f")]);
    }
    assert!(receiver.infos.len() <= MAX_DOWNLOAD_INFOS);
    send_block(&mut receiver, (1 << 20 | (versions - 1), 7), 0, &[9; 100]);
    assert_eq!(files(&mut receiver).len(), 1);
    assert_eq!(count_of(&receiver, CarouselDrop::TooManyModules), 0);
}

#[test]
fn modules_that_are_never_completed_make_room() {
    let mut receiver = MemoryReceiver::default();
    let all = MAX_MODULES_OPEN as u16 + 1;
    for id in 0..all {
        send_info(&mut receiver, 7, id, vec![plain(id, 200, "f")]);
        send_block(&mut receiver, (7, id), 0, &[1; 100]);
    }
    assert_eq!((receiver.open, count_of(&receiver, CarouselDrop::NoRoom)), (MAX_MODULES_OPEN, 1));
    // The last one's blocks repeat, the others' do not.
    for _ in 0..IDLE_BLOCKS {
        send_block(&mut receiver, (7, all - 1), 0, &[1; 100]);
    }
    send_block(&mut receiver, (7, all - 1), 1, &[2; 100]);
    assert_eq!(files(&mut receiver), [("f".to_owned(), [[1; 100], [2; 100]].concat())]);
    assert_eq!((receiver.open, count_of(&receiver, CarouselDrop::Idle)), (MAX_MODULES_OPEN - 1, 1));
    // What was given up is received when it is sent again.
    send_block(&mut receiver, (7, 0), 1, &[2; 100]);
    assert_eq!(files(&mut receiver), []);
    send_block(&mut receiver, (7, 0), 0, &[1; 100]);
    assert_eq!(files(&mut receiver), [("f".to_owned(), [[1; 100], [2; 100]].concat())]);
}

#[test]
fn early_blocks_age_whatever_their_size() {
    let mut receiver = MemoryReceiver::default();
    for number in 0..MAX_EARLY_BLOCK_BYTES / 64 + 10 {
        send_block(&mut receiver, (7, 1), number as u16, &[]);
    }
    assert_eq!(count_of(&receiver, CarouselDrop::EarlyBlock), 10);
    // The newest is kept: its module is complete as soon as its DII comes.
    send_block(&mut receiver, (7, 2), 0, &[5; 100]);
    send_info(&mut receiver, 7, 1, vec![plain(2, 100, "f")]);
    assert_eq!(files(&mut receiver), [("f".to_owned(), vec![5; 100])]);
}

#[test]
fn names_that_are_gone_make_room() {
    let mut receiver = MemoryReceiver::default();
    // A carousel of one module whose name changes with every version, as recorders of segments do.
    for at in 0..MAX_CAROUSEL_NAMES {
        receiver.handed_out.insert(format!("segment-{at}").into(), ((1, Arc::new([])), 0));
    }
    send_info(&mut receiver, 7, 1, vec![plain(2, 100, "next")]);
    send_block(&mut receiver, (7, 2), 0, &[5; 100]);
    assert_eq!(files(&mut receiver), [], "nothing has gone yet");
    assert_eq!(count_of(&receiver, CarouselDrop::TooManyNames), 1);
    send_info(&mut receiver, 8, 1, vec![plain(3, 100, "last")]);
    receiver.may_have_gone = true;
    send_block(&mut receiver, (8, 3), 0, &[6; 100]);
    assert_eq!(files(&mut receiver), [("last".to_owned(), vec![6; 100])]);
    assert_eq!(receiver.handed_out.len(), 1);
}

#[test]
fn modules_held_beyond_the_limit_are_received_again() {
    let mut receiver = MemoryReceiver::default();
    // Two links of chains whose other links never come.
    let bytes = (MAX_MODULES_HELD_BYTES / 2 + 1) as usize;
    let content = || Arc::new(vec![0_u8; bytes]);
    let modules = (1..3).map(|id| plain(id, 100, "f")).collect();
    send_info(&mut receiver, 7, 1, modules);
    for id in 1..3 {
        receiver.hold((7, id), content(), HashMap::new());
    }
    assert_eq!(count_of(&receiver, CarouselDrop::HeldTooLong), 1);
    assert!(receiver.held_bytes <= MAX_MODULES_HELD_BYTES);
    send_block(&mut receiver, (7, 1), 0, &[1; 100]);
    assert_eq!(files(&mut receiver), [("f".to_owned(), vec![1; 100])]);
    // A module that its DII lists no more gives its room back.
    assert_eq!(receiver.held_bytes, bytes as u64);
    let info = DownloadInfo {
        transaction: TransactionId::new(1, 1),
        download_id: 7,
        block_size: 100,
        modules: vec![plain(1, 100, "f")],
    };
    let mut out = Vec::new();
    crate::dsmcc::message::write_dii(&mut out, &info, None).unwrap();
    receiver.section(&Section::parse(&out).unwrap(), &mut InMemory);
    assert_eq!(receiver.held_bytes, 0);
}

/// A block of another version of its module.
fn send_version(receiver: &mut MemoryReceiver, version: u8, key: ModuleKey, number: u16, data: &[u8]) {
    let block = Block { download_id: key.0, module_id: key.1, version, number, data: &[] };
    let mut out = Vec::new();
    crate::dsmcc::message::write_ddb::<crate::bytes::WireError>(&mut out, &block, data.len(), 9, |out| {
        out.copy_from_slice(data);
        Ok(())
    })
    .unwrap();
    receiver.section(&Section::parse(&out).unwrap(), &mut InMemory);
}

#[test]
fn blocks_of_another_version_are_kept_for_its_dii_and_counted() {
    let mut receiver = MemoryReceiver::default();
    send_info(&mut receiver, 7, 1, vec![plain(1, 100, "f")]);
    send_version(&mut receiver, 1, (7, 1), 0, &[2; 100]);
    assert_eq!((files(&mut receiver), count_of(&receiver, CarouselDrop::OtherVersion)), (vec![], 1));
    let next = ModuleInfo { version: 1, ..plain(1, 100, "f") };
    let transaction = TransactionId::new(1, 1);
    let info = DownloadInfo { transaction, download_id: 7, block_size: 100, modules: vec![next] };
    let mut out = Vec::new();
    crate::dsmcc::message::write_dii(&mut out, &info, None).unwrap();
    receiver.section(&Section::parse(&out).unwrap(), &mut InMemory);
    assert_eq!(files(&mut receiver), [("f".to_owned(), vec![2; 100])], "kept until then");
}

#[test]
fn a_module_of_another_size_is_received_again_although_its_version_is_the_same() {
    let mut receiver = MemoryReceiver::default();
    send_info(&mut receiver, 7, 1, vec![plain(1, 200, "f")]);
    send_block(&mut receiver, (7, 1), 0, &[1; 100]);
    assert_eq!(receiver.open, 1);
    let transaction = TransactionId::new(1, 1);
    let modules = vec![plain(1, 150, "f")];
    let info = DownloadInfo { transaction, download_id: 7, block_size: 100, modules };
    let mut out = Vec::new();
    crate::dsmcc::message::write_dii(&mut out, &info, None).unwrap();
    receiver.section(&Section::parse(&out).unwrap(), &mut InMemory);
    assert_eq!(receiver.open, 0, "what was begun is not part of it");
    for (number, data) in [(0, &[3; 100][..]), (0, &[3; 100]), (1, &[4; 50])] {
        send_block(&mut receiver, (7, 1), number, data);
    }
    assert_eq!(
        files(&mut receiver),
        [("f".to_owned(), [&[3; 100][..], &[4; 50]].concat())],
        "repeats count once"
    );
    assert_eq!(receiver.open, 0);
}

/// There was no place for the module when its DII came: its block says what is wrong with it.
#[test]
fn a_block_of_an_empty_module_is_empty() {
    let mut receiver = MemoryReceiver::default();
    for id in 0..MAX_MODULES_OPEN as u16 {
        send_info(&mut receiver, 7, 10 + id, vec![plain(1000 + id, 200, "f")]);
        send_block(&mut receiver, (7, 1000 + id), 0, &[1; 100]);
    }
    send_info(&mut receiver, 7, 1, vec![plain(1, 0, "empty")]);
    assert_eq!((receiver.open, count_of(&receiver, CarouselDrop::NoRoom)), (MAX_MODULES_OPEN, 1));
    for (data, dropped) in [(&[][..], 0), (&[1][..], 1)] {
        send_block(&mut receiver, (7, 1), 0, data);
        assert_eq!(count_of(&receiver, CarouselDrop::BlockLength), dropped);
    }
    assert_eq!(files(&mut receiver).len(), 0, "there is no place for it");
    // Another becomes complete, and the next time that the empty one is sent it is received.
    send_block(&mut receiver, (7, 1000), 1, &[1; 100]);
    assert_eq!(files(&mut receiver).len(), 1);
    send_block(&mut receiver, (7, 1), 0, &[]);
    assert_eq!(files(&mut receiver).len(), 1);
    assert_eq!(receiver.open, MAX_MODULES_OPEN - 1);
}

#[test]
fn objects_whose_other_parts_never_come_are_bounded() {
    let mut receiver = MemoryReceiver::default();
    let content = Arc::new(vec![7_u8; 10]);
    let mut part = |object: usize, index: u16| {
        let path = Arc::from(format!("{object}/{index}"));
        let description = Description {
            uri: Some(format!("https://h/{object}")),
            part: Some(Part { index, count: 2, length: 20 }),
            ..Description::default()
        };
        let piece = Piece { content: Arc::clone(&content), range: 0..10 };
        receiver.hand_out(path, description, piece, ((1, Arc::from(&[][..])), 0));
        (receiver.parts.len(), count_of(&receiver, CarouselDrop::Parts))
    };
    for object in 1..=MAX_MODULES_OPEN {
        assert_eq!(part(object, 0), (object, 0));
    }
    assert_eq!(part(1, 1), (MAX_MODULES_OPEN - 1, 0), "it is complete");
    assert_eq!(part(1, 0), (MAX_MODULES_OPEN, 0));
    assert_eq!(part(2, 0), (MAX_MODULES_OPEN, 0), "a part of one that has begun needs no place");
    assert_eq!(part(0, 0), (1, MAX_MODULES_OPEN as u64), "one more, and all that wait are received again");
    assert_eq!(files(&mut receiver).len(), 1);
}

#[test]
fn modules_are_bounded_to_the_last_one() {
    let mut receiver = MemoryReceiver::default();
    let modules_of = |count: u16| (0..count).map(|id| plain(id, 100, "")).collect::<Vec<_>>();
    let mut filled = 0;
    for download_id in 0.. {
        let modules = modules_of(100);
        if filled + modules.len() > MAX_MODULES {
            break;
        }
        filled += modules.len();
        send_info(&mut receiver, download_id, 1, modules);
    }
    // As many as there is room for, and one more.
    let rest = (MAX_MODULES - filled) as u16;
    send_info(&mut receiver, 1 << 20, 1, modules_of(rest));
    assert_eq!((receiver.modules.len(), count_of(&receiver, CarouselDrop::TooManyInfos)), (MAX_MODULES, 0));
    send_info(&mut receiver, 1 << 21, 1, vec![plain(1, 100, "f")]);
    assert!(receiver.modules.len() <= MAX_MODULES && count_of(&receiver, CarouselDrop::TooManyInfos) > 0);
    send_block(&mut receiver, (1 << 21, 1), 0, &[1; 100]);
    assert_eq!(files(&mut receiver).len(), 1, "the last is received");
}

#[test]
fn diis_are_bounded_to_the_last_one() {
    let mut receiver = MemoryReceiver::default();
    for download_id in 0..MAX_DOWNLOAD_INFOS as u32 {
        send_info(&mut receiver, download_id, 1, vec![plain(1, 100, "f")]);
    }
    assert_eq!(
        (receiver.infos.len(), count_of(&receiver, CarouselDrop::TooManyInfos)),
        (MAX_DOWNLOAD_INFOS, 0)
    );
    send_info(&mut receiver, 1 << 20, 1, vec![plain(1, 100, "f")]);
    let quarter = MAX_DOWNLOAD_INFOS as u64 / 4;
    assert_eq!(count_of(&receiver, CarouselDrop::TooManyInfos), quarter);
    assert_eq!(receiver.infos.len() as u64, MAX_DOWNLOAD_INFOS as u64 - quarter + 1);
}

#[test]
fn empty_early_blocks_are_bounded_in_number() {
    let mut receiver = MemoryReceiver::default();
    let most = MAX_EARLY_BLOCK_BYTES / 64;
    for at in 0..most + 5 {
        send_block(&mut receiver, (7, at as u16), 0, &[]);
    }
    assert_eq!((receiver.early.len(), count_of(&receiver, CarouselDrop::EarlyBlock)), (most, 5));
    // Those of a module that is described leave room.
    send_info(&mut receiver, 7, 1, vec![plain(9, 100, "f")]);
    assert_eq!(receiver.early.len(), most - 1);
}

/// Sections whose CRC_32 is right and whose content is arbitrary.
fn any_section(table_id: u8, message_id: u16, body: &[u8]) -> Vec<u8> {
    let head = crate::ts::section::SectionHead {
        table_id,
        private: false,
        extension: 0,
        version: 0,
        number: 0,
        last_number: 0,
    };
    let mut out = Vec::new();
    head.write(&mut out, |out| {
        crate::bytes::Writer::new(out)
            .u8(0x11)
            .u8(3)
            .u16(message_id)
            .u32(7)
            .u8(0xff)
            .u8(0)
            .u16(body.len() as u16)
            .bytes(body);
        Ok(())
    })
    .unwrap();
    out
}

proptest::proptest! {
    #[test]
    fn no_carousel_panics(messages in proptest::collection::vec((0_u8..3, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..90)), 1..30),
                          sizes in proptest::collection::vec((0_u16..4, 0_u32..300, proptest::prelude::any::<[u8; 6]>()), 1..8)) {
        let mut receiver = MemoryReceiver::default();
        // A valid DII, so that blocks find their modules; then arbitrary sections.
        let modules = sizes.iter().map(|(id, size, info)| ModuleInfo {
            id: *id, size: *size, version: 0, is_biop: false, descriptors: info.to_vec(),
        });
        let info = DownloadInfo { transaction: TransactionId::new(1, 0), download_id: 7, block_size: 50, modules: modules.collect() };
        let mut out = Vec::new();
        crate::dsmcc::message::write_dii(&mut out, &info, None).unwrap();
        receiver.section(&Section::parse(&out).unwrap(), &mut InMemory);
        for (kind, mut body) in messages {
            let section = match kind {
                0 => any_section(0x3b, 0x1006, &body),
                1 => any_section(0x3b, 0x1002, &body),
                _ => {
                    body.resize(56, 0);
                    let (module, number) = (body[0] % 4, body[1] % 6);
                    body[..6].copy_from_slice(&[0, module, 0, 0xff, 0, number]);
                    if body[6] % 2 == 0 {
                        body[6..10].copy_from_slice(b"BIOP");
                    }
                    any_section(0x3c, 0x1003, &body)
                }
            };
            receiver.section(&Section::parse(&section).unwrap(), &mut InMemory);
        }
        while receiver.poll_event().is_some() {}
    }
}
