//! Selection of the sessions of a multicast group that are received.

use std::sync::Arc;
use std::time::Duration;

use carousel::lct::Tsi;
use carousel::trust::Mode;

/// Sessions of a group that are received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// TSIs with their reception timeout; `None` in the list: every TSI.
    pub sessions: Vec<(Option<u64>, Option<Duration>)>,
    /// Their services by TSI, as far as they are announced; `None`: every TSI.
    pub services: Vec<(Option<u64>, Arc<str>)>,
    /// Packets may be of ROUTE: the protocol is determined for each packet. False: all packets are FLUTE.
    pub has_route: bool,
    /// Requirements on signatures.
    pub trust: Mode,
    /// The group is one of ATSC low-level signalling: its datagrams are tables.
    pub is_lls: bool,
}

impl SessionFilter {
    /// Every session.
    pub fn all() -> Self {
        Self { sessions: vec![(None, None)], has_route: true, ..Self::default() }
    }

    /// Tables of low-level signalling.
    pub fn lls() -> Self {
        Self { is_lls: true, ..Self::default() }
    }

    pub(super) fn wants(&self, tsi: Tsi) -> bool {
        self.sessions.iter().any(|(want, _)| want.is_none_or(|want| want == tsi.0))
    }

    /// The service of a session; empty if none is announced.
    pub(super) fn service(&self, tsi: Tsi) -> Arc<str> {
        of_session(&self.services, tsi).cloned().unwrap_or_default()
    }

    pub(super) fn reception_timeout(&self, tsi: Tsi) -> Option<Duration> {
        of_session(&self.sessions, tsi).copied().flatten()
    }
}

/// The entry of a TSI, or else that of every TSI.
fn of_session<T>(list: &[(Option<u64>, T)], tsi: Tsi) -> Option<&T> {
    let find = |tsi| list.iter().find(|(of, _)| *of == tsi).map(|(_, it)| it);
    find(Some(tsi.0)).or_else(|| find(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tsi_of_its_own_goes_before_every_tsi() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let filter =
            SessionFilter { sessions: vec![(None, ms(1)), (Some(7), ms(2))], ..SessionFilter::default() };
        assert!(filter.wants(Tsi(7)) && filter.wants(Tsi(8)));
        assert_eq!((filter.reception_timeout(Tsi(7)), filter.reception_timeout(Tsi(8))), (ms(2), ms(1)));
        let one = SessionFilter { sessions: vec![(Some(7), None)], ..SessionFilter::default() };
        assert!(one.wants(Tsi(7)) && !one.wants(Tsi(8)));
        assert!(!SessionFilter::default().wants(Tsi(7)));
        let filter = SessionFilter { services: vec![(None, "a".into()), (Some(7), "b".into())], ..filter };
        assert_eq!((&*filter.service(Tsi(7)), &*filter.service(Tsi(8))), ("b", "a"));
        assert_eq!(&*one.service(Tsi(7)), "");
    }
}
