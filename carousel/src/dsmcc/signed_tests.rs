//! Signed lists: what travels, and what a receiver takes that asks for one.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::receive::tests::{MemoryReceiver, Studio, body, take};
use super::super::{Event, Profile, Shape, SignatureRequirement, delivery::CarouselDrop, delivery::InMemory};
use super::*;
use crate::time::{Instant, WallTime};
use crate::trust::tests::{ROOT, sealer};
use crate::trust::{
    Allowance, Certificate, Edition, Judged, Kind, Mode, Policy, Sealer, SecretKey, Stream, Trust,
};

fn stream() -> Stream {
    Stream { service: "announcement".to_owned(), name: "carousel 1 pid 200".to_owned(), tsi: 0 }
}

/// The sections of the list of what a studio sends, signed.
fn signed(studio: &Studio, sealer: &Sealer, version: u64) -> Vec<Vec<u8>> {
    let edition = Edition { version, floor: version, page: 0, issued: 1000, until: 100_000 };
    let list = studio.builder.signed_list().unwrap();
    assert_eq!(SignedList::read(&list.to_bytes()).as_ref(), Ok(&list));
    let sealed = sealer.seal_bytes(Kind::Modules, &stream(), &edition, &list.to_bytes()).unwrap();
    write_sections(&sealed).unwrap()
}

/// A receiver as the daemon drives it.
struct Tested {
    trust: Trust,
    lists: ListAssembler,
    receiver: MemoryReceiver,
    /// Version of the list in force.
    version: u64,
    /// Files by URI, as they were handed out.
    held: BTreeMap<String, Vec<u8>>,
}

impl Tested {
    fn new(mode: Mode) -> Self {
        let mut receiver = MemoryReceiver::default();
        if mode == Mode::Require {
            receiver.require(SignatureRequirement::List);
        }
        let trust = Trust::new(Policy { keys: vec![ROOT.public()], mode, ..Policy::default() });
        let (lists, held) = (ListAssembler::default(), BTreeMap::new());
        Self { trust, lists, receiver, version: 0, held }
    }

    fn judge(&mut self, document: &[u8], mode: Mode) {
        let judged =
            Judged { kind: Kind::Modules, bytes: document, tsi: None, mode, allowance: Allowance::Known };
        let wall = Some(WallTime::from_unix_ms(2_000_000));
        if let Ok(Some(by)) = self.trust.judge(Instant::default(), wall, &judged)
            && let Some(Ok(list)) = crate::trust::unsealed(document).map(SignedList::read)
        {
            self.version = by.order.1;
            self.receiver.require(SignatureRequirement::Signed(Arc::new(list)));
        }
    }

    /// Takes a section; gives the URIs of files that are held since.
    fn take(&mut self, bytes: &[u8], mode: Mode) -> Vec<String> {
        let Ok(section) = Section::parse(bytes) else { return Vec::new() };
        if section.table_id == TABLE_SIGNED {
            if let Some(document) = self.lists.push(&section) {
                self.judge(&document, mode);
            }
            return Vec::new();
        }
        self.receiver.section(&section, &mut InMemory);
        let mut new = Vec::new();
        while let Some(event) = self.receiver.poll_event() {
            let Event::File(file) = event else { continue };
            let bytes: Vec<u8> = file.pieces.iter().flat_map(|it| it.bytes().to_vec()).collect();
            if file.description.digest.is_some_and(|digest| digest != Digest::of(&bytes)) {
                self.receiver.reject(&file);
                continue;
            }
            let uri = file.description.uri.clone().unwrap_or_else(|| file.path().to_owned());
            new.push(uri.clone());
            self.held.insert(uri, bytes);
        }
        new
    }
}

const NAMES: [&str; 4] = ["http://h/a/1", "http://h/a/2.mpd", "http://h/b/3", "http://h/long"];
const LENGTHS: [usize; 4] = [900, 3000, 500, 9000];

fn studio(shape: Shape, seed: u8) -> Studio {
    let mut studio = Studio::new(Profile { shape, block_bytes: 1000, ..Profile::default() });
    for (name, length) in NAMES.iter().zip(LENGTHS) {
        studio.add(name, body(length, seed));
    }
    studio.commit();
    studio
}

