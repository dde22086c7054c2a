//! Editions of Bluebook A177 with their namespaces.

use std::fmt;
use std::str::FromStr;

/// An edition. Later ones compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Edition {
    /// A177 of 2019, schema 1.0.
    R0,
    /// Schema 2.0.
    R1,
    /// Schema 3.0.
    R2,
    /// Schema 3.1.
    R3,
    /// TS 103 770 V1.1.1, schema 4.0.
    R4,
    /// Schema 5.0.
    R5,
    /// TS 103 770 V1.2.1, schema 6.0: in use on DVB-NIP.
    #[default]
    R6,
    /// Schema 7.0.
    R7,
    /// Draft of V1.3.1, schema 8.0.
    R8,
}

/// Name, year in the namespaces of lists and entry points, namespace of the shared types, year of TV-Anytime, schema.
type Row = (&'static str, &'static str, Option<&'static str>, &'static str, &'static str);

const ROWS: [(Edition, Row); 9] = [
    (Edition::R0, ("r0", "2019", None, "2019", "1.0")),
    (Edition::R1, ("r1", "2020", None, "2019", "2.0")),
    (Edition::R2, ("r2", "2021", None, "2019", "3.0")),
    (Edition::R3, ("r3", "2022", None, "2019", "3.1")),
    (Edition::R4, ("r4", "2022b", None, "2019", "4.0")),
    (Edition::R5, ("r5", "2023", None, "2023", "5.0")),
    (Edition::R6, ("r6", "2024", Some("2023"), "2024", "6.0")),
    (Edition::R7, ("r7", "2025", Some("2025"), "2024", "7.0")),
    (Edition::R8, ("r8", "2026", Some("2026"), "2026", "8.0")),
];

impl Edition {
    /// All editions, oldest first.
    pub const ALL: [Self; 9] =
        [Self::R0, Self::R1, Self::R2, Self::R3, Self::R4, Self::R5, Self::R6, Self::R7, Self::R8];

    const fn row(self) -> &'static Row {
        &ROWS[self as usize].1
    }

    /// `r0` to `r8`.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Version of its schema for service lists.
    pub const fn schema(self) -> &'static str {
        self.row().4
    }

    /// Namespace of service lists.
    pub fn list_namespace(self) -> String {
        format!("urn:dvb:metadata:servicediscovery:{}", self.row().1)
    }

    /// Namespace of service list entry points.
    pub fn discovery_namespace(self) -> String {
        format!("urn:dvb:metadata:servicelistdiscovery:{}", self.row().1)
    }

    /// Namespace of the types shared by lists and entry points; `None` before r6, where each has its own.
    pub fn types_namespace(self) -> Option<String> {
        self.row().2.map(|year| format!("urn:dvb:metadata:servicediscovery-types:{year}"))
    }

    /// Namespace of TV-Anytime's elements.
    pub fn tva_namespace(self) -> String {
        format!("urn:tva:metadata:{}", self.row().3)
    }

    /// The edition of a document by its root's namespace, of lists or entry points.
    pub fn of_namespace(namespace: &str) -> Option<Self> {
        let year = namespace
            .strip_prefix("urn:dvb:metadata:servicediscovery:")
            .or_else(|| namespace.strip_prefix("urn:dvb:metadata:servicelistdiscovery:"))?;
        Self::ALL.into_iter().find(|edition| edition.row().1 == year)
    }
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of an edition that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownEdition(pub String);

impl fmt::Display for UnknownEdition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an edition of A177; give r0 to r8, such as r6", self.0)
    }
}

impl std::error::Error for UnknownEdition {}

impl FromStr for Edition {
    type Err = UnknownEdition;
    fn from_str(text: &str) -> Result<Self, UnknownEdition> {
        Self::ALL
            .into_iter()
            .find(|edition| edition.as_str().eq_ignore_ascii_case(text) || edition.schema() == text)
            .ok_or_else(|| UnknownEdition(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (at, (edition, row)) in ROWS.iter().enumerate() {
            assert_eq!(*edition as usize, at);
            assert_eq!(row.0.parse(), Ok(*edition));
            assert_eq!(Edition::of_namespace(&edition.list_namespace()), Some(*edition));
            assert_eq!(Edition::of_namespace(&edition.discovery_namespace()), Some(*edition));
        }
        assert!("r9".parse::<Edition>().is_err());
        assert_eq!("7.0".parse(), Ok(Edition::R7));
        assert_eq!(Edition::of_namespace("urn:dvb:metadata:servicediscovery:1999"), None);
    }
}
