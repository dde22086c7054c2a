use super::*;

fn pass(link: &mut Link, count: u32) -> Vec<u32> {
    let mut out = Vec::new();
    for number in 0..count {
        let now = u64::from(number) * 1_000_000;
        link.send(now, &number.to_be_bytes());
        while let Some(bytes) = link.poll(now) {
            out.push(u32::from_be_bytes(bytes.try_into().unwrap()));
        }
    }
    out.extend(link.drain().map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap())));
    out
}

#[test]
fn a_perfect_link_changes_nothing() {
    let all: Vec<u32> = (0..1000).collect();
    assert_eq!(pass(&mut Link::new(1, Profile::PERFECT), 1000), all);
}

#[test]
fn the_same_seed_does_the_same() {
    let once = pass(&mut Link::new(42, Profile::bad_cable()), 5000);
    assert_eq!(once, pass(&mut Link::new(42, Profile::bad_cable()), 5000));
    assert_ne!(once, pass(&mut Link::new(43, Profile::bad_cable()), 5000));
}

#[test]
fn losses_come_in_bursts_of_the_length_asked_for() {
    for loss in [0.01, 0.05, 0.2] {
        let mut link = Link::new(9, Profile::burst(loss));
        let arrived = pass(&mut link, 200_000);
        let lost = 1.0 - arrived.len() as f64 / 200_000.0;
        assert!((lost / loss - 1.0).abs() < 0.15, "asked for {loss}, got {lost}");
        assert_eq!(link.stats().lost, 200_000 - arrived.len() as u64);
        let bursts = arrived.windows(2).filter(|pair| pair[1] - pair[0] > 1).count();
        let mean = link.stats().lost as f64 / bursts as f64;
        assert!((6.0..10.5).contains(&mean), "bursts of {mean}");
    }
}

#[test]
fn an_outage_is_dark_by_the_clock() {
    let outage = Some(Outage { every_ns: 1_000_000_000, lasts_ns: 100_000_000 });
    let arrived = pass(&mut Link::new(3, Profile { outage, ..Profile::PERFECT }), 2000);
    assert_eq!(arrived.len(), 1800);
    assert!(!arrived.contains(&950) && arrived.contains(&850));
}

#[test]
fn delay_holds_packets_back_until_their_time() {
    let mut link = Link::new(3, Profile { delay_ns: 10, ..Profile::PERFECT });
    link.send(5, b"x");
    assert!(link.poll(14).is_none());
    assert_eq!(link.poll(15).as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_bad_cable_duplicates_reorders_and_corrupts() {
    let mut link = Link::new(5, Profile::bad_cable());
    pass(&mut link, 50_000);
    let stats = link.stats();
    assert!(stats.duplicated > 100 && stats.reordered > 250 && stats.corrupted > 20 && stats.lost > 250);
}

#[test]
fn profiles_have_names() {
    assert_eq!(Profile::by_name("burst:0.05"), Some(Profile::burst(0.05)));
    assert_eq!(Profile::by_name("rain_fade"), Some(Profile::rain_fade()));
    assert_eq!(Profile::by_name("burst:7"), None);
    assert_eq!(Profile::by_name("sunshine"), None);
}
