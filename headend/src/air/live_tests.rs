use carousel::alc::Packet;
use carousel::fec::{EncodingId, Protection};
use carousel::flute::SenderProfile;
use carousel::lct::{Toi, Tsi};
use carousel::time::WallTime;

use super::super::{Air, AirConfig, AirObject, IP_UDP_BYTES, MAX_DROPPED};
use super::*;

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);
const RAPTORQ: Protection = Protection {
    id: EncodingId::RAPTORQ,
    symbol_length: 0,
    overhead: 0.1,
    least_repair: 1,
    burst_packets: 0,
    block_bytes: 1 << 20,
};

/// A link of 8 Mbit/s, of which each service has so much.
fn air(by_service_bps: &[u64]) -> Air {
    let mut air = Air::new(AirConfig {
        rate_bps: 8_000_000,
        fdt_interval_ms: 1000,
        reserved_bps: by_service_bps.iter().sum(),
        reserved_by_service_bps: by_service_bps.to_vec(),
        drops_late: true,
        first_toi: 1,
        ..AirConfig::default()
    });
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    air
}

fn live(name: &str, length: usize, service: usize, segment_ms: u64, age: u32) -> AirObject {
    let timing = LiveTiming { age, ..LiveTiming::of(service, Some(segment_ms)) };
    AirObject::of_bytes(name, &vec![7; length], crate::object::Repeat::Live(timing))
}

/// TOIs of the packets of media from `from_ms` to `until_ms`, each with its time in milliseconds.
fn sent(air: &mut Air, from_ms: u64, until_ms: u64) -> Vec<(u64, u64)> {
    let (mut now_ns, mut out, mut all) = (from_ms * 1_000_000, Vec::new(), Vec::new());
    while now_ns < until_ms * 1_000_000 {
        if air.next_packet(now_ns, WALL, &mut out).is_none() {
            now_ns += 1_000_000;
            continue;
        }
        // Close flags have none.
        let toi = Packet::parse(&out).unwrap().lct.toi.map_or(0, |toi| toi.0);
        if toi != 0 {
            all.push((now_ns / 1_000_000, toi as u64));
        }
        now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
    }
    all
}

/// TOIs in the order of their first packets.
fn order(sent: &[(u64, u64)]) -> Vec<u64> {
    let mut order = Vec::new();
    for (_, toi) in sent {
        if !order.contains(toi) {
            order.push(*toi);
        }
    }
    order
}

fn last_ms(sent: &[(u64, u64)], toi: u64) -> u64 {
    sent.iter().filter(|(_, of)| *of == toi).map(|(ms, _)| *ms).max().unwrap()
}

#[test]
fn the_earliest_deadline_among_services_goes_first() {
    let mut air = air(&[2_000_000, 2_000_000, 2_000_000]);
    // TOIs 1 to 3: segments of six, two and four seconds, in the order in which they came.
    for (service, segment_ms) in [(0, 6000), (1, 2000), (2, 4000)] {
        air.add(0, live(&segment_ms.to_string(), 50_000, service, segment_ms, 0)).unwrap();
    }
    let first = sent(&mut air, 0, 1000);
    assert_eq!(order(&first), [2, 3, 1]);
    // And within a service, too: the sound of a channel whose picture is being sent, with an earlier deadline.
    air.add(0, live("picture", 100_000, 0, 6000, 0)).unwrap();
    let mut out = Vec::new();
    for _ in 0..10 {
        air.next_packet(1_000_000_000, WALL, &mut out).unwrap();
    }
    air.add(0, live("sound", 10_000, 0, 2000, 0)).unwrap();
    let after = sent(&mut air, 1000, 2000);
    assert!(last_ms(&after, 5) < last_ms(&after, 4), "{after:?}");
}

#[test]
fn a_deadline_is_missed_after_it_and_not_at_it() {
    let timing = LiveTiming::of(0, Some(2000));
    let deadline_ns = timing.within_ms * 1_000_000;
    for (drops_late, after) in [(true, Some(7)), (false, None)] {
        let mut live = Live::new(0, &[0], drops_late);
        live.push(7, timing);
        live.admit(0);
        assert_eq!(live.take_late(deadline_ns), None);
        assert_eq!(live.take_late(deadline_ns + 1), after);
    }
}