/// Two editions of an honest carousel, in the second of which the first object is another one.
fn editions(shape: Shape) -> [Vec<Vec<u8>>; 2] {
    let honest = sealer(2, (0, 1));
    let mut studio = studio(shape, 1);
    let first = [signed(&studio, &honest, 5), studio.sections()].concat();
    let number = *studio.bodies.keys().next().unwrap();
    studio.builder.remove(number);
    studio.bodies.remove(&number);
    studio.add(NAMES[0], body(LENGTHS[0], 2));
    studio.commit();
    [first, [signed(&studio, &honest, 6), studio.sections()].concat()]
}

fn honest_body(name: &str, edition: u64) -> Vec<u8> {
    let at = NAMES.iter().position(|it| *it == name).unwrap();
    body(LENGTHS[at], if at == 0 && edition >= 6 { 2 } else { 1 })
}

/// An untrusted carousel of the same names: unsigned, or with a list that its own key has signed.
fn untrusted(shape: Shape) -> Vec<Vec<u8>> {
    let studio = studio(shape, 9);
    let root = SecretKey::from_seed(&[7; 32]);
    let online = SecretKey::from_seed(&[8; 32]);
    let certificate = Certificate::issue(&root, online.public(), (0, 1), (0, 1 << 40), Vec::new());
    let own = Sealer::new(online, certificate, None, 0).unwrap();
    // A genuine certificate with a signature by another key.
    let mut forged = signed(&studio, &sealer(2, (0, 1)), 9);
    for section in &mut forged {
        let Some(signature) = Section::parse(section).ok().map(|it| it.body.len() - 150) else { continue };
        let mut body = Section::parse(section).unwrap().body.to_vec();
        body[signature] ^= 1;
        *section = write_sections(&body).unwrap().remove(0);
    }
    [signed(&studio, &own, 9), forged, studio.sections()].concat()
}

#[test]
fn a_signed_carousel_is_received_in_any_shape_and_an_unsigned_one_is_not() {
    for shape in [Shape::Object, Shape::Data] {
        let [first, second] = editions(shape);
        let mut tested = Tested::new(Mode::Require);
        for section in &untrusted(shape) {
            tested.take(section, Mode::Require);
        }
        assert_eq!((tested.held.len(), tested.receiver.modules().count()), (0, 0), "{shape:?}");
        let dropped = |tested: &Tested, why| tested.receiver.dropped().find(|(it, _)| *it == why).unwrap().1;
        assert!(dropped(&tested, CarouselDrop::Unsigned) > 0);
        for (edition, sections) in [(5, &first), (6, &second)] {
            for section in sections {
                tested.take(section, Mode::Require);
            }
            for name in NAMES {
                assert_eq!(tested.held.get(name), Some(&honest_body(name, edition)), "{shape:?} {name}");
            }
        }
        // What was signed before does not come back.
        first.iter().for_each(|section| drop(tested.take(section, Mode::Require)));
        assert_eq!(tested.held[NAMES[0]], honest_body(NAMES[0], 6));
        // The signing key is no longer valid: everything but the counters is forgotten.
        let before: Vec<_> = tested.receiver.dropped().collect();
        tested.receiver.require(SignatureRequirement::List);
        assert_eq!(tested.receiver.modules().count(), 0);
        assert!(tested.receiver.dropped().eq(before));
    }
}

#[test]
fn a_carousel_that_turns_out_to_be_signed_takes_nothing_unsigned_any_more() {
    let [first, _] = editions(Shape::Object);
    let mut tested = Tested::new(Mode::Prefer);
    let other = untrusted(Shape::Object);
    other.iter().for_each(|section| drop(tested.take(section, Mode::Prefer)));
    assert_eq!(tested.held[NAMES[0]], body(LENGTHS[0], 9), "unsigned ones count while nothing is signed");
    first.iter().for_each(|section| drop(tested.take(section, Mode::Prefer)));
    other.iter().for_each(|section| drop(tested.take(section, Mode::Prefer)));
    for name in NAMES {
        assert_eq!(tested.held[name], honest_body(name, 5), "{name}");
    }
}

