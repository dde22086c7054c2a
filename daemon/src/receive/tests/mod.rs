//! Finishing: bounds in bytes, digests, and what is handed on. What other tests of reception need is here too.

mod intake;
mod prefer;
mod shard;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use carousel::digest::Digest;
use carousel::flute::{Encoding, Examined, File, SendFile, Sender, SenderProfile, SessionKey, VerifyError};
use carousel::lct::{Toi, Tsi};
use carousel::name::ObjectKey;
use carousel::time::WallTime;

use super::finishing::{Answer, CacheWork, FinishError, decoded, finish, publish, rejected};
use super::storage::ObjectSpace;
use super::*;
use crate::delivery::{ObjectRef, Options, RejectReason, VerificationId, Verify, Work};
use crate::memory::MAX_FINISHING_BYTES;
use crate::signalling::Document;
use crate::store::Placement;

pub(crate) fn context(folder: &tempfile::TempDir) -> ReceiveContext {
    let mut config = crate::store::StoreConfig { path: folder.path().join("cache"), ..Default::default() };
    config.reserve_bytes = 0;
    let (store, _) = Store::open(&config).unwrap();
    ReceiveContext::new(store)
}

pub(crate) fn object(toi: u128) -> ObjectRef {
    let (source, destination) = ("10.0.0.1".parse().unwrap(), "239.0.0.1:6000".parse().unwrap());
    ObjectRef { session: SessionKey { source, destination, tsi: Tsi(1) }, toi: Toi(toi) }
}

/// The date in these tests.
pub(crate) const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

pub(crate) fn options() -> Options {
    Options { client_patience: Duration::from_secs(10), seed: 1, ..Options::without_repairs() }
}

/// A session with TSI 1 whose symbols have 200 bytes: its FDT, then for each file its packets.
pub(crate) fn session(files: &[(&str, Option<&str>, &[u8])]) -> (Vec<Vec<u8>>, Vec<Vec<Vec<u8>>>) {
    // Shards know the date: nothing may have expired by it.
    let fdt_lifetime_s = 20 * 365 * 86_400;
    let profile = SenderProfile { symbol_length: 200, fdt_lifetime_s, ..SenderProfile::default() };
    let mut sender = Sender::new(Tsi(1), profile, 1, 1);
    let add = |(name, content_type, body): &(&str, Option<&str>, &[u8])| {
        let file = SendFile { content_type: content_type.map(str::to_owned), ..SendFile::of(*name, body) };
        sender.add(file).unwrap()
    };
    let tois: Vec<Toi> = files.iter().map(add).collect();
    sender.refresh_fdt(WALL).unwrap();
    let mut out = Vec::new();
    let mut fdt = Vec::new();
    for page in 0..sender.fdt_pages() {
        for packet in 0..sender.fdt_packets(page) {
            assert!(sender.write_fdt(page, packet, &mut out));
            fdt.push(out.clone());
        }
    }
    let mut packets = |(toi, (_, _, body)): (&Toi, &(&str, Option<&str>, &[u8]))| {
        let symbols = (0..).zip(body.chunks(200));
        let packet = |(symbol, bytes)| {
            assert!(sender.write_packet(*toi, symbol, bytes, false, &mut out));
            out.clone()
        };
        symbols.map(packet).collect::<Vec<_>>()
    };
    let objects = tois.iter().zip(files).map(&mut packets).collect();
    (fdt, objects)
}

/// The verification of a signalling document of these bytes.
fn verification(bytes: Vec<u8>, digest: Digest) -> CacheWork {
    let file = File {
        content_location: carousel::mabr::CONFIGURATION_URI.to_owned(),
        toi: Toi(1),
        content_length: Some(bytes.len() as u64),
        content_digest: Some(digest),
        ..File::default()
    };
    let buf = ObjectSpace::Memory(bytes);
    Work::Verify(Verify {
        object: object(1),
        id: VerificationId::default(),
        file: Arc::new(file),
        buf,
        repaired_symbols: 0,
    })
}

/// Keeps the documents that it gets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(pub(crate) Arc<Mutex<Vec<Document>>>);

impl FinishSink for Kept {
    fn document(&mut self, document: Document) {
        self.0.lock().unwrap().push(document);
    }
}

#[test]
fn work_is_bounded_by_its_bytes_and_room_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let finishing =
        Finishing::with_workers(0, &context(&folder), &Kept::default(), &Default::default()).unwrap();
    let queue = finishing.queue();
    // Never written to: the system lends no memory for it.
    let work = |bytes: u64| verification(vec![0; bytes as usize], Digest::of(b""));
    let half = MAX_FINISHING_BYTES / 2 - (64 << 10);
    let first = queue.claim(&work(half)).unwrap();
    let second = queue.claim(&work(half)).unwrap();
    assert!(queue.claim(&work(half)).is_none(), "a third half");
    assert!(queue.claim(&work(1000)).is_some(), "what is left serves small work");
    drop(first);
    let third = queue.claim(&work(half)).expect("room that came back");
    drop((second, third));
    let alone = queue.claim(&work(2 * MAX_FINISHING_BYTES)).expect("larger than all, and alone");
    assert!(queue.claim(&work(0)).is_none(), "nothing beside it");
    drop(alone);
    assert!(queue.claim(&work(0)).is_some());
}

