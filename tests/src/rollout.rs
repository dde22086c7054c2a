//! Simulation of a firmware update to a fleet, in virtual time: when boxes complete it, and how much the origin has to
//! send.
//!
//! The packets are those of the headend's own share of the link, the link is `linksim`'s, the box is the carousel's own receiver;
//! share, dispersal and the ranges requested from the origin are those of the product. The number of symbols is scaled: one
//! stands for [`SCALE`], so that a thousand boxes take seconds. Source blocks have their real number of symbols, but there are
//! fewer; a burst of losses therefore takes more of one block than in reality, which makes the figures worse. Of [`DECODED`]
//! boxes one decodes; the others get the lost symbols as soon as a decoder would have enough.

use std::fmt::Write as _;
use std::net::SocketAddr;

use carousel::alc::Packet;
use carousel::digest::{Digest, md5};
use carousel::fec::{BlockId, EncodingId, Partition, Protection};
use carousel::firmware::{EVERYBODY, Offer};
use carousel::flute::{Event, MemoryBuf, MemoryStorage, Receiver, ReceiverConfig, SenderProfile, verify};
use carousel::lct::{Toi, Tsi};
use carousel::repair::requests;
use carousel::time::{Instant, WallTime};
use headend::air::{Air, AirConfig, AirObject, Body, Repeat, air_bytes};
use headend::plan::Class;
use linksim::{Burst, Link, Profile, Rng};

/// Real symbols per simulated symbol.
pub const SCALE: u64 = 20;
/// One in DECODED boxes runs the real decoder.
pub const DECODED: usize = 25;
/// Bytes of the bundle, as they are on the air.
const BUNDLE_BYTES: u64 = 150_000_000;
/// Rate of the share.
const SHARE_BPS: u64 = 2_000_000;
/// Repair from the origin: after three days, over one.
const REPAIR_AFTER_S: u64 = 3 * DAY_S;
const REPAIR_WITHIN_S: u64 = DAY_S;
const DAY_S: u64 = 86_400;
const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

/// The protection of bundles by default.
const PROTECTION: Protection = Protection {
    id: EncodingId::RAPTORQ,
    symbol_length: 0,
    overhead: 0.1,
    least_repair: 3,
    burst_packets: 0,
    block_bytes: 1 << 20,
};

/// Kind of box: its part of the fleet in percent, seconds a day for which it is on, loss.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    percent: usize,
    on_s: u64,
    loss: f64,
}

const KINDS: [Kind; 5] = [
    Kind { name: "always on", percent: 65, on_s: DAY_S, loss: 0.05 },
    Kind { name: "four hours a day", percent: 25, on_s: 4 * 3600, loss: 0.05 },
    Kind { name: "twenty minutes a day", percent: 5, on_s: 1200, loss: 0.05 },
    Kind { name: "three minutes a day", percent: 3, on_s: 180, loss: 0.05 },
    Kind { name: "always on, 30 % loss", percent: 2, on_s: DAY_S, loss: 0.3 },
];

/// One pass of the bundle's session, recorded.
#[derive(Debug)]
pub struct Pass {
    packets: Vec<Vec<u8>>,
    bytes: Vec<u8>,
    partition: Partition,
    /// Seconds that a pass of the real bundle takes.
    pub pass_s: f64,
}

