//! Order of versions as systemd-boot sorts images by them (UAPI Group, "Version Format Specification").

use std::cmp::Ordering;

/// Splits off the leading bytes for which `is_part` holds.
fn run(text: &[u8], is_part: fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !is_part(byte)).unwrap_or(text.len()))
}

const fn is_known(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'~' | b'^' | b'.')
}

/// `1.10` is later than `1.9`, `1.0~rc1` earlier than `1.0`, `1.0-2` later than `1.0`.
#[must_use]
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    let (mut a, mut b) = (one.as_bytes(), other.as_bytes());
    loop {
        a = run(a, |byte| !is_known(byte)).1;
        b = run(b, |byte| !is_known(byte)).1;
        for (separator, ends_behind) in [(b'~', false), (b'-', true), (b'^', true), (b'.', true)] {
            if ends_behind && (a.is_empty() || b.is_empty()) {
                return a.len().min(1).cmp(&b.len().min(1));
            }
            let (has_a, has_b) = (a.first() == Some(&separator), b.first() == Some(&separator));
            match (has_a, has_b) {
                (true, true) => (a, b) = (&a[1..], &b[1..]),
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (false, false) => {}
            }
        }
        let is_digit = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
        let order = if is_digit(a) || is_digit(b) {
            let (digits_a, rest_a) = run(a, u8::is_ascii_digit);
            let (digits_b, rest_b) = run(b, u8::is_ascii_digit);
            (a, b) = (rest_a, rest_b);
            let (digits_a, digits_b) = (run(digits_a, |it| *it == b'0').1, run(digits_b, |it| *it == b'0').1);
            digits_a.len().cmp(&digits_b.len()).then_with(|| digits_a.cmp(digits_b))
        } else {
            let (letters_a, rest_a) = run(a, u8::is_ascii_alphabetic);
            let (letters_b, rest_b) = run(b, u8::is_ascii_alphabetic);
            (a, b) = (rest_a, rest_b);
            letters_a.cmp(letters_b)
        };
        if order != Ordering::Equal {
            return order;
        }
        if a.is_empty() && b.is_empty() {
            return Ordering::Equal;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_specification_says() {
        // The specification's own examples, and what begins or ends with a tilde.
        let ascending = [
            "~1",
            "",
            "1~",
            "1",
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for (at, lower) in ascending.iter().enumerate() {
            assert_eq!(compare(lower, lower), Ordering::Equal, "{lower}");
            for higher in &ascending[at + 1..] {
                assert_eq!(compare(lower, higher), Ordering::Less, "{lower} < {higher}");
                assert_eq!(compare(higher, lower), Ordering::Greater, "{higher} > {lower}");
            }
        }
        assert_eq!(compare("1.9", "1.10"), Ordering::Less);
        assert_eq!(compare("1.007", "1.7"), Ordering::Equal);
        assert_eq!(compare("1_2", "12"), Ordering::Less, "an unknown character ends a number");
    }
}
