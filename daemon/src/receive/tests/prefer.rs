//! Signed and unsigned carousels of the same names, where signatures are preferred.

use carousel::time::Instant;
use carousel::trust::{Certificate, Mode, Policy, Sealer, SecretKey, Trust};
use proptest::prelude::*;

use super::*;
use crate::delivery::SessionFilter;

const NAMES: [&str; 2] = ["http://h/a", "http://h/b"];
const SIGNED: &[u8] = &[1; 900];
const UNSIGNED: &[u8] = &[2; 1100];

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// The packets of a session, the FDT's first.
fn packets(is_signed: bool) -> Vec<Vec<u8>> {
    packets_of(is_signed, if is_signed { SIGNED } else { UNSIGNED })
}

fn packets_of(is_signed: bool, body: &[u8]) -> Vec<Vec<u8>> {
    let fdt_lifetime_s = 20 * 365 * 86_400;
    let profile = SenderProfile { symbol_length: 200, fdt_lifetime_s, ..SenderProfile::default() };
    let mut sender = Sender::new(Tsi(1), profile, 1, 1);
    if is_signed {
        let online = secret(2);
        let certificate = Certificate::issue(&secret(1), online.public(), (0, 1), (0, u64::MAX), Vec::new());
        let sealer = Sealer::new(online, certificate, None, 0).unwrap();
        sender.sign_with(sealer, "tag:a".to_owned(), "s".to_owned());
    }
    let tois: Vec<Toi> = NAMES.iter().map(|name| sender.add(SendFile::of(*name, body)).unwrap()).collect();
    sender.refresh_fdt(WALL).unwrap();
    let (mut all, mut out) = (Vec::new(), Vec::new());
    for packet in 0..sender.fdt_packets(0) {
        assert!(sender.write_fdt(0, packet, &mut out));
        all.push(out.clone());
    }
    for toi in tois {
        for (symbol, bytes) in (0..).zip(body.chunks(200)) {
            assert!(sender.write_packet(toi, symbol, bytes, false, &mut out));
            all.push(out.clone());
        }
    }
    all
}

struct Box {
    intake: Intake,
    context: ReceiveContext,
    kept: Kept,
    now: Instant,
    _folder: tempfile::TempDir,
}

impl Box {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policy = Policy { mode: Mode::Prefer, keys: vec![secret(1).public()], ..Policy::default() };
        let context = ReceiveContext { trust: Arc::new(Trust::new(policy)), ..context(&folder) };
        let intake = Intake::new(context.clone(), options(), Arc::default(), None).without_date();
        let now = Instant::from_nanos(1_000_000_000);
        Self { intake, context, kept: Kept::default(), now, _folder: folder }
    }

    fn take(&mut self, is_signed: bool, packet: &[u8]) {
        self.take_from(if is_signed { 1 } else { 2 }, packet);
    }

    fn take_from(&mut self, source: u8, packet: &[u8]) {
        let ObjectRef { session, .. } = object(1);
        let source = std::net::SocketAddr::from(([10, 0, 0, source], 7));
        let filter = SessionFilter { trust: Mode::Prefer, ..SessionFilter::all() };
        self.intake.datagram(self.now, source, session.destination, &filter, packet);
        self.intake.end_batch();
    }

    fn finish(&mut self) {
        self.intake.finish_here(self.now, &mut self.kept);
        self.intake.end_batch();
    }

    /// Body that is held under a name, and whether it is signed.
    fn held(&self, name: &str) -> Option<(bool, Vec<u8>)> {
        let object = self.context.store.get(name.strip_prefix("http://").unwrap())?;
        let meta = object.meta();
        Some((meta.signed_by.is_some(), object.bytes(0..meta.length).unwrap().to_vec()))
    }
}

#[test]
fn what_is_unsigned_counts_until_something_signed_has_its_name() {
    let mut tested = Box::new();
    packets(false).iter().for_each(|it| tested.take(false, it));
    tested.finish();
    assert_eq!(tested.held(NAMES[0]), Some((false, UNSIGNED.to_vec())));
    packets(true).iter().for_each(|it| tested.take(true, it));
    tested.finish();
    for name in NAMES {
        assert_eq!(tested.held(name), Some((true, SIGNED.to_vec())), "{name}");
    }
}

#[test]
fn what_another_session_has_put_in_the_place_of_an_object_goes_with_the_next_cycle() {
    let mut tested = Box::new();
    let (honest, forged) = (packets_of(false, SIGNED), packets_of(false, UNSIGNED));
    for (source, packets, body) in [(1, &honest, SIGNED), (2, &forged, UNSIGNED), (1, &honest, UNSIGNED)] {
        packets.iter().for_each(|it| tested.take_from(source, it));
        tested.finish();
        assert_eq!(tested.held(NAMES[0]), Some((false, body.to_vec())));
    }
    tested.now = tested.now + Duration::from_secs(11);
    tested.intake.tick(tested.now);
    honest.iter().for_each(|it| tested.take_from(1, it));
    tested.finish();
    for name in NAMES {
        assert_eq!(tested.held(name), Some((false, SIGNED.to_vec())), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In any order of packets and results, the signed object is held in the end, and never replaced.
    #[test]
    fn signed_wins_over_unsigned_of_the_same_name_at_any_order(order in proptest::collection::vec(0..8_u8, 30..90)) {
        let mut tested = Box::new();
        let (signed, unsigned) = (packets(true), packets(false));
        let (mut next, mut was_signed) = ([0; 2], [false; 2]);
        for step in order {
            match step {
                0..=2 => {
                    tested.take(true, &signed[next[0] % signed.len()]);
                    next[0] += 1;
                }
                3..=5 => {
                    tested.take(false, &unsigned[next[1] % unsigned.len()]);
                    next[1] += 1;
                }
                6 => tested.finish(),
                _ => {
                    tested.now = tested.now + Duration::from_secs(6);
                    tested.intake.tick(tested.now);
                }
            }
            for (name, was_signed) in NAMES.iter().zip(&mut was_signed) {
                let Some((is_signed, bytes)) = tested.held(name) else { continue };
                prop_assert_eq!(&bytes[..], if is_signed { SIGNED } else { UNSIGNED });
                prop_assert!(is_signed || !*was_signed, "{} was replaced by an unsigned one", name);
                *was_signed |= is_signed;
            }
        }
        for _ in 0..2 {
            tested.now = tested.now + Duration::from_secs(6);
            tested.intake.tick(tested.now);
            unsigned.iter().for_each(|it| tested.take(false, it));
            signed.iter().for_each(|it| tested.take(true, it));
            tested.finish();
        }
        for name in NAMES {
            prop_assert_eq!(tested.held(name), Some((true, SIGNED.to_vec())), "{}", name);
        }
    }
}
