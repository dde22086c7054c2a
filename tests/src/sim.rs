//! A carousel and a receiver in one process, with virtual time and a lossy link between them, to measure a protection
//! before anything is on the air. The packets come from the headend's own scheduler and are received by the carousel's
//! own receiver; nothing is modelled twice.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Instant as Clock;

use carousel::alc::Packet;
use carousel::digest::{Digest, md5};
use carousel::fec::{BlockId, EncodingId, Protection};
use carousel::flute::{Event, MemoryBuf, MemoryStorage, Receiver, ReceiverConfig, SenderProfile, verify};
use carousel::lct::{Toi, Tsi};
use carousel::time::{Instant, WallTime};
use headend::air::{Air, AirConfig, AirObject, Body, Repeat};
use headend::plan::Class;
use linksim::{Link, Profile, Rng};

/// The link: a transponder's rate.
const RATE_BPS: u64 = 60_000_000;
const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);
/// A receiver that has not got everything by then never will.
const MAX_PASSES: u32 = 60;

/// Sizes of the catalogue's objects: two seconds of a ladder, 4 Mbit/s to 120 kbit/s, in equal numbers.
const SIZES: [usize; 4] = [1_000_000, 350_000, 120_000, 30_000];

/// One pass of a carousel, recorded.
#[derive(Debug)]
pub struct Pass {
    packets: Vec<Vec<u8>>,
    objects: usize,
    object_bytes: u64,
    /// Bytes of repair symbols for each byte of objects.
    pub overhead: f64,
    /// Seconds for a gigabyte of objects, to make the repair symbols.
    pub encode_s_per_gb: f64,
}

impl Pass {
    /// `objects` objects with this protection, as [`headend::air`] sends them.
    ///
    /// # Panics
    /// If an object cannot be put on the air.
    pub fn new(objects: usize, protection: Protection) -> Self {
        let mut encoding = std::time::Duration::ZERO;
        let mut air = Air::new(AirConfig {
            rate_bps: RATE_BPS,
            fdt_interval_ms: 1000,
            first_toi: 1,
            once: true,
            ..AirConfig::default()
        });
        let group: SocketAddr = SocketAddr::from(([239, 1, 1, 1], 5000));
        let profile = SenderProfile { fdt_page_bytes: 250_000, ..SenderProfile::default() };
        let session = air.open_session(group, Tsi(10), profile);
        let mut rng = Rng::new(99);
        let mut object_bytes = 0;
        for number in 0..objects {
            let bytes: Vec<u8> = (0..SIZES[number % SIZES.len()]).map(|_| rng.next_u64() as u8).collect();
            object_bytes += bytes.len() as u64;
            let object = AirObject {
                uri: format!("https://cdn.example.com/{number}.m4s"),
                content_type: "video/mp4".to_owned(),
                digest: Digest::of(&bytes),
                md5: md5(&bytes),
                body: Body::Memory(bytes.into()),
                class: Class::Medium,
                repeat: Repeat::Scheduled { popularity: 1.0 },
                protection,
                ignored_query: Default::default(),
                expiry_s: None,
            };
            let begin = Clock::now();
            air.add(session, object).expect("fits the session");
            encoding += begin.elapsed();
        }
        let (mut packets, mut packet, mut now_ns, mut sent_bytes) = (Vec::new(), Vec::new(), 0_u64, 0);
        while !air.is_over() {
            match air.next_packet(now_ns, WALL, &mut packet) {
                Some(_) => {
                    now_ns += (packet.len() as u64 + 28) * 8 * 1_000_000_000 / RATE_BPS;
                    let parsed = Packet::parse(&packet).expect("our own packet");
                    if parsed.lct.toi != Some(Toi::FDT) && !parsed.body.is_empty() {
                        sent_bytes += parsed.body.len() as u64 - 4;
                    }
                    if !parsed.lct.close_session {
                        packets.push(packet.clone());
                    }
                }
                None => now_ns = air.next_due_ns().map_or(now_ns, |due| due.max(now_ns)) + 1,
            }
        }
        Self {
            packets,
            objects,
            object_bytes,
            overhead: sent_bytes as f64 / object_bytes as f64 - 1.0,
            encode_s_per_gb: encoding.as_secs_f64() / (object_bytes as f64 / 1e9),
        }
    }
}