#[test]
fn a_list_of_several_sections_is_put_together_between_others() {
    let document: Vec<u8> = (0..9000).map(|at| (at / 7) as u8).collect();
    let sections = write_sections(&document).unwrap();
    let other = write_sections(&[1; 9000]).unwrap();
    assert_eq!(sections.len(), 3);
    let mut lists = ListAssembler::default();
    let mut push = |bytes: &[u8]| lists.push(&Section::parse(bytes).unwrap());
    for at in [2, 0, 2] {
        assert_eq!((push(&sections[at]), push(&other[at])), (None, None));
    }
    assert_eq!(push(&sections[1]).as_ref(), Some(&document));
    // Untrusted senders begin lists and never end them; one that is sent as a whole comes through.
    for seed in 2..102_u8 {
        assert_eq!(push(&write_sections(&[seed; 9000]).unwrap()[1]), None);
    }
    sections[..2].iter().for_each(|it| assert_eq!(push(it), None));
    assert_eq!(push(&sections[2]).as_ref(), Some(&document));
    assert!(lists.0.len() <= MAX_LISTS_OPEN);
    assert!(write_sections(&vec![0; MAX_LIST_SECTIONS * SECTION_BYTES]).is_ok());
    assert!(write_sections(&vec![0; MAX_LIST_SECTIONS * SECTION_BYTES + 1]).is_err());
    assert!(SignedList::read(b"SKYM\x02").is_err());
}

/// Bytes that a signature adds to a carousel of a film.
#[test]
fn a_signature_adds_no_byte_to_messages_and_modules() {
    let mut studio = Studio::new(Profile::default());
    for at in 0..200 {
        studio.add(&format!("http://h/{at}.m4s"), body(60_000, at as u8));
    }
    studio.commit();
    let list: usize = signed(&studio, &sealer(2, (0, 1)), 5).iter().map(Vec::len).sum();
    assert!(list < 900, "{list} bytes a second");
    let mut receiver = MemoryReceiver::default();
    assert_eq!(take(&mut receiver, &studio.sections()).len(), 200, "others take it as before");
}

proptest! {
    /// Signed, unsigned, forged, replayed, delayed and truncated, in any order: nothing is held that the honest sender did
    /// not send, nothing older once the newer is known, and the honest carousel is there within two passes.
    #[test]
    fn nothing_forged_comes_out_of_a_carousel_at_any_interleaving(seed in any::<u64>(), is_data in any::<bool>(), count in 50_usize..400) {
        let shape = if is_data { Shape::Data } else { Shape::Object };
        let [first, second] = editions(shape);
        let untrusted = untrusted(shape);
        let mut tested = Tested::new(Mode::Require);
        let mut state = seed | 1;
        let mut random = |most: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % most
        };
        let mut at = [0; 3];
        for _ in 0..count {
            let which = random(4);
            let (sections, number) = match which {
                0 => (&first, &mut at[0]),
                1 => (&second, &mut at[1]),
                _ => (&untrusted, &mut at[2]),
            };
            // In order for a while, or anywhere: what is delayed.
            *number = if random(4) == 0 { random(sections.len()) } else { (*number + 1) % sections.len() };
            let mut section = sections[*number].clone();
            if random(8) == 0 {
                section.truncate(random(section.len()));
            }
            let before = tested.version;
            for name in tested.take(&section, Mode::Require) {
                let got = &tested.held[&name];
                let is_honest = *got == honest_body(&name, 6) || before < 6 && *got == honest_body(&name, 5);
                prop_assert!(is_honest, "{name} with the list of version {before}");
            }
            prop_assert!(tested.version >= before);
        }
        for section in second.iter().chain(&second).chain(&second) {
            tested.take(section, Mode::Require);
        }
        for name in NAMES {
            prop_assert_eq!(tested.held.get(name), Some(&honest_body(name, 6)), "{}", name);
        }
    }

    #[test]
    fn no_list_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = SignedList::read(&[&MAGIC[..], &bytes].concat());
        let _ = crate::trust::open(&[&b"SKYS"[..], &bytes].concat());
    }
}
