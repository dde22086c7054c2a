//! A lossy one-way link in a function call.
//!
//! Packets go in with the time, and come out later, twice, changed, or never. No socket, no clock, no thread: equal seeds
//! and profiles have the same effect on the same packets, so a failing story is replayed by its seed. Sockets around it
//! make a real link.
//!
//! ```
//! use linksim::{Link, Profile};
//! let mut link = Link::new(7, Profile::burst(0.05));
//! let mut arrived = 0;
//! for number in 0..10_000_u32 {
//!     link.send(0, &number.to_be_bytes());
//!     while link.poll(0).is_some() {
//!         arrived += 1;
//!     }
//! }
//! let lost = 1.0 - f64::from(arrived) / 10_000.0;
//! assert!((0.02..0.10).contains(&lost), "{lost}");
//! ```

mod profile;
mod rng;

use std::collections::VecDeque;

pub use profile::{Burst, Outage, Profile};
pub use rng::Rng;

/// Counters of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Packets put in.
    pub sent: u64,
    /// Packets that never came out.
    pub lost: u64,
    /// Packets that came out twice.
    pub duplicated: u64,
    /// Packets that came out behind later ones.
    pub reordered: u64,
    /// Packets with a flipped bit.
    pub corrupted: u64,
}

/// A packet on the link.
#[derive(Debug)]
struct Due {
    at_ns: u64,
    bytes: Vec<u8>,
}

/// The link. See the module head.
#[derive(Debug)]
pub struct Link {
    profile: Profile,
    rng: Rng,
    fading: bool,
    on_the_way: VecDeque<Due>,
    held_back: Vec<(u32, Vec<u8>)>,
    stats: LinkStats,
}

impl Link {
    /// A link in its good state.
    pub fn new(seed: u64, profile: Profile) -> Self {
        Self {
            profile,
            rng: Rng::new(seed),
            fading: false,
            on_the_way: VecDeque::new(),
            held_back: Vec::new(),
            stats: LinkStats::default(),
        }
    }

    /// Puts a packet in. `now_ns` counts from anywhere but must not go back.
    pub fn send(&mut self, now_ns: u64, packet: &[u8]) {
        self.stats.sent += 1;
        let at_ns = now_ns + self.profile.delay_ns;
        if self.loses(now_ns) {
            self.stats.lost += 1;
        } else {
            let mut bytes = packet.to_vec();
            if !bytes.is_empty() && self.rng.chance(self.profile.corrupt) {
                self.stats.corrupted += 1;
                let bit = self.rng.below(bytes.len() as u64 * 8);
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            let twice = self.rng.chance(self.profile.duplicate).then(|| bytes.clone());
            if self.rng.chance(self.profile.reorder) {
                self.stats.reordered += 1;
                let behind = 1 + self.rng.below(u64::from(self.profile.reorder_depth)) as u32;
                self.held_back.push((behind, bytes));
            } else {
                self.on_the_way.push_back(Due { at_ns, bytes });
            }
            if let Some(bytes) = twice {
                self.stats.duplicated += 1;
                self.on_the_way.push_back(Due { at_ns, bytes });
            }
        }
        self.release(at_ns);
    }

    /// The next packet that is out at `now_ns`.
    pub fn poll(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        if self.on_the_way.front()?.at_ns > now_ns {
            return None;
        }
        self.on_the_way.pop_front().map(|due| due.bytes)
    }

    /// Everything that is still on the way, at once: the end of a story.
    pub fn drain(&mut self) -> impl Iterator<Item = Vec<u8>> {
        let held = self.held_back.drain(..).map(|(_, bytes)| bytes);
        self.on_the_way.drain(..).map(|due| due.bytes).chain(held)
    }

    /// From here on the link is another.
    pub fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
    }

    /// Its counters.
    pub const fn stats(&self) -> LinkStats {
        self.stats
    }

    /// Gilbert–Elliott: two states, each with its own loss; and outages by the clock.
    fn loses(&mut self, now_ns: u64) -> bool {
        if self.profile.outage.is_some_and(|outage| outage.is_out(now_ns)) {
            return true;
        }
        let Burst { good_to_bad, bad_to_good, loss_good, loss_bad } = self.profile.burst;
        let flips = if self.fading { bad_to_good } else { good_to_bad };
        if self.rng.chance(flips) {
            self.fading = !self.fading;
        }
        self.rng.chance(if self.fading { loss_bad } else { loss_good })
    }

    fn release(&mut self, at_ns: u64) {
        let out = &mut self.on_the_way;
        self.held_back.retain_mut(|(behind, bytes)| {
            if *behind == 0 {
                out.push_back(Due { at_ns, bytes: std::mem::take(bytes) });
                return false;
            }
            *behind -= 1;
            true
        });
    }
}

#[cfg(test)]
mod tests;
