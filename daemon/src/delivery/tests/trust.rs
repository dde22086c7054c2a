//! Signed carousels among unsigned, forged, replayed, delayed and truncated ones.

use carousel::trust::{Certificate, Mode, Policy, RevocationList, Sealer, SecretKey, Trust, TrustDrop};

use super::*;

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn sealer(root: u8, online: u8, revoked: &[u8]) -> Sealer {
    let (root, online) = (secret(root), secret(online));
    // The key after one that is revoked begins the next epoch, as `headend keygen` makes it.
    let epoch = u32::from(!revoked.is_empty());
    let certificate = Certificate::issue(&root, online.public(), (epoch, 1), (0, u64::MAX), Vec::new());
    let revoked: Vec<_> = revoked.iter().map(|&seed| secret(seed).public().id()).collect();
    let list = (!revoked.is_empty()).then(|| RevocationList::issue(&root, 1, revoked));
    Sealer::new(online, certificate, list, 0).unwrap()
}

fn world(seed: u64, mode: Mode) -> (World, Arc<Trust>) {
    let mut world = World::new(seed, Profile::burst(0.0), Origin::None, 3600);
    let policy = Policy { mode, keys: vec![secret(1).public()], ..Policy::default() };
    let trust = Arc::new(Trust::new(policy));
    world.delivery.set_trust(Arc::clone(&trust));
    world.filter.trust = mode;
    (world, trust)
}

/// The packets of a carousel with these objects: FDT first.
fn packets_of(
    signing: Option<Sealer>,
    first_toi: u32,
    wall: WallTime,
    objects: &[(&str, Vec<u8>)],
) -> Vec<Vec<u8>> {
    packets_of_stream("s", signing, first_toi, wall, objects)
}

/// As [`packets_of`], signed for the stream of this name.
fn packets_of_stream(
    stream: &str,
    signing: Option<Sealer>,
    first_toi: u32,
    wall: WallTime,
    objects: &[(&str, Vec<u8>)],
) -> Vec<Vec<u8>> {
    let profile = SenderProfile { symbol_length: 100, fdt_page_bytes: 4000, ..SenderProfile::default() };
    let mut sender = Sender::new(Tsi(7), profile, first_toi, first_toi);
    if let Some(sealer) = signing {
        sender.sign_with(sealer, "tag:a".to_owned(), stream.to_owned());
    }
    let tois: Vec<Toi> =
        objects.iter().map(|(name, body)| sender.add(SendFile::of(*name, body)).unwrap()).collect();
    sender.refresh_fdt(wall).unwrap();
    let mut packets = Vec::new();
    for page in 0..sender.fdt_pages() {
        for packet in 0..sender.fdt_packets(page) {
            let mut out = Vec::new();
            sender.write_fdt(page, packet, &mut out);
            packets.push(out);
        }
    }
    for (toi, (_, body)) in tois.iter().zip(objects) {
        let partition = *sender.partition(*toi).unwrap();
        for symbol in 0..partition.symbols {
            let range = partition.byte_range(symbol);
            let mut out = Vec::new();
            sender.write_packet(
                *toi,
                symbol,
                &body[range.start as usize..range.end as usize],
                false,
                &mut out,
            );
            packets.push(out);
        }
    }
    packets
}

fn is_fdt(packet: &&Vec<u8>) -> bool {
    carousel::alc::Packet::parse(packet).unwrap().lct.toi == Some(Toi::FDT)
}

const NAMES: [&str; 3] = ["http://h/a.m4s", "http://h/b.m4s", "http://h/master.m3u8"];

fn bodies(kind: u8, version: u8) -> Vec<(&'static str, Vec<u8>)> {
    let body =
        |at: usize| (0..700 + at).map(move |it| kind ^ version.wrapping_mul(31) ^ (it as u8) ^ at as u8);
    NAMES.iter().enumerate().map(|(at, name)| (*name, body(at).collect())).collect()
}

