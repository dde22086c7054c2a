//! `cargo xtask bench trust`: what signatures cost a receiver. A live session of one representation of 5 Mbit/s, whose FDT Instance
//! changes with each segment of four seconds, as packets to objects in memory with their digests verified: with signatures required, and
//! without. And a signed document alone, new and repeated.
//!
//! `--instructions signed|unsigned|judge|repeat|nothing` does one of them, for callgrind.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant as Clock;

use carousel::Digest;
use carousel::alc::Template;
use carousel::flute::{
    Event, File, OpenRequest, Receiver, ReceiverConfig, Refusal, SendFile, Sender, SenderProfile,
    SessionTrust, Storage, examine,
};
use carousel::lct::{Toi, Tsi};
use carousel::time::{Instant, WallTime};
use carousel::trust::{
    Allowance, BLANK, Certificate, Edition, Judged, Kind, Mode, Policy, Sealer, SecretKey, Stream, Trust,
};

const SYMBOL_BYTES: usize = 1400;
/// Four seconds of 5 Mbit/s.
const SEGMENT_BYTES: usize = 2_500_000;
const SEGMENT_MS: i64 = 4000;
/// Segments that the FDT Instance describes at a time.
const WINDOW: usize = 15;
const TSI: u64 = 10;
const START_MS: i64 = 1_900_000_000_000;
const ROUNDS: usize = 21;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|it| it == "--instructions") {
        instructions(arguments.get(at + 1).map_or("nothing", String::as_str));
        return;
    }
    let (segments, documents, rounds) =
        if arguments.iter().any(|it| it == "--test") { (2, 2, 1) } else { (8, 64, ROUNDS) };
    let (signed, unsigned, all) =
        (Session::new(segments, true), Session::new(segments, false), made(documents));
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        let mut timed = |at: usize, work: &mut dyn FnMut(), parts: usize| {
            let begin = Clock::now();
            work();
            times[at].push(begin.elapsed().as_secs_f64() * 1e6 / parts as f64);
        };
        timed(0, &mut || signed.receive(), segments);
        timed(1, &mut || unsigned.receive(), segments);
        let trust = trust();
        timed(2, &mut || all.iter().for_each(|it| judge(&trust, it)), all.len());
        timed(3, &mut || all.iter().for_each(|_| judge(&trust, &all[all.len() - 1])), all.len());
    }
    println!("{:<42} {:>9} (least–most)", "", "µs");
    let names = [
        "a segment of 2.5 MB, signatures required",
        "a segment of 2.5 MB",
        "a signed document of 15 files, new",
        "the same once more",
    ];
    for (name, times) in names.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        println!(
            "{name:<42} {:>9.1} ({:.1}–{:.1})",
            times[times.len() / 2],
            times[0],
            times[times.len() - 1]
        );
    }
    let share = times[2][times[2].len() / 2] / times[0][times[0].len() / 2];
    println!("\na new document takes {:.2} % of the time of the segment that it describes", share * 100.0);
}

fn instructions(what: &str) {
    const DOCUMENTS: usize = 64;
    const SEGMENTS: usize = 4;
    // Everything is made in each run, to be taken off with that of `nothing`.
    let (signed, unsigned) = (Session::new(SEGMENTS, true), Session::new(SEGMENTS, false));
    let (trust, all) = (trust(), made(DOCUMENTS));
    judge(&trust, &all[0]);
    match what {
        "signed" => signed.receive(),
        "unsigned" => unsigned.receive(),
        "judge" => all[1..].iter().for_each(|it| judge(&trust, it)),
        "repeat" => all[1..].iter().for_each(|_| judge(&trust, &all[0])),
        _ => {}
    }
    let is_session = matches!(what, "signed" | "unsigned");
    println!("packets {}", if is_session { signed.packets.len() } else { DOCUMENTS - 1 });
}

fn root() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn sealer() -> Sealer {
    let online = SecretKey::from_seed(&[2; 32]);
    let certificate = Certificate::issue(&root(), online.public(), (0, 1), (0, u64::MAX), Vec::new());
    Sealer::new(online, certificate, None, 0).expect("keys that belong together")
}

fn trust() -> Trust {
    Trust::new(Policy { mode: Mode::Require, keys: vec![root().public()], ..Policy::default() })
}

fn judge(trust: &Trust, document: &[u8]) {
    let wall = Some(WallTime::from_unix_ms(START_MS));
    let judged = Judged {
        kind: Kind::Fdt,
        bytes: black_box(document),
        tsi: Some(TSI),
        mode: Mode::Require,
        allowance: Allowance::Untrusted(0),
    };
    let by = trust.judge(Instant::from_nanos(1), wall, &judged);
    assert!(matches!(black_box(by), Ok(Some(_))), "genuine and new");
}

