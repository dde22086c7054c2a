//! Totals: counters and views of the state machine.

use carousel::flute::{InFlight, ReceiverStats, SessionKey};
use carousel::route;

use super::Delivery;
use crate::delivery::counters::{ObjectCounters, Totals};
use crate::delivery::storage::ObjectStore;

/// Statistics of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Counters of the receiver.
    pub receiver: ReceiverStats,
    /// Objects under reassembly.
    pub in_flight: usize,
    /// Files described.
    pub described: usize,
    /// State of the ROUTE receiver, if it is a channel of ROUTE.
    pub route: Option<Box<route::ChannelState>>,
}

impl<S: ObjectStore> Delivery<S> {
    /// All counters since the start.
    pub fn totals(&self) -> Totals {
        let mut packets = self.ended.clone();
        for (_, receiver) in self.sessions.iter() {
            packets += receiver.stats();
        }
        let objects =
            ObjectCounters { now: self.objects.counts(), repairs: self.repairs.outcomes, ..self.counters };
        let memory_bytes = self.memory.held_bytes() as u64;
        Totals { losses: self.losses, packets, route: self.live.totals(), objects, memory_bytes }
    }

    /// The current sessions.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionKey, SessionStats)> {
        let flute = self.sessions.iter().map(|(key, receiver)| {
            let stats = SessionStats {
                receiver: receiver.stats().clone(),
                in_flight: receiver.in_flight().count(),
                described: receiver.table().len(),
                route: None,
            };
            (*key, stats)
        });
        flute.chain(self.live.channels())
    }

    /// The objects under reassembly.
    pub fn incomplete(&self) -> impl Iterator<Item = (SessionKey, &InFlight<S::Buf>)> {
        self.sessions.iter().flat_map(|(key, receiver)| receiver.in_flight().map(move |it| (*key, it)))
    }

    /// Number of objects in flight in all sessions.
    pub fn in_flight(&self) -> usize {
        self.sessions.iter().map(|(_, receiver)| receiver.in_flight().count()).sum()
    }
}