#[test]
fn a_service_beyond_its_reserve_delays_no_other() {
    let mut air = air(&[2_000_000, 2_000_000]);
    // Eight seconds at its rate, with the earlier deadline.
    air.add(0, live("heavy", 2_000_000, 0, 2000, 0)).unwrap();
    air.add(
        0,
        AirObject {
            repeat: crate::object::Repeat::Scheduled { popularity: 1.0 },
            ..live("film", 500_000, 0, 0, 0)
        },
    )
    .unwrap();
    let mut all = sent(&mut air, 0, 2000);
    for at in 2..6 {
        // TOIs from 3: a segment of 250 kB is a second of its service.
        air.add(0, live(&at.to_string(), 250_000, 1, 2000, 0)).unwrap();
        all.extend(sent(&mut air, at * 1000, at * 1000 + 1000));
        assert!(last_ms(&all, at + 1) < at * 1000 + 1000, "{at}");
    }
    // The carousel has what is not reserved, half of the link.
    let film = all.iter().filter(|(_, toi)| *toi == 2).count() as f64 * 1400.0 * 8.0 / 6.0;
    assert!((3_400_000.0..4_100_000.0).contains(&film), "{film}");
}

#[test]
fn what_a_service_leaves_of_its_reserve_is_for_the_others() {
    let mut air = air(&[1_000_000, 5_000_000]);
    air.add(0, live("heavy", 500_000, 0, 2000, 0)).unwrap();
    air.add(
        0,
        AirObject {
            repeat: crate::object::Repeat::Scheduled { popularity: 1.0 },
            ..live("film", 500_000, 0, 0, 0)
        },
    )
    .unwrap();
    let sent = sent(&mut air, 0, 2000);
    // 500 kB at 6 Mbit/s; at 1 Mbit/s it would take four seconds.
    assert!(last_ms(&sent, 1) < 800, "{}", last_ms(&sent, 1));
}

#[test]
fn at_a_start_the_newest_segment_goes_first_and_what_comes_meanwhile_before_the_old_ones() {
    let mut air = air(&[4_000_000]);
    // TOIs 1 to 4: the window as its manifest lists it, the oldest one first.
    for age in [3, 2, 1, 0] {
        air.add(0, live(&age.to_string(), 100_000, 0, 2000, age)).unwrap();
    }
    let mut all = sent(&mut air, 0, 150);
    assert_eq!(order(&all), [4, 3]);
    assert!(air.is_backlog(1) && air.is_backlog(3) && !air.is_backlog(4));
    air.add(0, live("new", 50_000, 0, 2000, 0)).unwrap();
    all.extend(sent(&mut air, 150, 2000));
    assert_eq!(order(&all), [4, 3, 5, 2, 1]);
    assert!(last_ms(&all, 5) < last_ms(&all, 3), "the one in progress waits, too");
    assert_eq!((air.stats().live_dropped.total(), air.stats().objects_sent), (0, 5));
}

#[test]
fn what_is_not_begun_by_its_deadline_is_dropped_and_counted() {
    let mut air = air(&[1_000_000]);
    air.add(
        0,
        AirObject {
            repeat: crate::object::Repeat::Scheduled { popularity: 1.0 },
            ..live("film", 500_000, 0, 0, 0)
        },
    )
    .unwrap();
    // Two seconds of the reserve each, and deadlines after three seconds: the third cannot be begun by its own.
    let ids: Vec<_> =
        ["a", "b", "c", "d"].map(|name| air.add(0, live(name, 250_000, 0, 1000, 0)).unwrap()).into();
    let all = sent(&mut air, 0, 10_000);
    assert_eq!(order(&all).iter().filter(|toi| **toi > 1).collect::<Vec<_>>(), [&2, &3]);
    assert_eq!(air.stats().live_dropped.labelled().collect::<Vec<_>>(), [("late", 2), ("removed", 0)]);
    assert!(air.has(ids[1]) && !air.has(ids[2]));
    assert_eq!(air.take_dropped().into_iter().collect::<Vec<_>>(), ids[2..]);
    assert!(air.take_dropped().is_empty(), "each is told once");
    let gone = air.add(0, live("e", 1000, 0, 1000, 0)).unwrap();
    air.withdraw(gone);
    air.withdraw(ids[0]);
    assert_eq!(air.stats().live_dropped.get(LiveDrop::Removed), 1, "what was sent is not a drop");
}