/// The senders; all but the first are attackers.
#[derive(Debug, Clone, Copy)]
enum Attack {
    /// Without a signature.
    Unsigned,
    /// Signed by an untrusted key.
    Untrusted,
    /// The honest FDT with bytes changed, and the attacker's bytes under its TOIs.
    Forged,
    /// An older version of the honest carousel.
    Replayed,
    /// Honest packets, cut short.
    Truncated,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// At no interleaving is anything held that the honest sender has not signed, nor an older version after a newer one; and
    /// after the attack one honest cycle brings everything.
    #[test]
    fn nothing_forged_is_held_at_any_interleaving(
        seed in any::<u64>(),
        attacks in proptest::collection::vec((0..5_u8, any::<bool>()), 1..6),
        has_date in any::<bool>(),
    ) {
        let (mut world, trust) = world(seed, Mode::Require);
        let mut rng = Rng::new(seed);
        let signing = sealer(1, 2, &[]);
        let versions: Vec<_> = (0..3_u8).map(|version| {
            let wall = START.plus_ms(i64::from(version) * 10_000);
            packets_of(Some(signing.clone()), 1 + 100 * u32::from(version), wall, &bodies(0, version))
        }).collect();
        let mut streams: Vec<(std::net::SocketAddr, Vec<Vec<u8>>)> = Vec::new();
        for (at, (kind, is_spoofed)) in attacks.iter().enumerate() {
            let attack = [Attack::Unsigned, Attack::Untrusted, Attack::Forged, Attack::Replayed, Attack::Truncated]
                [usize::from(*kind)];
            let theirs = bodies(0x80, at as u8);
            let packets = match attack {
                Attack::Unsigned => packets_of(None, 1, START, &theirs),
                Attack::Untrusted => packets_of(Some(sealer(8, 9, &[])), 201, START.plus_ms(999_999), &theirs),
                Attack::Forged => {
                    let mut packets: Vec<_> = versions[2].iter().filter(is_fdt).cloned().collect();
                    packets.iter_mut().for_each(|it| *it.last_mut().unwrap() ^= 1);
                    packets.extend(packets_of(None, 201, START, &theirs).into_iter().filter(|it| !is_fdt(&it)));
                    packets
                }
                Attack::Replayed => versions[0].clone(),
                Attack::Truncated => versions[2].iter().map(|it| it[..it.len() * 2 / 3].to_vec()).collect(),
            };
            let from = if *is_spoofed { source() } else { "10.0.0.66:1".parse().unwrap() };
            streams.push((from, packets));
        }
        let honest: HashMap<&str, Vec<Digest>> = NAMES.iter().enumerate()
            .map(|(at, name)| (*name, (0..3).map(|version| Digest::of(&bodies(0, version)[at].1)).collect()))
            .collect();
        let mut newest: HashMap<String, usize> = HashMap::new();
        let mut check = |world: &World| {
            for (name, digest) in &world.delivery.store.held {
                let version = honest[name.as_str()].iter().position(|it| it == digest);
                let before = newest.entry(name.clone()).or_default();
                assert!(version.is_some_and(|version| version >= *before), "{name}: {version:?} after {before}");
                *before = version.unwrap();
            }
        };
        for packets in &versions {
            streams.push((source(), packets.clone()));
            let mut at = vec![0; streams.len()];
            // Some packets are kept back, and come again much later.
            let mut delayed = Vec::new();
            while at.iter().zip(&streams).any(|(at, (_, packets))| *at < packets.len()) {
                let which = rng.below(streams.len() as u64) as usize;
                let (from, packets) = &streams[which];
                let Some(packet) = packets.get(at[which]).cloned() else { continue };
                let from = *from;
                at[which] += 1;
                world.now = world.now + Duration::from_micros(100);
                if rng.below(8) == 0 {
                    delayed.push((from, packet.clone()));
                }
                if has_date { world.arrive_from(from, &packet) } else { arrive_undated(&mut world, from, &packet) }
                check(&world);
            }
            for (from, packet) in delayed {
                world.arrive_from(from, &packet);
                check(&world);
            }
            streams.pop();
            world.pass(Duration::from_secs(3));
            check(&world);
        }
        // The attack is over: one cycle, and one more where spoofed symbols had come into honest objects.
        for packet in versions[2].iter().chain(&versions[2]) {
            world.arrive_from(source(), packet);
            check(&world);
        }
        for (at, name) in NAMES.iter().enumerate() {
            prop_assert_eq!(world.delivery.store.held.get(*name), Some(&Digest::of(&bodies(0, 2)[at].1)), "{}", name);
        }
        prop_assert!(trust.report().accepted > 0);
    }
}

