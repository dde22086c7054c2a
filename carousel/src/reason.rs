//! Enums of reasons: variant, metric label and help sentence of every drop, miss and give-up in one table.
//!
//! [`reasons!`](crate::reasons) writes the enum, its labels and its sentences from one list, so that `/metrics`, messages
//! and the reference page cannot differ. `cargo xtask reference` reads the same lists from the sources and writes
//! `docs/reference/limits.md`.
//!
//! ```
//! carousel::reasons! {
//!     /// Why a packet is dropped.
//!     pub enum Dropped in "example_dropped_packets" by "reason" {
//!         /// No session has its address.
//!         NoSession = "no_session",
//!         /// It is shorter than its header.
//!         TooShort = "too_short",
//!     }
//! }
//! assert_eq!(Dropped::ALL, [Dropped::NoSession, Dropped::TooShort]);
//! assert_eq!(Dropped::TooShort.as_str(), "too_short");
//! assert_eq!(Dropped::TooShort.help(), "It is shorter than its header.");
//! assert_eq!(Dropped::METRIC, Some(("example_dropped_packets", "reason")));
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// An enum that [`reasons!`](crate::reasons) has made; for code that is generic over such enums.
pub trait Reason: Copy + fmt::Display + 'static {
    /// Every variant, in declaration order.
    const VARIANTS: &'static [Self];
    /// Family and label under which the daemon exports the counters (without the prefix `skycache_`); `None` if the enum
    /// appears in messages and reports only.
    const METRIC: Option<(&'static str, &'static str)>;

    /// Value of the label in metrics, JSON and logs: lower case with underscores.
    fn label(self) -> &'static str;
    /// One sentence for documentation.
    fn sentence(self) -> &'static str;
    /// Place in [`Reason::VARIANTS`].
    fn index(self) -> usize;
}

/// A counter for each variant of an enum of reasons; threads share it.
#[derive(Debug)]
pub struct Counts<R> {
    counters: Box<[AtomicU64]>,
    of: PhantomData<R>,
}

impl<R: Reason> Default for Counts<R> {
    fn default() -> Self {
        Self { counters: R::VARIANTS.iter().map(|_| AtomicU64::new(0)).collect(), of: PhantomData }
    }
}

impl<R: Reason> Counts<R> {
    /// Counts one more. Gives back how many there were before.
    pub fn add(&self, why: R) -> u64 {
        self.add_many(why, 1)
    }

    /// Adds `more`. Returns the count before.
    pub fn add_many(&self, why: R, more: u64) -> u64 {
        self.counters[why.index()].fetch_add(more, Relaxed)
    }

    /// Number of one variant.
    pub fn get(&self, why: R) -> u64 {
        self.counters[why.index()].load(Relaxed)
    }

    /// Labels and counts, in the order of [`Reason::VARIANTS`].
    pub fn labelled(&self) -> impl Iterator<Item = (&'static str, u64)> {
        R::VARIANTS.iter().map(|why| (why.label(), self.get(*why)))
    }
}

/// Declares an enum of reasons: each variant has its help sentence as its documentation and its label behind `=`.
///
/// `in "family" by "label"` names the metric of the daemon that counts the variants. See [`reason`](crate::reason) for an
/// example. The enum gets `ALL`, `as_str`, `help`, `Display` (the label) and [`Reason`]; `as usize` is
/// the place in `ALL`.
#[macro_export]
macro_rules! reasons {
    (
        $(#[$about:meta])*
        $vis:vis enum $name:ident $(in $family:literal by $key:literal)? {
            $( $(#[doc = $help:literal])+ $variant:ident = $label:literal, )+
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $( $(#[doc = $help])+ $variant, )+
        }

        #[allow(dead_code)] // each enum uses what it needs
        impl $name {
            /// Every variant, in declaration order: `as usize` is the place in it.
            $vis const ALL: [Self; [$($label),+].len()] = [$(Self::$variant),+];
            /// Metric family and label that count the variants.
            $vis const METRIC: Option<(&'static str, &'static str)> = $crate::reasons!(@metric $($family, $key)?);

            /// Label in metrics, JSON and logs.
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $label, )+
                }
            }

            /// One sentence for documentation.
            $vis const fn help(self) -> &'static str {
                match self {
                    $( Self::$variant => concat!($($help),+).trim_ascii(), )+
                }
            }
        }

        impl $crate::reason::Reason for $name {
            const VARIANTS: &'static [Self] = &Self::ALL;
            const METRIC: Option<(&'static str, &'static str)> = Self::METRIC;

            fn label(self) -> &'static str {
                self.as_str()
            }

            fn sentence(self) -> &'static str {
                self.help()
            }

            fn index(self) -> usize {
                self as usize
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
    (@metric) => { None };
    (@metric $family:literal, $key:literal) => { Some(($family, $key)) };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Reason;

    /// Labels are distinct and fit for Prometheus, sentences are sentences, and places are those of the list.
    fn check<R: Reason>() {
        let labels: BTreeSet<_> = R::VARIANTS.iter().map(|it| it.label()).collect();
        assert_eq!(labels.len(), R::VARIANTS.len(), "{labels:?}");
        for (at, reason) in R::VARIANTS.iter().enumerate() {
            assert_eq!(reason.index(), at, "{reason}");
            let label = reason.label();
            assert!(
                label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{label}"
            );
            assert_eq!(reason.to_string(), label);
            let help = reason.sentence();
            assert!(
                help.ends_with('.') && help.starts_with(|c: char| c == '`' || c.is_uppercase()),
                "{label}: {help}"
            );
            assert!(!help.contains("  "), "{label}: {help}");
        }
    }

    #[test]
    fn each_variant_is_counted_for_itself() {
        use crate::ts::PacketDrop;
        let counts = super::Counts::default();
        let [first, second, ..] = PacketDrop::ALL;
        assert_eq!((counts.add(second), counts.add(second), counts.add(first)), (0, 1, 0));
        assert_eq!((counts.get(first), counts.get(second)), (1, 2));
        let labelled: Vec<_> = counts.labelled().collect();
        assert_eq!(labelled[..2], [(first.as_str(), 1), (second.as_str(), 2)]);
        assert_eq!(labelled.len(), PacketDrop::ALL.len());
    }

    #[test]
    fn every_reason_has_a_label_and_a_sentence() {
        check::<crate::dsmcc::delivery::CarouselDrop>();
        check::<crate::ip::IpDrop>();
        check::<crate::ts::section::SectionDrop>();
        check::<crate::ts::PacketDrop>();
        check::<crate::flute::VerifyError>();
        check::<crate::flute::JoinFailure>();
        check::<crate::growing::BytesDrop>();
        check::<crate::growing::End>();
        check::<crate::route::RouteDrop>();
        check::<crate::route::RouteFailure>();
        check::<crate::flute::DropReason>();
        check::<crate::gse::GseDrop>();
        check::<crate::mpe::MpeDrop>();
        check::<crate::trust::TrustDrop>();
        check::<crate::dvbi::LeftOut>();
        check::<crate::dvbi::guide::LeftOut>();
        check::<crate::dvbi::guide::EventRepair>();
    }
}
