//! `cargo xtask bench receive`: what a packet costs, from memory and from a loopback socket, beside a bare loop and the
//! `flute` crate, in one run.
//!
//! Every contender gets the same packets, round by round in turn, so that what the machine does meanwhile hits all
//! alike. Time is the processor time of the receiving thread; digests are made by another thread, as in the daemon, and
//! shown apart. "Fresh file" means pages that the kernel has to find and clear first: whoever writes into a cache pays
//! for that, so the bare loop does too.
//!
//! `--instructions carousel|repeats|repair|nothing` does one of them a few times, for callgrind; `cargo xtask bench receive` runs
//! that too where valgrind is installed. `strace -c` of `--instructions repair` counts the system calls of the receive thread.

mod arena;
mod contenders;
#[path = "../../../carousel/tests/counting/mod.rs"]
mod counting;
mod finishing;
mod meter;
mod packets;
mod sockets;

use std::path::Path;

use contenders::{Bare, Contender, FluteCrate, Ours, OursInMemory, Target};
use meter::{Cost, Table};
use packets::Stream;

/// Datagrams of a batch: what 32 messages of 8 datagrams each bring, a modest load.
const BATCH: usize = 256;
/// Parts that are measured; all where the command line names none.
const PARTS: [&str; 5] = ["memory", "repair", "sockets", "finishing", "arena"];
/// Source symbols that are lost where repair symbols are measured, per cent.
const LOSS_PERCENT: usize = 10;
/// Rounds; the first is thrown away.
const ROUNDS: usize = 7;

fn main() {
    // `cargo bench` and `cargo test --benches` add arguments of their own.
    let quick = std::env::args().any(|argument| argument == "--test");
    let (objects, rounds) = if quick { (2, 2) } else { (48, ROUNDS) };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut arguments = std::env::args().skip_while(|argument| argument != "--instructions");
    if arguments.next().is_some() {
        return instructions(arguments.next().as_deref(), folder.path());
    }
    let wanted = |part: &str| {
        let mut parts = std::env::args().filter(|it| PARTS.contains(&it.as_str())).peekable();
        parts.peek().is_none() || parts.any(|it| it == part)
    };
    let stream = Stream::new(objects, 1 << 20);
    println!(
        "{} packets of {} bytes payload: {objects} objects of 1 MiB, no-code FLUTE; cache in {}\n",
        stream.data_packets(),
        packets::SYMBOL_BYTES,
        folder.path().display()
    );
    if wanted("memory") {
        from_memory(&stream, rounds, folder.path());
    }
    if wanted("repair") {
        with_repair(&stream, rounds, folder.path());
    }
    if wanted("sockets") {
        sockets::from_loopback(&stream, rounds, folder.path());
    }
    if wanted("arena") {
        arena::beside_the_page_cache(&stream, rounds, folder.path());
    }
    if wanted("finishing") {
        finishing::scaling(if quick { 2 } else { 12 }, rounds, folder.path());
    }
}

/// Work to be counted by callgrind, and the number of packets.
fn instructions(what: Option<&str>, folder: &Path) {
    const PASSES: usize = 16;
    let stream = Stream::new(4, 1 << 20);
    let lossy = Stream::with_loss(4, 1 << 20, LOSS_PERCENT);
    let mut held = Ours::new(&stream, folder);
    stream.each(|packet| held.packet(packet));
    assert_eq!(held.whole(), stream.objects());
    for _ in 0..PASSES {
        match what {
            Some("carousel") => {
                let mut ours = OursInMemory::new(&stream);
                stream.each(|packet| ours.packet(packet));
                assert_eq!(ours.whole(), stream.objects());
            }
            Some("repeats") => stream.each(|packet| held.packet(packet)),
            Some("repair") => _ = received(&lossy, folder),
            // What comes before, to be taken off.
            _ => {}
        }
    }
    println!("packets {}", stream.packets() * PASSES);
}

/// Everything that the daemon does with a stream, in batches.
fn received(stream: &Stream, folder: &Path) -> Cost {
    let mut ours = Ours::new(stream, folder);
    let mut in_batch = 0;
    let cost = Cost::of(|| {
        stream.each(|packet| {
            ours.packet(packet);
            in_batch = (in_batch + 1) % BATCH;
            if in_batch == 0 {
                ours.end_batch();
            }
        });
        ours.end_batch();
    });
    assert_eq!(ours.whole(), stream.objects());
    cost
}

/// The receive thread's part of objects with repair symbols; decoding is another thread's.
fn with_repair(stream: &Stream, rounds: usize, folder: &Path) {
    let lossy = Stream::with_loss(stream.objects(), stream.object_bytes(), LOSS_PERCENT);
    let mut table = Table::new("into the store, of symbols", "source alone");
    for round in 0..rounds {
        table.add("source alone", round, received(stream, folder), stream);
        table.add("source, a tenth lost, and repair", round, received(&lossy, folder), &lossy);
    }
    table.print();
}

fn from_memory(stream: &Stream, rounds: usize, folder: &Path) {
    let mut table = Table::new("from memory", "bare: header, bitmap, copy → fresh file");
    let mut repeat = Table::new("repeats of what is held", "bare: header, bitmap");
    for round in 0..rounds {
        let mut contenders: Vec<(&str, Box<dyn Contender>)> = vec![
            ("memcpy of the payload → warm memory", Box::new(Bare::new(stream, Target::Copy, folder))),
            ("bare: header, bitmap, copy → warm memory", Box::new(Bare::new(stream, Target::Warm, folder))),
            ("bare: header, bitmap, copy → fresh file", Box::new(Bare::new(stream, Target::File, folder))),
            ("carousel → warm memory", Box::new(OursInMemory::new(stream))),
            ("skycached → store (fresh file)", Box::new(Ours::new(stream, folder))),
            ("flute crate → Vec", Box::new(FluteCrate::new())),
        ];
        for (name, contender) in &mut contenders {
            let mut in_batch = 0;
            let cost = Cost::of(|| {
                stream.each(|packet| {
                    contender.packet(packet);
                    in_batch = (in_batch + 1) % BATCH;
                    if in_batch == 0 {
                        contender.end_batch();
                    }
                });
                contender.end_batch();
            });
            assert_eq!(contender.whole(), stream.objects(), "{name}: not every object became whole");
            table.add(name, round, cost, stream);
        }
        let mut ours = Ours::new(stream, folder);
        stream.each(|packet| ours.packet(packet));
        assert_eq!(ours.whole(), stream.objects());
        let mut bare = Bare::new(stream, Target::Warm, folder);
        stream.each(|packet| bare.packet(packet));
        let again = Cost::of(|| stream.each(|packet| bare.packet(packet)));
        repeat.add("bare: header, bitmap", round, again, stream);
        let again = Cost::of(|| stream.each(|packet| ours.packet(packet)));
        repeat.add("skycached", round, again, stream);
    }
    table.print();
    repeat.print();
}