/// Outcome of a receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Objects complete after the first pass.
    pub first_pass: usize,
    /// Passes until 99 % of the objects were complete, and until all were.
    pub passes_99: u32,
    /// See `passes_99`.
    pub passes_100: u32,
    /// Bytes of source symbols missing after the first pass: what unicast repair would have to bring.
    pub missing_bytes: u64,
    /// Seconds that decoding took.
    pub decode_s: f64,
}

/// Sends the pass again and again over a link until the receiver has everything.
///
/// # Panics
/// If anything whole is not right: that must never be.
pub fn receive(pass: &Pass, profile: Profile, seed: u64) -> Outcome {
    let mut link = Link::new(seed, profile);
    let mut receiver: Receiver<MemoryBuf> = Receiver::new(ReceiverConfig::default());
    let mut outcome = Outcome::default();
    let mut whole: HashSet<Toi> = HashSet::new();
    for number in 1..=MAX_PASSES {
        for packet in &pass.packets {
            link.send(0, packet);
            while let Some(bytes) = link.poll(0) {
                let packet = Packet::parse(&bytes).expect("this link flips no bits");
                receiver.handle_packet(Instant::from_nanos(1), None, &packet, &bytes, &mut MemoryStorage);
                while let Some(event) = receiver.poll_event() {
                    match event {
                        Event::BlockReady { toi, block } => {
                            outcome.decode_s += decode(&mut receiver, toi, block);
                        }
                        Event::Complete { file, buf, .. } => {
                            verify(&file, &buf.bytes).expect("whole objects are right");
                            whole.insert(file.toi);
                        }
                        _ => {}
                    }
                }
            }
        }
        if number == 1 {
            outcome.first_pass = whole.len();
            let in_flight: u64 = receiver
                .in_flight()
                .map(|object| object.received().length() - object.received().received_bytes())
                .sum();
            let unseen: u64 = receiver.unseen().filter_map(|file| file.transfer_length).sum();
            outcome.missing_bytes = in_flight + unseen;
        }
        if outcome.passes_99 == 0 && whole.len() * 100 >= pass.objects * 99 {
            outcome.passes_99 = number;
        }
        if whole.len() == pass.objects {
            outcome.passes_100 = number;
            return outcome;
        }
    }
    outcome
}

fn decode(receiver: &mut Receiver<MemoryBuf>, toi: Toi, block: BlockId) -> f64 {
    let Some(job) = receiver.recovery_job(toi, block) else { return 0.0 };
    let Some(object) = receiver.object(toi) else { return 0.0 };
    let buf = object.buf();
    let begin = Clock::now();
    let lost = job.run(|place, out| buf.read(place, out));
    let seconds = begin.elapsed().as_secs_f64();
    receiver.recovered(toi, block, lost.as_deref(), &mut MemoryStorage);
    seconds
}