impl Pass {
    /// A pass of the scaled bundle, as the headend sends it.
    ///
    /// # Panics
    /// If it cannot be put on the air.
    pub fn new() -> Self {
        let mut air = Air::new(AirConfig {
            rate_bps: 100_000_000,
            share_bps: SHARE_BPS,
            fdt_interval_ms: 10_000,
            first_toi: 1,
            ..AirConfig::default()
        });
        let group: SocketAddr = SocketAddr::from(([239, 192, 49, 2], 49003));
        let session = air.open_session(group, Tsi(100), SenderProfile::default());
        let mut rng = Rng::new(7);
        let bytes: Vec<u8> = (0..BUNDLE_BYTES / SCALE).map(|_| rng.next_u64() as u8).collect();
        let object = AirObject {
            uri: "https://cdn.example.com/firmware/1.5.raucb".to_owned(),
            content_type: carousel::firmware::BUNDLE_TYPE.to_owned(),
            digest: Digest::of(&bytes),
            md5: md5(&bytes),
            body: Body::Memory(bytes.clone().into()),
            class: Class::Low,
            repeat: Repeat::Share,
            protection: PROTECTION,
            ignored_query: Default::default(),
            expiry_s: None,
        };
        air.add(session, object).expect("fits the session");
        let (mut packets, mut packet, mut now_ns) = (Vec::new(), Vec::new(), 0);
        while air.stats().objects_sent == 0 {
            match air.next_packet(now_ns, WALL, &mut packet) {
                Some(_) => {
                    now_ns += (packet.len() as u64 + 28) * 80;
                    packets.push(packet.clone());
                }
                None => now_ns = air.next_due_ns().map_or(now_ns, |due| due.max(now_ns)) + 1,
            }
        }
        let profile = SenderProfile::default();
        let partition = |length| {
            let oti = PROTECTION.oti(length, profile.symbol_length, profile.max_source_block_length);
            let partition = Partition::new(&oti).expect("a partition");
            (partition, air_bytes(length, &partition, &PROTECTION.sequence(&oti, partition)))
        };
        let pass_s = partition(BUNDLE_BYTES).1 as f64 * 8.0 / SHARE_BPS as f64;
        let partition = partition(bytes.len() as u64).0;
        Self { packets, bytes, partition, pass_s }
    }
}

impl Default for Pass {
    fn default() -> Self {
        Self::new()
    }
}

/// Outcome of a box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Received {
    /// Seconds from the offer to the whole bundle.
    pub seconds: f64,
    /// Bytes of the origin, by the scale of the real bundle.
    pub origin_bytes: u64,
}

/// A box that is on for `on_s` of each day from `begin_s` of the day on.
fn receive(pass: &Pass, offer: &Offer, kind: &Kind, number: usize) -> Received {
    let mut rng = Rng::new(number as u64 + 1);
    let begin_s = (rng.next_u64() % DAY_S) as f64;
    let identity = Digest::of(&number.to_be_bytes()).0;
    let repair_s = offer.repair_delay_s(&identity) as f64;
    let mut link =
        Link::new(number as u64, Profile { burst: Burst::new(kind.loss, 8.0), ..Profile::PERFECT });
    let mut receiver: Receiver<MemoryBuf> = Receiver::new(ReceiverConfig::default());
    let step_s = pass.pass_s / pass.packets.len() as f64;
    let is_on = |at_s: f64| (at_s - begin_s).rem_euclid(DAY_S as f64) < kind.on_s as f64;
    let mut at = 0_u64;
    loop {
        let now_s = at as f64 * step_s;
        if !is_on(now_s) {
            // The next time that it is on: the same packet of the same pass as if it had listened all the time.
            let next_s = now_s + (begin_s - now_s).rem_euclid(DAY_S as f64);
            at = (next_s / step_s).ceil() as u64 + 1;
            continue;
        }
        if now_s >= repair_s {
            return Received { seconds: now_s, origin_bytes: missing(&receiver) * SCALE };
        }
        link.send(at, &pass.packets[(at % pass.packets.len() as u64) as usize]);
        while let Some(bytes) = link.poll(at) {
            let packet = Packet::parse(&bytes).expect("this link flips no bits");
            receiver.handle_packet(Instant::from_nanos(1), None, &packet, &bytes, &mut MemoryStorage);
            while let Some(event) = receiver.poll_event() {
                match event {
                    Event::BlockReady { toi, block } => recover(pass, &mut receiver, toi, block, number),
                    Event::Complete { file, buf, .. } => {
                        verify(&file, &buf.bytes).expect("whole bundles are right");
                        return Received { seconds: now_s, origin_bytes: 0 };
                    }
                    _ => {}
                }
            }
        }
        at += 1;
    }
}

/// Bytes that the product asks an origin for.
fn missing(receiver: &Receiver<MemoryBuf>) -> u64 {
    let asked = receiver.in_flight().map(|object| {
        let ranges = requests(object.needed(), object.received().length());
        ranges.iter().flatten().map(|it| it.end - it.start).sum::<u64>()
    });
    match receiver.in_flight().count() {
        0 => BUNDLE_BYTES / SCALE,
        _ => asked.sum(),
    }
}

