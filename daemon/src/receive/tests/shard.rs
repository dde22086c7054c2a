//! Running shards: what they take from transport streams, their statistics, their end. And the queue of their commands.

use std::collections::HashMap;
use std::time::Instant;

use super::*;
use crate::delivery::SessionFilter;
use crate::vitals::Vitals;

/// Waits until `done`; panics after much longer than it can take.
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_shard_publishes_what_comes_inside_a_transport_stream_for_its_groups_only() {
    let folder = tempfile::tempdir().unwrap();
    let (context, kept, vitals) = (context(&folder), Kept::default(), Vitals::default());
    let finishing = Finishing::with_workers(2, &context, &kept, &vitals).unwrap();
    let (repairs, _requests) = tokio::sync::mpsc::channel(1);
    let shard =
        Shard::start(3, context.clone(), &vitals, options(), Arc::default(), &finishing, repairs).unwrap();
    let bodies: Vec<Vec<u8>> = (0..20).map(|at| vec![at; 1000]).collect();
    let names: Vec<String> = (0..20).map(|at| format!("http://h/{at}")).collect();
    let files: Vec<(&str, Option<&str>, &[u8])> =
        names.iter().zip(&bodies).map(|(name, body)| (name.as_str(), None, body.as_slice())).collect();
    let (fdt, objects) = session(&files);
    let destination = object(1).session.destination;
    let batch = |destination: std::net::SocketAddr| {
        let mut batch = AirDatagrams::default();
        for packet in fdt.iter().chain(objects.iter().flatten()) {
            batch.push("10.0.0.1:7".parse().unwrap(), destination, packet);
        }
        batch
    };
    let count = batch(destination).len() as u64;
    let sender = shard.sender();
    let expected = HashMap::from([(destination, SessionFilter::all())]);
    assert!(sender.send(Command::Expect(Arc::new(expected))));
    assert!(sender.send(Command::Air(batch(destination))));
    assert!(sender.send(Command::Air(batch("239.9.9.9:9".parse().unwrap()))));
    wait_until("all objects are held", || context.store.usage().objects == 20);
    wait_until("statistics", || context.stats.totals().objects.held == 20);
    let totals = context.stats.totals();
    assert_eq!((totals.losses.datagrams, totals.losses.other_group), (2 * count, count));
    assert!(totals.reconcile(), "{totals:?}");
    assert_eq!(context.stats.sessions().len(), 1);
    assert_eq!(vitals.standing_still(crate::clock::now()), Vec::<String>::new());
    // The group is no longer expected: its session is closed.
    assert!(sender.send(Command::Expect(Arc::default())));
    wait_until("the session is closed", || context.stats.sessions().is_empty());
    assert_eq!(context.stats.totals().objects.held, 20, "no counter falls");
    shard.stop();
    assert!(!sender.send(Command::Stop), "it has ended");
}

#[test]
fn a_full_queue_of_commands_refuses_and_takes_again() {
    let (sender, received) = channel();
    let most = (0..10_000).take_while(|at| sender.try_send(Command::Request(object(*at)))).count();
    assert_eq!(most, 256);
    assert!(matches!(received.try_recv(), Ok(Command::Request(first)) if first == object(0)));
    assert!(sender.try_send(Command::Request(object(1))) && !sender.try_send(Command::Request(object(2))));
    drop(received);
    assert!(!sender.try_send(Command::Request(object(1))));
}

#[test]
fn a_group_is_always_the_same_shards() {
    let addresses: Vec<std::net::SocketAddr> =
        (0..200_u16).map(|at| format!("239.0.{at}.1:{}", 6000 + at).parse().unwrap()).collect();
    for shards in 1..=4 {
        let mut seen = vec![0; shards];
        for address in &addresses {
            let shard = shard_of(address, shards);
            assert_eq!(shard, shard_of(address, shards));
            seen[shard] += 1;
        }
        assert!(seen.iter().all(|count| *count > 200 / shards / 3), "{seen:?}");
    }
}