/// The protections of the table. Large blocks take 8.6 % of repair symbols and small ones more, so that the carousel as
/// a whole takes a tenth.
pub fn codes() -> [(&'static str, Protection); 4] {
    let with = |id| Protection {
        id,
        symbol_length: 0,
        overhead: 0.086,
        least_repair: 0,
        burst_packets: 0,
        block_bytes: 1 << 20,
    };
    [
        ("no-code", Protection::NONE),
        ("RaptorQ", with(EncodingId::RAPTORQ)),
        ("Raptor", with(EncodingId::RAPTOR)),
        ("Reed–Solomon", with(EncodingId::RS_GF28)),
    ]
}

/// The whole table, in Markdown. `objects` in the catalogue, `seeds` receivers for each row.
pub fn table(objects: usize, seeds: u64) -> String {
    let mut out = format!(
        "Written by `cargo xtask sim table`. {objects} objects of 30 kB to 1 MB, {seeds} receivers a row, {} Mbit/s. Losses are single packets, or bursts of eight on average.\n\
          Missing bytes are those after the first pass, for each gigabyte of objects.\n\n\
         | loss | code | overhead | complete in the first pass | passes to 99 % | passes to 100 % | MB missing per GB | encode s/GB | decode s/GB |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        RATE_BPS / 1_000_000
    );
    for (code, protection) in codes() {
        let pass = Pass::new(objects, protection);
        for loss in [0.01, 0.05, 0.1, 0.2] {
            for (kind, length) in [("single", 1.0), ("burst", 8.0)] {
                let profile = Profile { burst: linksim::Burst::new(loss, length), ..Profile::PERFECT };
                let all: Vec<Outcome> = (0..seeds).map(|seed| receive(&pass, profile, seed)).collect();
                let mean =
                    |of: &dyn Fn(&Outcome) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
                let most = |of: &dyn Fn(&Outcome) -> u32| match all.iter().map(of).min() {
                    Some(0) => format!("> {MAX_PASSES}"),
                    _ => all.iter().map(of).max().unwrap_or(0).to_string(),
                };
                let gb = pass.object_bytes as f64 / 1e9;
                let _ = writeln!(
                    out,
                    "| {:.0} % {kind} | {code} | {:.1} % | {:.2} % | {} | {} | {:.1} | {:.1} | {:.1} |",
                    loss * 100.0,
                    pass.overhead * 100.0,
                    mean(&|it| it.first_pass as f64) * 100.0 / pass.objects as f64,
                    most(&|it| it.passes_99),
                    most(&|it| it.passes_100),
                    mean(&|it| it.missing_bytes as f64) / 1e6 / gb,
                    pass.encode_s_per_gb,
                    mean(&|it| it.decode_s) / gb,
                );
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use headend::simulate::{Gilbert, Losses};

    #[test]
    fn a_tenth_of_raptorq_makes_a_bursty_pass_nearly_always_enough() {
        let [_, (_, raptorq), ..] = codes();
        let pass = Pass::new(24, raptorq);
        let complete: usize = (0..3).map(|seed| receive(&pass, Profile::burst(0.02), seed).first_pass).sum();
        assert!(complete >= 71, "{complete} of 72");
        let plain = Pass::new(24, Protection::NONE);
        let outcome = receive(&plain, Profile::burst(0.02), 1);
        assert!(outcome.first_pass < 20 && outcome.missing_bytes > 0, "{outcome:?}");
    }

    #[test]
    fn the_headends_simulation_expects_what_packets_do() {
        let [(_, none), (_, raptorq), ..] = codes();
        for (protection, loss, objects) in [(none, 0.001, 48), (raptorq, 0.07, 16)] {
            let pass = Pass::new(objects, protection);
            let burst = linksim::Burst::new(loss, 8.0);
            let receivers = if protection == none { 8 } else { 4 };
            let complete: usize = (0..receivers)
                .map(|seed| receive(&pass, Profile { burst, ..Profile::PERFECT }, seed).first_pass)
                .sum();
            let happened = complete as f64 / (objects as f64 * receivers as f64);
            let symbols: u64 = SIZES.iter().map(|&bytes| bytes as u64 / 1400).sum();
            let wave =
                headend::air::wave_symbols(RATE_BPS).min(symbols * objects as u64 / SIZES.len() as u64);
            let mut losses = Losses::new(Gilbert::new(loss, 8.0), 1400, wave);
            let whole = SIZES.iter().map(|&bytes| 1.0 - losses.of(bytes as u64, &protection).failure);
            let expected = whole.sum::<f64>() / SIZES.len() as f64;
            println!("whole after one pass: {happened:.3} of packets' objects, {expected:.3} expected");
            assert!((happened - expected).abs() < 0.12, "{happened} against {expected}");
            assert!((0.3..0.97).contains(&expected), "the comparison says nothing at {expected}");
        }
    }
}