/// An announced length is only a number: it neither overflows nor keeps other work waiting.
#[test]
fn work_of_an_encoded_object_counts_what_it_can_take_not_what_is_announced() {
    let folder = tempfile::tempdir().unwrap();
    let context = context(&folder);
    let finishing = Finishing::with_workers(0, &context, &Kept::default(), &Default::default()).unwrap();
    let queue = finishing.queue();
    let encoded = |content_length| {
        let file = File { encoding: Encoding::Gzip, content_length, ..File::default() };
        let buf =
            ObjectSpace::without_flight(&context, context.store.create(40, Placement::default()).unwrap());
        Work::Verify(Verify {
            object: object(1),
            id: VerificationId::default(),
            file: Arc::new(file),
            buf,
            repaired_symbols: 0,
        })
    };
    for announced in [Some(u64::MAX), Some(u64::MAX - 1), Some(1 << 40), None] {
        let claim = queue.claim(&encoded(announced)).unwrap();
        let beside = queue.claim(&verification(vec![0; 64 << 20], Digest::of(b"")));
        assert!(beside.is_some(), "{announced:?}: other work goes on");
        assert!(queue.claim(&encoded(announced)).is_some(), "{announced:?}");
        drop((claim, beside));
    }
    let small: Vec<_> = (0..200).map(|_| queue.claim(&encoded(Some(1000))).unwrap()).collect();
    assert!(queue.claim(&verification(vec![0; 64 << 20], Digest::of(b""))).is_some());
    drop(small);
    assert_eq!(format!("{queue:?}"), "FinishQueue(0 bytes)");
}

#[test]
fn a_flood_of_objects_that_are_rejected_does_not_fill_the_log() {
    let (error, file) = (FinishError::Verify(VerifyError::DigestMismatch), File::default());
    let lines = crate::logs::logged(|| {
        for number in 0..500 {
            assert_eq!(rejected(object(number), &file, &error), RejectReason::Verify);
        }
    });
    // In up to three seconds.
    let warnings = lines.counts().find(|(level, _)| *level == "warn").unwrap().1;
    assert!((1..=63).contains(&warnings), "{warnings}");
}

/// The file is read twice: another program may have written to it in between.
#[test]
fn an_encoded_object_that_was_another_when_it_was_examined_is_refused() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let context = context(&folder);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"media").unwrap();
    let bytes = encoder.finish().unwrap();
    let partial = Arc::new(context.store.create(bytes.len() as u64, Placement::default()).unwrap());
    partial.write_at(0, &bytes).unwrap();
    let frozen = partial.freeze(bytes.len() as u64).unwrap();
    let file = File { encoding: Encoding::Gzip, ..File::default() };
    let key = ObjectKey::from_name("http://h/a", None).unwrap();
    let decode = |examined: &[u8], length| {
        let digest = Digest::of(examined);
        let content = Examined { digest, length, checked: true, is_encoded: true };
        decoded(&context, &file, &frozen, &key, &content)
    };
    assert_eq!(decode(b"media", 5).unwrap().as_slice(), b"media");
    for (examined, length) in [(b"mEdia", 5), (b"media", 6)] {
        assert!(matches!(decode(examined, length), Err(FinishError::Verify(_))), "{length}");
    }
}

/// What is a document is known by its name, which may come after its bytes.
#[test]
fn a_document_that_began_without_a_name_is_bounded_too() {
    let folder = tempfile::tempdir().unwrap();
    let (context, mut kept) = (context(&folder), Kept::default());
    let most = carousel::limits::MAX_XML_BYTES as u64;
    for (length, is_taken) in [(most, true), (most + 1, false)] {
        let partial = Arc::new(context.store.create(length, Placement::default()).unwrap());
        let file = File {
            content_location: carousel::mabr::CONFIGURATION_URI.to_owned(),
            content_length: Some(length),
            ..File::default()
        };
        let published = publish(&context, object(1).session, &file, partial, 0, &mut kept);
        assert_eq!(matches!(published, Ok(None)), is_taken, "{published:?}");
        assert_eq!(kept.0.lock().unwrap().len(), 1);
    }
}

#[test]
fn bytes_are_handed_on_only_if_their_digest_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let (context, mut kept) = (context(&folder), Kept::default());
    let right = b"<configuration/>".to_vec();
    let answer =
        finish(&context, verification(right.clone(), Digest::of(&right)), &mut kept, &mut Vec::new());
    assert!(matches!(answer, Some(Answer::Verified(it, _, Ok(()))) if it == object(1)));
    for at in 0..right.len() {
        let mut wrong = right.clone();
        wrong[at] ^= 1;
        let answer = finish(&context, verification(wrong, Digest::of(&right)), &mut kept, &mut Vec::new());
        assert!(matches!(answer, Some(Answer::Verified(_, _, Err(RejectReason::Verify)))), "byte {at}");
    }
    let documents = kept.0.lock().unwrap();
    assert_eq!(documents.iter().map(|it| &it.bytes).collect::<Vec<_>>(), [&right]);
}