#[test]
fn a_single_pass_drops_nothing_and_sends_all_of_a_start() {
    let mut air = Air::new(AirConfig { once: true, drops_late: false, ..air(&[100_000]).config });
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    for age in 0..5 {
        air.add(0, live(&age.to_string(), 100_000, 0, 100, age % 2)).unwrap();
    }
    sent(&mut air, 0, 60_000);
    assert_eq!((air.stats().objects_sent, air.stats().live_dropped.total(), air.is_over()), (5, 0, true));
}

#[test]
fn rungs_of_one_moment_take_turns_so_that_a_burst_takes_little_of_each() {
    let mut air = air(&[8_000_000]);
    for (at, length) in [280_000, 140_000, 70_000, 14_000].into_iter().enumerate() {
        let object = AirObject { protection: RAPTORQ, ..live(&at.to_string(), length, 0, 2000, 0) };
        air.add(0, object).unwrap();
    }
    let first = sent(&mut air, 0, 2000);
    for burst in first.windows(24) {
        // A third rung has a seventh of the packets. Without turns the burst would take 24 of its 55.
        let of_third = burst.iter().filter(|(_, toi)| *toi == 3).count();
        assert!(of_third <= 5, "{of_third}");
    }
    // What comes later joins in where the others are, instead of all at once.
    for at in 0..2 {
        let object = AirObject { protection: RAPTORQ, ..live(&format!("l{at}"), 140_000, 0, 2000, 0) };
        air.add(0, object).unwrap();
        if at == 0 {
            sent(&mut air, 2000, 2040);
        }
    }
    let after = sent(&mut air, 2040, 3000);
    assert!(after.windows(8).take(60).all(|burst| burst.iter().filter(|(_, toi)| *toi == 6).count() <= 5));
}

#[test]
fn parts_of_small_objects_follow_apart() {
    let mut air = air(&[8_000_000]);
    let strong = Protection { burst_packets: 16, ..RAPTORQ };
    // Three and 100 source symbols.
    let small = air.add(0, AirObject { protection: strong, ..live("piece", 4000, 0, 2000, 0) }).unwrap();
    let mut all = sent(&mut air, 0, 50);
    assert_eq!(all.len(), 3);
    assert!(!air.is_pending(small), "who has lost nothing has it, and its manifest may follow");
    assert!(!air.cycle_done());
    air.add(0, AirObject { protection: strong, ..live("segment", 140_000, 0, 2000, 0) }).unwrap();
    all.extend(sent(&mut air, 50, 400));
    let of = |toi: u64| all.iter().filter(|it| it.1 == toi).map(|it| it.0).collect::<Vec<_>>();
    let (piece, segment) = (of(1), of(2));
    assert_eq!((piece.len(), segment.len()), (3 + 5, 100 + 18));
    assert!(piece[2] < 10 && (62..75).contains(&piece[3]) && piece[6] >= piece[5] + 60, "{piece:?}");
    assert!(
        segment.windows(2).all(|pair| pair[1] - pair[0] < 50),
        "a large one is sent in one go: {segment:?}"
    );
    assert_eq!(air.stats().objects_sent, 2);
    let gone = air.add(0, AirObject { protection: strong, ..live("gone", 4000, 0, 2000, 0) }).unwrap();
    assert_eq!(sent(&mut air, 400, 450).len(), 3);
    air.withdraw(gone);
    assert!(sent(&mut air, 450, 700).is_empty() && air.cycle_done());
    assert_eq!(air.stats().live_dropped.total(), 0);
}

/// A segment of sound: 13 source symbols, and one more than that of repair symbols and two.
#[test]
fn source_symbols_of_a_small_object_are_sent_in_two_parts() {
    let mut air = air(&[8_000_000]);
    let strong = Protection { burst_packets: 16, ..RAPTORQ };
    let sound = air.add(0, AirObject { protection: strong, ..live("sound", 13 * 1400, 0, 2000, 0) }).unwrap();
    let mut all = sent(&mut air, 0, 50);
    assert_eq!(all.len(), 7);
    assert!(air.is_pending(sound), "nobody has it yet");
    all.extend(sent(&mut air, 50, 110));
    assert_eq!(all.len(), 13);
    assert!(!air.is_pending(sound));
    all.extend(sent(&mut air, 110, 400));
    let starts: Vec<_> =
        all.windows(2).enumerate().filter(|(_, it)| it[1].0 - it[0].0 > 40).map(|(at, _)| at + 1).collect();
    assert_eq!((all.len(), starts), (13 + 15, vec![7, 13, 13 + 8]));
}

