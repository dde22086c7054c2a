//! The minimum age of a rating. Most systems have it in their values; the others are those of `WORDS`.

/// Ratings that do not name their age, or mean another one than they name. 8 is the BBFC's guidance for PG; of the
/// American systems' ages for guidance none is official.
const WORDS: &[(&str, u8)] = &[
    ("U", 0),
    ("UC", 0),
    ("G", 0),
    ("E", 0),
    ("AL", 0),
    ("TP", 0),
    ("T", 0),
    ("TV-Y", 0),
    ("TV-G", 0),
    ("ATP", 0),
    ("TOUT PUBLIC", 0),
    ("TOUS PUBLICS", 0),
    ("ALL", 0),
    ("NR", 0),
    ("UR", 0),
    ("NOT RATED", 0),
    ("UNRATED", 0),
    ("NONE", 0),
    ("PG", 8),
    ("TV-PG", 8),
    ("M", 15),
    ("R", 17),
    ("TV-MA", 17),
    ("MA", 17),
    ("NC-17", 18),
    ("X", 18),
    ("XXX", 18),
];

/// Youngest viewer's age, 0 (no limit) to 18; `None` if the value is not understood.
pub(super) fn age(value: &str) -> Option<u8> {
    let value = value.trim();
    if let Some((_, age)) = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(value)) {
        return Some(*age);
    }
    let digits = value.trim_start_matches(|c: char| !c.is_ascii_digit());
    let digits = &digits[..digits.bytes().take_while(u8::is_ascii_digit).count()];
    digits.parse::<u8>().ok().filter(|age| *age <= 21).map(|age| age.min(18))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_of_the_usual_systems() {
        for (value, expected) in [
            ("FSK 12", 12),
            ("ab 16 Jahren", 16),
            ("12A", 12),
            ("PG", 8),
            ("pg-13", 13),
            ("R", 17),
            ("NC-17", 18),
            ("TV-Y7-FV", 7),
            ("TV-14", 14),
            ("TV-MA", 17),
            ("-10", 10),
            ("Tout public", 0),
            ("+18", 18),
            ("MA15+", 15),
            (" 6 ", 6),
            ("21", 18),
            ("U", 0),
        ] {
            assert_eq!(age(value), Some(expected), "{value}");
        }
        for unknown in ["", "Graphic Violence", "99", "999999999999", "é", "IV"] {
            assert_eq!(age(unknown), None, "{unknown}");
        }
    }
}
