//! System time of low-level signalling (A/331 section 6.4): the offset between the clock of the physical layer and UTC. The
//! time itself is in the preamble of the physical layer, not in datagrams.

use super::number;
use crate::xml::Element;

/// `SystemTime`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemTime {
    /// `@currentUtcOffset`: TAI minus UTC, s.
    pub utc_offset_s: u16,
    /// `@ptpPrepend`: upper bits of the seconds.
    pub ptp_prepend: u32,
    /// `@leap59`: the day has one second less.
    pub is_leap_59: bool,
    /// `@leap61`: the day has one second more.
    pub is_leap_61: bool,
    /// `@utcLocalOffset`, verbatim: a duration of XML Schema.
    pub local_offset: Option<String>,
}

impl SystemTime {
    /// Parses the element. `None` without an offset.
    pub(super) fn read(element: &Element) -> Option<Self> {
        let local = element.attribute("utcLocalOffset").map(str::trim);
        Some(Self {
            utc_offset_s: number(element, "currentUtcOffset")?,
            ptp_prepend: number(element, "ptpPrepend").unwrap_or(0),
            is_leap_59: super::is_true(element, "leap59"),
            is_leap_61: super::is_true(element, "leap61"),
            local_offset: local.filter(|it| it.len() <= 32 && it.is_ascii()).map(str::to_owned),
        })
    }
}