fn arrive_undated(world: &mut World, from: std::net::SocketAddr, packet: &[u8]) {
    let destination = DESTINATION.parse().unwrap();
    world.delivery.handle_datagram(world.now, || None, from, destination, &world.filter, packet);
    world.settle();
}

#[test]
fn untrusted_senders_reserve_nothing() {
    let (mut world, trust) = world(1, Mode::Require);
    let theirs = packets_of(None, 1, START, &bodies(0x80, 1));
    for packet in theirs.iter().skip(1).chain(&theirs) {
        world.arrive(packet);
        assert_eq!(world.delivery.store.room.0.load(Ordering::Relaxed), 0);
    }
    assert_eq!((world.announced, world.delivery.totals().objects.entered), (0, 0));
    assert_eq!(trust.report().refused[TrustDrop::Unsigned as usize], 1);
}

#[test]
fn a_key_that_is_revoked_during_reception_leaves_no_gap_for_the_next() {
    let (mut world, trust) = world(2, Mode::Require);
    let first = packets_of(Some(sealer(1, 2, &[])), 1, START, &bodies(0, 0));
    // Half of the first cycle, by the key that will be revoked.
    for packet in &first[..first.len() / 2] {
        world.arrive(packet);
    }
    // The thief has the old key, and drives its versions up.
    let thief = packets_of(Some(sealer(1, 2, &[])), 201, START.plus_ms(9_000_000), &bodies(0x80, 9));
    thief.iter().filter(is_fdt).for_each(|packet| world.arrive(packet));
    let second = packets_of(Some(sealer(1, 3, &[2])), 101, START.plus_ms(1000), &bodies(0, 1));
    second.iter().filter(is_fdt).for_each(|packet| world.arrive(packet));
    world.pass(Duration::from_secs(1));
    for (honest, theirs) in second.iter().zip(&thief) {
        world.arrive(theirs);
        world.arrive(honest);
    }
    for packet in &second {
        world.arrive(packet);
    }
    for (at, name) in NAMES.iter().enumerate() {
        assert_eq!(world.delivery.store.held.get(*name), Some(&Digest::of(&bodies(0, 1)[at].1)), "{name}");
    }
    assert!(trust.report().refused[TrustDrop::Revoked as usize] > 0);
}

/// Packets in their order within each sender's list, the lists interleaved at random; `check` looks at the box after each.
fn interleave(
    world: &mut World,
    rng: &mut Rng,
    lists: &[(std::net::SocketAddr, &[Vec<u8>])],
    check: &mut impl FnMut(&World),
) {
    let mut at = vec![0; lists.len()];
    while at.iter().zip(lists).any(|(at, (_, packets))| *at < packets.len()) {
        let which = rng.below(lists.len() as u64) as usize;
        let (from, packets) = lists[which];
        let Some(packet) = packets.get(at[which]) else { continue };
        at[which] += 1;
        world.now = world.now + Duration::from_micros(100);
        world.arrive_from(from, packet);
        check(world);
    }
}

