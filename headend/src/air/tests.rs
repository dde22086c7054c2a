use super::*;
use crate::plan::Class;
use carousel::Digest;
use carousel::alc::Packet;
use carousel::flute::{Event, OpenRequest, Receiver, ReceiverConfig, Refusal, Storage, verify};
use carousel::time::Instant;

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

const CONFIG: AirConfig = AirConfig {
    rate_bps: 8_000_000,
    fdt_interval_ms: 100,
    cycle_ms: None,
    reserved_bps: 0,
    first_toi: 1,
    once: false,
    lead_ms: 0,
};

struct Shelf;
impl Storage for Shelf {
    type Buf = Vec<u8>;
    fn open(&mut self, request: &OpenRequest<'_>) -> Result<Vec<u8>, Refusal> {
        Ok(vec![0; request.length as usize])
    }
    fn name(&mut self, _: &mut Vec<u8>, _: &Arc<carousel::flute::File>) -> Result<(), Refusal> {
        Ok(())
    }
    fn write(&mut self, buf: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        buf[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
}

fn object(uri: &str, length: usize, max_period_ms: Option<u64>) -> AirObject {
    let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + uri.len()) as u8).collect();
    AirObject {
        uri: uri.to_owned(),
        content_type: "video/mp4".to_owned(),
        digest: Digest::of(&bytes),
        md5: carousel::digest::md5(&bytes),
        body: Body::Memory(bytes.into()),
        class: Class::Medium,
        repeat: max_period_ms.map_or(Repeat::Scheduled { popularity: 1.0 }, |ms| Repeat::Within { ms }),
        protection: Protection::NONE,
        ignored_query: Default::default(),
        expiry_s: None,
    }
}

/// Runs the air at 8 Mbit/s until it ends or `seconds` have passed; returns names in order of completion.
fn receive(air: &mut Air, seconds: u64) -> (Vec<String>, bool) {
    let mut receiver = Receiver::new(ReceiverConfig::default());
    let (mut names, mut closed, mut now_ns) = (Vec::new(), false, 0);
    let mut out = Vec::new();
    while now_ns < seconds * 1_000_000_000 {
        let Some(_) = air.next_packet(now_ns, WALL, &mut out) else {
            match air.next_due_ns() {
                Some(due) => now_ns = now_ns.max(due) + 1,
                None => break,
            }
            continue;
        };
        now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
        let packet = Packet::parse(&out).unwrap();
        receiver.handle_packet(Instant::from_nanos(now_ns), Some(WALL), &packet, &out, &mut Shelf);
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::Complete { file, buf, .. } => {
                    verify(&file, &buf).unwrap();
                    names.push(file.content_location.clone());
                }
                Event::SessionClosed => closed = true,
                _ => {}
            }
        }
    }
    (names, closed)
}

fn air(once: bool) -> Air {
    let mut air = Air::new(AirConfig { once, ..CONFIG });
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    air
}

#[test]
fn once_sends_everything_in_order_and_closes() {
    let mut air = air(true);
    for at in 0..20 {
        air.add(0, object(&format!("o{at}"), at * 3000, None)).unwrap();
    }
    let (names, closed) = receive(&mut air, 60);
    assert_eq!(names.len(), 20);
    assert!(closed);
    assert_eq!(air.stats().objects_sent, 20);
}

#[test]
fn a_cycle_ends_behind_the_last_byte_of_signalling() {
    let mut air = air(false);
    air.add(0, object("long.mpd", 300_000, Some(1000))).unwrap();
    let (mut receiver, mut out) = (Receiver::new(ReceiverConfig::default()), Vec::new());
    let (mut now_ns, mut is_complete) = (0, false);
    while !air.cycle_done() {
        if air.next_packet(now_ns, WALL, &mut out).is_some() {
            now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
            let packet = Packet::parse(&out).unwrap();
            receiver.handle_packet(Instant::from_nanos(now_ns), Some(WALL), &packet, &out, &mut Shelf);
        } else {
            now_ns = now_ns.max(air.next_due_ns().unwrap()) + 1;
        }
        while let Some(event) = receiver.poll_event() {
            is_complete |= matches!(event, Event::Complete { .. });
        }
    }
    assert!(is_complete);
}

