//! Repair parameters that senders signal, by session.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use carousel::flute::SessionKey;
use carousel::mabr::RepairParameters;
use carousel::repair::BackOff;

/// Group of a session, its TSI if the parameters are only for that one, and the parameters.
type Rule = (SocketAddr, Option<u64>, Arc<RepairParameters>);

/// `UnicastRepairParameters` of the configured sessions: at most one entry for each session.
#[derive(Debug, Default)]
pub struct RuleBook(RwLock<Vec<Rule>>);

impl RuleBook {
    /// Replaces all rules.
    pub fn set(&self, rules: impl Iterator<Item = (SocketAddr, Option<u64>, RepairParameters)>) {
        let rules = rules.map(|(address, tsi, repair)| (address, tsi, Arc::new(repair))).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// The rule of a session.
    pub fn get(&self, session: &SessionKey) -> Option<Arc<RepairParameters>> {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of_group = |rule: &&Rule| rule.0 == session.destination;
        let exact = rules.iter().filter(of_group).find(|rule| rule.1 == Some(session.tsi.0));
        exact
            .or_else(|| rules.iter().filter(of_group).find(|rule| rule.1.is_none()))
            .map(|rule| Arc::clone(&rule.2))
    }
}

/// The back-off before a repair (TS 103 769 clause 9.2): the sender's if it signals one, otherwise `default`.
pub(super) fn back_off(rule: Option<&RepairParameters>, default: BackOff) -> BackOff {
    match rule {
        Some(rule) if rule.fixed_back_off_ms > 0 || rule.random_back_off_ms > 0 => BackOff {
            fixed: Duration::from_millis(rule.fixed_back_off_ms),
            random: Duration::from_millis(rule.random_back_off_ms),
        },
        _ => default,
    }
}

/// URLs at which the sender offers the object `name`, without disabled ones, in a weighted random order.
pub fn signalled_urls(rule: &RepairParameters, name: &str, random: u64) -> Vec<String> {
    let mut bases: Vec<&(String, u32)> = rule.base_urls.iter().filter(|(_, weight)| *weight > 0).collect();
    let sum: u64 = bases.iter().map(|(_, weight)| u64::from(*weight)).sum();
    if sum == 0 {
        return Vec::new();
    }
    let mut draw = random % sum;
    let first = bases.iter().position(|(_, weight)| {
        let hit = draw < u64::from(*weight);
        draw = draw.saturating_sub(u64::from(*weight));
        hit
    });
    bases.rotate_left(first.unwrap_or(0));
    let under = |base: &str| {
        let own = rule.transport_object_base_uri.as_deref();
        own.and_then(|own| name.strip_prefix(own)).or_else(|| name.strip_prefix(base)).map(str::to_owned)
    };
    let url = |(base, _): &(String, u32)| {
        let rest = under(base)?;
        Some(format!("{}/{}", base.trim_end_matches('/'), rest.trim_start_matches('/')))
    };
    bases.into_iter().filter_map(url).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use carousel::lct::Tsi;

    fn rule() -> RepairParameters {
        RepairParameters {
            transport_object_base_uri: Some("http://dvb.gw/op/".into()),
            base_urls: vec![
                ("http://a.example/x".into(), 1),
                ("http://off.example/".into(), 0),
                ("http://b.example/".into(), 3),
            ],
            ..RepairParameters::default()
        }
    }

    #[test]
    fn base_urls_are_drawn_by_weight_and_the_others_follow() {
        let first = |random| signalled_urls(&rule(), "http://dvb.gw/op/v/1.m4s", random);
        assert_eq!(first(0), ["http://a.example/x/v/1.m4s", "http://b.example/v/1.m4s"]);
        for random in 1..4 {
            assert_eq!(first(random)[0], "http://b.example/v/1.m4s");
        }
        assert!(signalled_urls(&rule(), "http://elsewhere/1.m4s", 0).is_empty());
    }

    #[test]
    fn a_sessions_own_rule_goes_before_its_groups() {
        let book = RuleBook::default();
        let address: SocketAddr = "239.0.0.1:6000".parse().unwrap();
        let with = |fixed_back_off_ms| RepairParameters { fixed_back_off_ms, ..RepairParameters::default() };
        book.set([(address, None, with(1)), (address, Some(7), with(2))].into_iter());
        let of = |tsi| {
            let session =
                SessionKey { source: "10.0.0.1".parse().unwrap(), destination: address, tsi: Tsi(tsi) };
            book.get(&session).unwrap().fixed_back_off_ms
        };
        assert_eq!((of(7), of(8)), (2, 1));
        let own = BackOff { fixed: Duration::from_millis(9), random: Duration::from_millis(8) };
        assert_eq!(back_off(Some(&with(5)), own).fixed, Duration::from_millis(5));
        assert_eq!(back_off(Some(&with(0)), own), own);
    }
}