#[test]
fn the_last_packet_of_a_live_object_says_that_it_is_the_last() {
    let mut air = air(&[8_000_000]);
    air.add(0, AirObject { protection: RAPTORQ, ..live("sound", 4000, 0, 2000, 0) }).unwrap();
    let (mut out, mut closed) = (Vec::new(), Vec::new());
    for ms in 0..400 {
        if air.next_packet(ms * 1_000_000, WALL, &mut out).is_some() {
            let lct = Packet::parse(&out).unwrap().lct;
            closed.extend((lct.toi == Some(Toi(1))).then_some(lct.close_object));
        }
    }
    assert_eq!(
        closed,
        [false, false, false, false, false, true],
        "receivers need not wait to know that something is lost"
    );
}

#[test]
fn an_old_segment_goes_on_where_it_was_when_the_repair_symbols_of_another_are_due() {
    let mut air = air(&[8_000_000]);
    let strong = Protection { burst_packets: 4, ..RAPTORQ };
    // The window of a start: three packets of sound, and half a second of the link behind them.
    air.add(0, AirObject { protection: strong, ..live("sound", 4000, 0, 2000, 1) }).unwrap();
    air.add(0, AirObject { protection: strong, ..live("picture", 500_000, 0, 2000, 2) }).unwrap();
    let all = sent(&mut air, 0, 2000);
    let of = |toi: u64| all.iter().filter(|it| it.1 == toi).count();
    assert_eq!((of(1), of(2)), (8, 395), "{:?}", order(&all));
    assert_eq!((air.stats().objects_sent, air.cycle_done()), (2, true));
}

#[test]
fn a_live_object_is_described_once_more_when_it_ends() {
    for length in [4000, 140_000] {
        let mut air = air(&[8_000_000]);
        let strong = Protection { burst_packets: 16, ..RAPTORQ };
        air.add(0, AirObject { protection: strong, ..live("one", length, 0, 2000, 0) }).unwrap();
        let (mut now_ns, mut out, mut described_ms, mut last_ms) = (0, Vec::new(), Vec::new(), 0);
        while now_ns < 600_000_000 {
            now_ns += 1_500_000;
            if air.next_packet(now_ns, WALL, &mut out).is_some() {
                match Packet::parse(&out).unwrap().lct.toi.unwrap().0 {
                    0 => described_ms.push(now_ns / 1_000_000),
                    _ => last_ms = now_ns / 1_000_000,
                }
            }
        }
        assert_eq!(described_ms.len(), 2, "{described_ms:?}");
        assert!(described_ms[0] < 5 && described_ms[1].abs_diff(last_ms) < 15, "{described_ms:?} {last_ms}");
    }
}

#[test]
fn a_service_has_a_bounded_number_of_files_open() {
    let mut air = air(&[8_000_000]);
    let weak = Protection { overhead: 0.0, ..RAPTORQ };
    for at in 0..MAX_TURNS + 20 {
        air.add(0, AirObject { protection: weak, ..live(&at.to_string(), 12_000, 0, 2000, 0) }).unwrap();
    }
    let (mut out, mut now_ns, mut most) = (Vec::new(), 0, 0);
    while now_ns < 2_000_000_000 {
        now_ns += 1_000_000;
        air.next_packet(now_ns, WALL, &mut out);
        most = most.max(air.live.services[0].jobs.len());
    }
    assert!((MAX_TURNS - 1..=MAX_TURNS).contains(&most), "{most}");
    assert_eq!(air.stats().objects_sent, MAX_TURNS as u64 + 20);
}

#[test]
fn numbers_of_dropped_objects_are_bounded() {
    let mut air = air(&[8_000_000]);
    for at in 0..MAX_DROPPED + 10 {
        air.add(0, live(&at.to_string(), 10, 0, 1, 0)).unwrap();
    }
    let mut out = Vec::new();
    air.next_packet(0, WALL, &mut out);
    // Ten milliseconds later, of which each may wait three.
    for _ in 0..20 {
        air.next_packet(10_000_000, WALL, &mut out);
    }
    assert!(air.stats().live_dropped.get(LiveDrop::Late) as usize > MAX_DROPPED);
    assert_eq!(air.take_dropped().len(), MAX_DROPPED);
}