#[test]
fn what_has_a_hard_period_is_repeated_within_it() {
    let mut air = air(false);
    air.add(0, object("manifest", 2000, Some(200))).unwrap();
    air.add(0, object("big", 5_000_000, None)).unwrap();
    let (mut out, mut now_ns, mut starts) = (Vec::new(), 0, Vec::new());
    while now_ns < 3_000_000_000 {
        air.next_packet(now_ns, WALL, &mut out).unwrap();
        let packet = Packet::parse(&out).unwrap();
        if packet.lct.toi == Some(Toi(1)) && packet.body.get(..4) == Some(&[0, 0, 0, 0]) {
            starts.push(now_ns);
        }
        now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
    }
    assert!(starts.len() >= 14, "{} starts", starts.len());
    // A period can slip by the few packets that are due at the same moment.
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] < 215_000_000), "{starts:?}");
}

#[test]
fn withdrawn_objects_stop_at_once_and_new_ones_go_first() {
    let mut air = air(false);
    let old = air.add(0, object("old", 4_000_000, None)).unwrap();
    let mut out = Vec::new();
    for step in 0..100 {
        air.next_packet(step, WALL, &mut out).unwrap();
    }
    air.withdraw(old);
    air.add(0, object("new", 3000, None)).unwrap();
    let (names, _) = receive(&mut air, 1);
    assert_eq!(names[0], "new");
    assert!(names.iter().all(|name| name == "new"));
}

#[test]
fn a_file_that_changed_leaves_the_air_instead_of_mixing_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seg.m4s");
    std::fs::write(&path, vec![1; 10_000]).unwrap();
    let (body, _) = Body::file(&path).unwrap();
    let mut air = air(false);
    let digest = Digest::of(&[1; 10_000]);
    let object =
        AirObject { digest, md5: carousel::digest::md5(&[1; 10_000]), body, ..object("seg", 0, None) };
    air.add(0, object).unwrap();
    std::fs::write(&path, vec![2; 9_000]).unwrap();
    let (names, _) = receive(&mut air, 1);
    assert!(names.is_empty());
    assert_eq!(air.stats().objects_broken_off, 1);
    assert_eq!(air.objects().count(), 0);
}

#[test]
fn a_single_pass_repeats_what_shows_the_way_before_the_media_begin() {
    let mut air = Air::new(AirConfig { once: true, lead_ms: 500, ..CONFIG });
    let session = air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    let way = air.add(session, object("way", 2000, Some(100))).unwrap();
    let media = air.add(session, object("media", 2000, None)).unwrap();
    let (mut now, mut out) = (0, Vec::new());
    while !air.is_over() && now < 10_000_000_000 {
        match air.next_packet(now, WALL, &mut out) {
            Some(_) => now += 1_000_000,
            None => now = air.next_due_ns().unwrap().max(now + 1),
        }
        assert!(now >= 500_000_000 || air.items[&media].starts == 0, "media at {now}");
    }
    assert!(air.is_over());
    assert_eq!((air.items[&way].starts, air.items[&media].starts), (6, 1), "and once more beside them");
}

#[test]
fn live_goes_out_at_its_reserved_rate_while_the_carousel_gets_the_rest() {
    let mut air = Air::new(AirConfig { reserved_bps: 2_000_000, ..CONFIG });
    air.open_session("239.1.1.1:5000".parse().unwrap(), Tsi(1), SenderProfile::default());
    air.add(0, object("film", 4_000_000, None)).unwrap();
    let segment = |name: &str| AirObject { repeat: Repeat::Never, ..object(name, 500_000, None) };
    air.add(0, segment("live1")).unwrap();
    let (mut out, mut now_ns, mut bytes) = (Vec::new(), 0, [0_usize; 3]);
    let mut last_ns = [0_u64; 3];
    while now_ns < 10_000_000_000 {
        if air.next_packet(now_ns, WALL, &mut out).is_some() {
            let toi = Packet::parse(&out).unwrap().lct.toi.unwrap().0 as usize;
            bytes[toi.min(2)] += out.len();
            last_ns[toi.min(2)] = now_ns;
        }
        now_ns += (out.len() + IP_UDP_BYTES) as u64 * 1000;
    }
    // 500 kB at 2 Mbit/s, of which a half second is saved up, is two seconds; it is sent once.
    assert!((500_000..540_000).contains(&bytes[2]), "{bytes:?}");
    assert!((1_000_000_000..2_000_000_000).contains(&last_ns[2]), "{last_ns:?}");
    assert!(bytes[1] > 8_000_000, "{bytes:?}");
    let (film, _) = (1, air.stats());
    assert!(air.has(film));
}