/// One headend over its life: key 2 signs, key 3 joins it while both count, key 2 is stolen, revoked and followed by key 4 of the next
/// epoch. From then on the thief sends beside the headend, in the headend's name or from an address of its own. The box restarts
/// in 1970, where for a while it hears the thief alone.
#[test]
fn a_rotation_a_revocation_and_a_restart_in_1970_leave_no_gap_and_nothing_of_the_revoked_key() {
    const VERSIONS: u8 = 5;
    let digests: Vec<Vec<Digest>> = (0..VERSIONS)
        .map(|version| bodies(0, version).iter().map(|(_, body)| Digest::of(body)).collect())
        .collect();
    for seed in 0..48 {
        let (mut world, trust) = world(seed, Mode::Require);
        let mut rng = Rng::new(seed);
        let thief = if seed & 1 == 0 { "10.0.0.66:1".parse().unwrap() } else { source() };
        let honest: Vec<_> = (0..VERSIONS)
            .zip([
                sealer(1, 2, &[]),
                sealer(1, 3, &[]),
                sealer(1, 2, &[]),
                sealer(1, 4, &[2]),
                sealer(1, 4, &[2]),
            ])
            .map(|(version, sealer)| {
                let wall = START.plus_ms(i64::from(version) * 10_000);
                packets_of(Some(sealer), 1 + 100 * u32::from(version), wall, &bodies(0, version))
            })
            .collect();
        let mut theirs = bodies(0x80, 9);
        theirs.push(("http://h/theirs.m4s", vec![0x99; 900]));
        let stolen =
            |stream| packets_of_stream(stream, Some(sealer(1, 2, &[])), 801, START.plus_ms(999_999), &theirs);
        // In the headend's stream, where they outrank its versions, and in a stream of their own.
        let (over, beside) = (stolen("s"), stolen("theirs"));
        // What has come once stays there, of the honest headend, and never an older version after a newer one.
        let mut newest: HashMap<String, usize> = HashMap::new();
        let mut check = |world: &World| {
            let held = &world.delivery.store.held;
            for (name, before) in &newest {
                assert!(held.contains_key(name), "seed {seed}: {name} of version {before} is gone");
            }
            for (name, digest) in held {
                let at = NAMES.iter().position(|it| it == name);
                let at = at.unwrap_or_else(|| panic!("seed {seed}: {name} is not the headend's"));
                let version = digests.iter().position(|it| it[at] == *digest);
                let before = newest.entry(name.clone()).or_default();
                assert!(
                    version.is_some_and(|it| it >= *before),
                    "seed {seed}: {name}: {version:?} after {before}"
                );
                *before = version.unwrap();
            }
        };
        let has_all = |world: &World, version: u8| {
            for (name, digest) in NAMES.iter().zip(&digests[usize::from(version)]) {
                assert_eq!(
                    world.delivery.store.held.get(*name),
                    Some(digest),
                    "seed {seed}: {name} of {version}"
                );
            }
        };
        // Rotation: while both keys count, one cycle of whichever has the newest version brings it.
        for version in 0..3_u8 {
            let before = &honest[usize::from(version.saturating_sub(1))][..];
            let now = &honest[usize::from(version)][..];
            interleave(&mut world, &mut rng, &[(source(), now), (source(), before)], &mut check);
            has_all(&world, version);
        }
        // Revocation, in reception: some boxes hear descriptions by the thief just before. The objects come at once.
        if seed & 2 == 0 {
            let early: Vec<_> = beside.iter().filter(is_fdt).cloned().collect();
            interleave(&mut world, &mut rng, &[(thief, &early)], &mut check);
            assert_eq!(trust.report().refused[TrustDrop::Revoked as usize], 0);
        }
        let list: Vec<_> = honest[3].iter().filter(is_fdt).cloned().collect();
        interleave(&mut world, &mut rng, &[(source(), &list)], &mut check);
        let attacks = [(thief, &over[..]), (thief, &beside[..])];
        for _ in 0..2 {
            let lists = [&attacks[..], &[(source(), &honest[3][..])]].concat();
            interleave(&mut world, &mut rng, &lists, &mut check);
            world.pass(Duration::from_secs(2));
            check(&world);
        }
        // Where sessions with descriptions by the revoked key have ended, theirs are received again.
        interleave(&mut world, &mut rng, &[(source(), &honest[3])], &mut check);
        has_all(&world, 3);
        assert!(trust.report().refused[TrustDrop::Revoked as usize] > 0, "seed {seed}");
        // The box restarts in 1970, with what is on its disk.
        let held = std::mem::take(&mut world.delivery.store.held);
        let memory = trust.memory();
        let (mut world, trust) = self::world(seed ^ 0x1970, Mode::Require);
        assert!(trust.recall(&memory));
        world.delivery.store.held = held;
        world.is_dated = false;
        interleave(&mut world, &mut rng, &attacks, &mut check);
        world.pass(Duration::from_secs(2));
        check(&world);
        has_all(&world, 3);
        assert!(trust.report().refused[TrustDrop::Revoked as usize] > 0, "seed {seed}");
        let lists = [&attacks[..], &[(source(), &honest[4][..])]].concat();
        interleave(&mut world, &mut rng, &lists, &mut check);
        interleave(&mut world, &mut rng, &[(source(), &honest[4])], &mut check);
        has_all(&world, 4);
        assert!(trust.report().accepted > 0, "seed {seed}");
    }
}

