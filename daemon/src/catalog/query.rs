//! Decoded pairs of a query, in the encoding of HTML forms, with `+` for a space.

carousel::limits! {
    /// Pairs of one query below `/dvb-i/` that are read.
    const MAX_PAIRS: usize = 1024, "pairs" {
        why: "A query for the schedules of a screen of channels has some fifty.",
        full: "The others are ignored.",
        free: "Holds for one query.",
        test: "pairs_are_decoded",
    }
}

/// The pairs of a query.
#[derive(Debug, Default)]
pub(crate) struct Pairs(Vec<(String, String)>);

fn decoded(raw: &str) -> String {
    let spaced = raw.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

impl Pairs {
    /// Pairs of the text behind the `?`.
    pub(crate) fn of(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|it| !it.is_empty()).take(MAX_PAIRS);
        Self(
            pairs
                .map(|it| it.split_once('=').unwrap_or((it, "")))
                .map(|(n, v)| (decoded(n), decoded(v)))
                .collect(),
        )
    }

    /// The first value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// All values of a name, with or without `[]` behind it.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(it, _)| it.trim_end_matches("[]") == name)
            .map(|(_, value)| value.as_str())
    }

    /// A number.
    ///
    /// # Errors
    /// One line about its mistake, for the client.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, String> {
        let text = self.get(name);
        text.map(|it| it.parse().map_err(|_| format!("{name}={it:?} is not a number"))).transpose()
    }

    /// All pairs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let pairs = Pairs::of(Some("sids%5B%5D=tag%3Aa%2C2026%3Ab&sids[]=c+d&sid=e&x&n=5&m=y"));
        assert_eq!(pairs.all("sids").collect::<Vec<_>>(), ["tag:a,2026:b", "c d"]);
        assert_eq!((pairs.get("sid"), pairs.get("x"), pairs.get("none")), (Some("e"), Some(""), None));
        assert_eq!((pairs.number("n"), pairs.number("none")), (Ok(Some(5)), Ok(None)));
        assert!(pairs.number("m").is_err());
        assert_eq!(Pairs::of(Some(&"a=1&".repeat(5000))).iter().count(), MAX_PAIRS);
    }
}
