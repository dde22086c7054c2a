//! Named profiles of links.

/// Gilbert–Elliott's two states: per packet probabilities of changing over, and of loss in each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// Good to bad.
    pub good_to_bad: f64,
    /// Bad to good; its inverse is the mean length of a burst in packets.
    pub bad_to_good: f64,
    /// Loss in the good state.
    pub loss_good: f64,
    /// Loss in the bad state.
    pub loss_bad: f64,
}

impl Burst {
    /// Nothing is lost.
    pub const NONE: Self = Self { good_to_bad: 0.0, bad_to_good: 1.0, loss_good: 0.0, loss_bad: 0.0 };

    /// All is lost in bursts of `mean_packets` on average, and `loss` of all packets in the long run (0 to 0.9).
    pub fn new(loss: f64, mean_packets: f64) -> Self {
        let bad_to_good = 1.0 / mean_packets.max(1.0);
        let loss = loss.clamp(0.0, 0.9);
        Self {
            good_to_bad: (bad_to_good * loss / (1.0 - loss)).min(1.0),
            bad_to_good,
            loss_good: 0.0,
            loss_bad: 1.0,
        }
    }
}

/// The link is gone for a while, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// From one outage's begin to the next's.
    pub every_ns: u64,
    /// Its duration.
    pub lasts_ns: u64,
}

impl Outage {
    pub(crate) const fn is_out(&self, now_ns: u64) -> bool {
        // Each period ends with the outage, so that a link begins well.
        self.every_ns > 0 && now_ns % self.every_ns >= self.every_ns.saturating_sub(self.lasts_ns)
    }
}

/// Faults of a link. Probabilities are per packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// Loss.
    pub burst: Burst,
    /// Long losses.
    pub outage: Option<Outage>,
    /// A packet comes out twice.
    pub duplicate: f64,
    /// A packet comes out behind up to `reorder_depth` later ones.
    pub reorder: f64,
    /// See `reorder`; at least 1.
    pub reorder_depth: u32,
    /// One bit is flipped.
    pub corrupt: f64,
    /// Propagation time.
    pub delay_ns: u64,
}

impl Profile {
    /// A perfect link.
    pub const PERFECT: Self = Self {
        burst: Burst::NONE,
        outage: None,
        duplicate: 0.0,
        reorder: 0.0,
        reorder_depth: 1,
        corrupt: 0.0,
        delay_ns: 0,
    };

    /// `loss` of all packets in bursts of eight: what is left of a DVB-S2 frame error after MPE or GSE, since one frame
    /// of 8PSK 3/4 (48,408 bits) holds four packets and errors come in runs.
    pub fn burst(loss: f64) -> Self {
        Self { burst: Burst::new(loss, 8.0), ..Self::PERFECT }
    }

    /// Quasi error free, seen from a geostationary satellite: one packet in 100,000, 250 ms away.
    pub fn clear_sky() -> Self {
        Self { burst: Burst::new(1e-5, 4.0), delay_ns: 250_000_000, ..Self::PERFECT }
    }

    /// Heavy rain: a fifth is lost in long fades, and ten seconds of every two minutes are dark.
    pub fn rain_fade() -> Self {
        let outage = Outage { every_ns: 120_000_000_000, lasts_ns: 10_000_000_000 };
        Self { burst: Burst::new(0.2, 200.0), outage: Some(outage), delay_ns: 250_000_000, ..Self::PERFECT }
    }

    /// A bad plug between dish and box, or a cheap switch: single losses, duplicates, packets out of order, flipped
    /// bits that a checksum of 0 lets through.
    pub fn bad_cable() -> Self {
        Self {
            burst: Burst::new(0.01, 1.0),
            duplicate: 0.005,
            reorder: 0.01,
            reorder_depth: 16,
            corrupt: 0.001,
            ..Self::PERFECT
        }
    }

    /// The profile of this name; `burst:0.05` gives the loss. `None` if there is none.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "perfect" => Some(Self::PERFECT),
            "clear_sky" => Some(Self::clear_sky()),
            "rain_fade" => Some(Self::rain_fade()),
            "bad_cable" => Some(Self::bad_cable()),
            _ => {
                let loss: f64 = name.strip_prefix("burst:")?.parse().ok()?;
                (0.0..=0.9).contains(&loss).then(|| Self::burst(loss))
            }
        }
    }
}
