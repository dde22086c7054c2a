//! Prospects of an absent object: whether the link may bring it, and how long a request waits for it.

use std::time::Duration;

use carousel::name::ObjectKey;

use super::missing::Missing;
use super::{HttpServer, manifest};
use crate::clock;
use crate::delivery::Announced;
use crate::services::Demand;

/// Wait for an object that is not announced although its host is on the air: by then a current FDT Instance has been
/// received.
const UNANNOUNCED_PATIENCE: Duration = Duration::from_secs(2);

/// Facts about an absent object.
pub(super) struct Prospects {
    /// Its announcement, if an FDT Instance describes it.
    pub(super) announced: Option<Announced>,
    /// The link may bring it soon: an FDT describes it, or its service is on the air and the FDT that names it may not have
    /// arrived yet.
    pub(super) is_expected: bool,
    /// An origin may be asked for it.
    pub(super) has_origin: bool,
    /// The groups of its service are not joined, for want of room.
    pub(super) is_unjoined: bool,
    pub(super) is_manifest: bool,
    /// Target duration of its live service, in milliseconds.
    pub(super) live_target_ms: Option<u64>,
    /// The same, while that service is on the air.
    pub(super) on_air_ms: Option<u64>,
    /// It may have been sent before its service was joined; live objects are not repeated, even if the FDT still lists
    /// them.
    pub(super) may_have_passed: bool,
}

impl Prospects {
    pub(super) fn of(server: &HttpServer, key: &ObjectKey, demand: Demand, has_origin: bool) -> Self {
        let live_target_ms = server.shared.manifests.live_target_ms(key);
        let on_air_ms = server.shared.manifests.on_air_target_ms(key, clock::now());
        let announced = server.shared.flights.announced(key.as_str());
        let (is_announced, is_joining) = (announced.is_some(), matches!(demand, Demand::Joining(_)));
        let is_signalled = || server.origins.is_signalled(key);
        Self {
            announced,
            is_expected: is_announced || on_air_ms.is_some() || is_joining || is_signalled(),
            has_origin,
            is_unjoined: demand == Demand::Refused,
            is_manifest: manifest::is_named(key.as_str(), None),
            live_target_ms,
            on_air_ms,
            may_have_passed: live_target_ms.is_some() && is_joining,
        }
    }

    pub(super) const fn is_announced(&self) -> bool {
        self.announced.is_some()
    }

    /// Whether its service is on the air and no origin has it.
    pub(super) const fn is_carried_alone(&self) -> bool {
        !self.has_origin && self.on_air_ms.is_some()
    }

    /// Wait for the link: a target duration if the service is on the air, at most `patience`.
    pub(super) fn patience(&self, patience: Duration) -> Duration {
        self.on_air_ms.map_or(patience, |target_ms| patience.min(Duration::from_millis(target_ms)))
    }

    /// Wait for the link after an origin, if one was asked, has answered `missing`. `None`: the link does not bring it.
    /// `has_begun`: serving began longer than `patience` ago.
    pub(super) fn patience_after(
        &self,
        missing: Option<&Missing>,
        patience: Duration,
        has_begun: bool,
    ) -> Option<Duration> {
        // An origin's refusal is final unless the service is live: then the segment may not have reached the origin yet,
        // and arrives within its own duration.
        let is_refused = !self.is_announced() && matches!(missing, Some(Missing::Refused(..=499)));
        if !self.is_expected || (is_refused && self.live_target_ms.is_none()) {
            return None;
        }
        let mut patience = self.patience(patience);
        // Its host is on the air, but it is not announced. After a start announcements are still arriving; later it does not
        // exist, and the player must get an answer.
        if !self.is_announced() && self.on_air_ms.is_none() && has_begun {
            patience = patience.min(UNANNOUNCED_PATIENCE);
        }
        match self.live_target_ms.filter(|_| is_refused) {
            Some(target_ms) => Some(patience.min(Duration::from_millis(target_ms))),
            None => Some(patience),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const EXPECTED: Prospects = Prospects {
        announced: None,
        is_expected: true,
        has_origin: false,
        is_unjoined: false,
        is_manifest: false,
        live_target_ms: None,
        on_air_ms: None,
        may_have_passed: false,
    };

    fn after_ms(prospects: &Prospects, missing: Option<&Missing>, has_begun: bool) -> Option<u128> {
        prospects.patience_after(missing, PATIENCE, has_begun).map(|it| it.as_millis())
    }

    #[test]
    fn the_link_is_waited_for_as_long_as_it_may_bring_an_object() {
        let refused = Some(&Missing::Refused(404));
        let failed = Some(&Missing::Refused(503));
        let unexpected = Prospects { is_expected: false, ..EXPECTED };
        assert_eq!(after_ms(&unexpected, None, false), None);
        // It is not announced.
        assert_eq!(after_ms(&EXPECTED, None, false), Some(10_000), "announcements are still coming");
        assert_eq!(after_ms(&EXPECTED, None, true), Some(2000));
        assert_eq!(after_ms(&EXPECTED, failed, true), Some(2000));
        assert_eq!(after_ms(&EXPECTED, refused, false), None, "the origin knows better");
        let announced = Prospects { announced: Some(Announced::default()), ..EXPECTED };
        for missing in [None, failed, refused] {
            assert_eq!(after_ms(&announced, missing, true), Some(10_000));
        }
        let live = Prospects { live_target_ms: Some(1500), ..EXPECTED };
        assert_eq!(after_ms(&live, None, true), Some(2000));
        assert_eq!(after_ms(&live, refused, true), Some(1500), "the origin may get it later than the box");
        let on_air = Prospects { live_target_ms: Some(6000), on_air_ms: Some(6000), ..EXPECTED };
        assert_eq!(after_ms(&on_air, None, true), Some(6000));
        assert_eq!(on_air.patience(Duration::from_secs(1)), Duration::from_secs(1));
    }
}