/// Signed documents of [`WINDOW`] files, each newer than the one before.
fn made(count: usize) -> Vec<Vec<u8>> {
    let stream = Stream { service: "tag:a".to_owned(), name: "239.1.1.1:5000/10".to_owned(), tsi: TSI };
    let sealer = sealer();
    let document = |version: usize| {
        let file = |at: usize| {
            let digest = Digest::of(&at.to_be_bytes()).to_field();
            format!(
                "<File TOI=\"{at}\" Content-Location=\"http://cdn.example.com/live/720p/{at}.m4s\" Content-Length=\"{SEGMENT_BYTES}\" Content-Digest=\"{digest}\"/>\n"
            )
        };
        let files: String = (version..version + WINDOW).map(file).collect();
        let edition = Edition {
            version: version as u64 + 1,
            floor: 0,
            page: 0,
            issued: START_MS as u64 / 1000,
            until: START_MS as u64 / 1000 + 3600,
        };
        let document = format!("<FDT-Instance{BLANK} Expires=\"4000000000\">\n{files}</FDT-Instance>");
        sealer.seal_xml(Kind::Fdt, &stream, &edition, &document).into_bytes()
    };
    (0..count).map(document).collect()
}

/// The packets of a live session.
struct Session {
    packets: Vec<Vec<u8>>,
    segments: usize,
    is_signed: bool,
}

impl Session {
    fn new(segments: usize, is_signed: bool) -> Self {
        let profile = SenderProfile { symbol_length: SYMBOL_BYTES as u16, ..SenderProfile::default() };
        let mut sender = Sender::new(Tsi(TSI), profile, 1, 1);
        if is_signed {
            sender.sign_with(sealer(), "tag:a".to_owned(), "239.1.1.1:5000/10".to_owned());
        }
        let body = |at: usize| -> Vec<u8> {
            (0..SEGMENT_BYTES).map(|it| (it * 31 + (it >> 9) + at) as u8).collect()
        };
        let mut packets = Vec::new();
        let mut tois: Vec<Toi> = Vec::new();
        for at in 0..segments {
            let body = body(at);
            if tois.len() >= WINDOW {
                sender.withdraw(tois.remove(0));
            }
            let toi = sender
                .add(SendFile::of(format!("http://cdn.example.com/live/720p/{at}.m4s"), &body))
                .expect("fits");
            tois.push(toi);
            sender.refresh_fdt(WallTime::from_unix_ms(START_MS + at as i64 * SEGMENT_MS)).expect("FDT");
            let mut out = Vec::new();
            // The FDT Instance once a second.
            let symbols: Vec<&[u8]> = body.chunks(SYMBOL_BYTES).collect();
            let a_second = symbols.len().div_ceil(SEGMENT_MS as usize / 1000);
            for (symbol, bytes) in symbols.into_iter().enumerate() {
                if symbol % a_second == 0 {
                    for page in 0..sender.fdt_pages() {
                        for packet in 0..sender.fdt_packets(page) {
                            assert!(sender.write_fdt(page, packet, &mut out));
                            packets.push(out.clone());
                        }
                    }
                }
                assert!(sender.write_packet(toi, symbol as u64, bytes, false, &mut out));
                packets.push(out.clone());
            }
        }
        Self { packets, segments, is_signed }
    }

    /// Receives all of it, and verifies the digests of its objects.
    fn receive(&self) {
        let wall = Some(WallTime::from_unix_ms(START_MS));
        let trust = self.is_signed.then(|| SessionTrust {
            trust: Arc::new(trust()),
            mode: Mode::Require,
            service: Arc::default(),
            sender: 0,
        });
        let mut receiver = Receiver::new(ReceiverConfig { trust, ..ReceiverConfig::default() });
        let (mut template, mut storage, mut complete) = (Template::default(), Memory, 0);
        for packet in &self.packets {
            let Ok(parsed) = template.parse(black_box(packet)) else { continue };
            receiver.handle_packet(Instant::from_nanos(1), wall, &parsed, packet, &mut storage);
            while let Some(event) = receiver.poll_event() {
                if let Event::Complete { file, buf, .. } = event {
                    assert!(examine(&file, &buf).is_ok_and(|it| it.checked));
                    complete += 1;
                }
            }
        }
        assert_eq!(complete, self.segments);
    }
}

struct Memory;

impl Storage for Memory {
    type Buf = Vec<u8>;
    fn open(&mut self, request: &OpenRequest<'_>) -> Result<Vec<u8>, Refusal> {
        Ok(vec![0; request.length as usize])
    }
    #[inline]
    fn write(&mut self, buf: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        buf[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    fn name(&mut self, _: &mut Vec<u8>, _: &Arc<File>) -> Result<(), Refusal> {
        Ok(())
    }
}