#[test]
fn a_box_without_a_date_receives_and_keeps_old_recordings_out() {
    let (mut world, trust) = world(3, Mode::Require);
    let signing = sealer(1, 2, &[]);
    // A session that has long been over, of the same headend.
    let old = packets_of(Some(signing.clone()), 301, START.plus_ms(-7_200_000), &bodies(0, 0));
    let now = packets_of(Some(signing), 1, START, &bodies(0, 1));
    for packet in &now {
        arrive_undated(&mut world, source(), packet);
    }
    let other = "10.0.0.66:1".parse().unwrap();
    for packet in &old {
        arrive_undated(&mut world, other, packet);
    }
    for (at, name) in NAMES.iter().enumerate() {
        assert_eq!(world.delivery.store.held.get(*name), Some(&Digest::of(&bodies(0, 1)[at].1)), "{name}");
    }
    assert_eq!(trust.report().refused[TrustDrop::Expired as usize], 1);
}

#[test]
fn route_is_refused_where_signatures_are_required() {
    let (sender, mut packet) = (carousel::route::Sender::new(100), Vec::new());
    for (mode, is_refused) in [(Mode::Require, true), (Mode::Prefer, false), (Mode::Off, false)] {
        let (mut world, _) = world(4, mode);
        world.filter.has_route = true;
        packet.clear();
        sender.write_source((10, Toi(1)), 8, 0, Some(4), b"live", &mut packet).unwrap();
        world.arrive(&packet);
        let totals = world.delivery.totals();
        let counted = (totals.losses.unsigned_protocol, totals.route.packets);
        assert_eq!(counted, (u64::from(is_refused), u64::from(!is_refused)), "{mode:?}");
        assert!(world.delivery.store.held.is_empty());
        // All of the object, and more, reserve, begin and hold nothing.
        for toi in 2..40 {
            packet.clear();
            sender.write_source((10, Toi(toi)), 8, 0, Some(4), b"live", &mut packet).unwrap();
            world.arrive(&packet);
        }
        let (live_bytes, room) =
            (world.delivery.live.held_bytes(), world.delivery.store.room.0.load(Ordering::Relaxed));
        assert_eq!((live_bytes == 0, room), (is_refused, 0), "{mode:?}");
        assert_eq!(world.delivery.totals().losses.unsigned_protocol, 39 * u64::from(is_refused));
    }
}