fn recover(pass: &Pass, receiver: &mut Receiver<MemoryBuf>, toi: Toi, block: BlockId, number: usize) {
    let lost = if number.is_multiple_of(DECODED) {
        let Some(job) = receiver.recovery_job(toi, block) else { return };
        let Some(object) = receiver.object(toi) else { return };
        let buf = object.buf();
        job.run(|place, out| buf.read(place, out))
    } else {
        let first = pass.partition.first_symbol(block.sbn);
        let symbols = first..first + u64::from(pass.partition.block_symbols(block.sbn));
        let ranges = symbols.map(|symbol| pass.partition.byte_range(symbol));
        Some(ranges.map(|it| (it.start, pass.bytes[it.start as usize..it.end as usize].to_vec())).collect())
    };
    receiver.recovered(toi, block, lost.as_deref(), &mut MemoryStorage);
}

/// Outcome of each box of a fleet, with the number of its kind.
///
/// # Panics
/// If a bundle that is whole is not right: that must never be.
pub fn roll_out(pass: &Pass, boxes: usize) -> Vec<(usize, Received)> {
    let offer = Offer {
        compatible: "skycache-x86_64".to_owned(),
        version: "1.5".to_owned(),
        url: "https://cdn.example.com/firmware/1.5.raucb".to_owned(),
        length: BUNDLE_BYTES,
        sha256: Digest::of(&pass.bytes),
        allow_downgrade: false,
        share: EVERYBODY,
        groups: Vec::new(),
        window: None,
        session: None,
        source: None,
        repair_after_s: REPAIR_AFTER_S,
        repair_within_s: REPAIR_WITHIN_S,
        until: u64::MAX,
    };
    let kind_of = |number: usize| {
        let mut place = number % 100;
        KINDS.iter().position(|kind| {
            let is_it = place < kind.percent;
            place = place.saturating_sub(kind.percent);
            is_it
        })
    };
    (0..boxes)
        .map(|number| {
            // Neighbours in number are of different kinds.
            let kind = kind_of(number * 37).unwrap_or(0);
            (kind, receive(pass, &offer, &KINDS[kind], number))
        })
        .collect()
}

/// The figures, in Markdown.
pub fn report(boxes: usize) -> String {
    let pass = Pass::new();
    let all = roll_out(&pass, boxes);
    let mut out = format!(
        "Written by `cargo xtask sim rollout`. {boxes} boxes, a bundle of {} MB at {} Mbit/s, RaptorQ with 10 %; one simulated symbol\n\
         stands for {SCALE}. A pass takes {:.1} minutes. Losses come in bursts of eight on average. The origin is asked after three days, over one.\n\n\
         | boxes | number | 50 % | 90 % | 99 % | all | by the origin | its bytes |\n|---|---|---|---|---|---|---|---|\n",
        BUNDLE_BYTES / 1_000_000,
        SHARE_BPS / 1_000_000,
        pass.pass_s / 60.0,
    );
    let mut row = |name: &str, of: &dyn Fn(usize) -> bool| {
        let mut seconds: Vec<f64> = all.iter().filter(|it| of(it.0)).map(|it| it.1.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        if seconds.is_empty() {
            return;
        }
        let at = |part: f64| {
            let index = ((seconds.len() as f64 * part).ceil() as usize).clamp(1, seconds.len()) - 1;
            let minutes = seconds[index] / 60.0;
            if minutes < 120.0 { format!("{minutes:.0} min") } else { format!("{:.1} h", minutes / 60.0) }
        };
        let origin: Vec<u64> =
            all.iter().filter(|it| of(it.0)).map(|it| it.1.origin_bytes).filter(|it| *it > 0).collect();
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {:.0} MB |",
            seconds.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
            origin.len(),
            origin.iter().sum::<u64>() as f64 / 1e6
        );
    };
    for (number, kind) in KINDS.iter().enumerate() {
        row(kind.name, &|it| it == number);
    }
    row("all", &|_| true);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_all_boxes_take_an_update_without_the_origin() {
        let pass = Pass::new();
        let all = roll_out(&pass, 20);
        assert!((660.0..760.0).contains(&pass.pass_s), "{}", pass.pass_s);
        for (kind, received) in &all {
            let kind = &KINDS[*kind];
            if kind.on_s == DAY_S && kind.loss < 0.1 {
                assert!(received.seconds < 2.0 * pass.pass_s, "{}: {received:?}", kind.name);
                assert_eq!(received.origin_bytes, 0);
            }
            assert!(received.seconds <= (REPAIR_AFTER_S + REPAIR_WITHIN_S + DAY_S) as f64, "{received:?}");
        }
        assert!(all.iter().any(|it| it.1.seconds > 3600.0), "some are not always on");
    }
}
