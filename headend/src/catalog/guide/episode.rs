//! Numbers of seasons and episodes from `<episode-num>`.

/// Highest number that is taken for that of an episode: daily soaps have gone past 10,000.
const MAX_NUMBER: u32 = 99_999;

/// Season and episode, from 1.
pub(super) type Numbers = (Option<u32>, Option<u32>);

/// `xmltv_ns`: `season/of.episode/of.part/of`, each from 0 and each optional, blanks anywhere.
pub(super) fn xmltv_ns(text: &str) -> Numbers {
    let mut fields = text.split('.').map(|field| {
        let number = field.split('/').next()?.trim().parse::<u32>().ok()?.checked_add(1)?;
        (number <= MAX_NUMBER).then_some(number)
    });
    (fields.next().flatten(), fields.next().flatten())
}

/// Numbers in a text for viewers: `S02E05`, `2x05`, `Season 2, Episode 5`, `Staffel 2 Folge 5`, `Ep. 5`, `5/12`, `5`.
pub(super) fn onscreen(text: &str) -> Numbers {
    let (mut season, mut episode, mut bare) = (None, None, None);
    let mut word = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_digit = first.is_ascii_digit();
        let is_of_run = |c: char| if is_digit { c.is_ascii_digit() } else { !c.is_ascii_digit() };
        let (run, after) = rest.split_at(rest.find(|c| !is_of_run(c)).unwrap_or(rest.len()));
        rest = after;
        if !is_digit {
            word = run
                .chars()
                .filter(|c| c.is_alphanumeric() || *c == '/')
                .flat_map(char::to_lowercase)
                .collect();
            continue;
        }
        let Some(number) = run.parse().ok().filter(|number| (1..=MAX_NUMBER).contains(number)) else {
            continue;
        };
        match word.as_str() {
            "s" | "season" | "series" | "staffel" | "saison" | "temporada" | "stagione" | "t" => {
                season = season.or(Some(number));
            }
            "e" | "ep" | "episode" | "folge" | "f" | "épisode" | "episodio" | "capítulo" | "cap"
            | "puntata" => {
                episode = episode.or(Some(number));
            }
            "x" => {
                season = season.or(bare);
                episode = episode.or(Some(number));
            }
            // Number of episodes.
            "/" | "of" | "von" | "sur" | "de" | "di" => {}
            _ => bare = bare.or(Some(number)),
        }
    }
    (season, if season.is_none() { episode.or(bare) } else { episode })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_count_from_one() {
        for (text, expected) in [
            ("1.5.0/2", (Some(2), Some(6))),
            (" 0 . 4/12 . ", (Some(1), Some(5))),
            (".10.", (None, Some(11))),
            ("3", (Some(4), None)),
            ("..", (None, None)),
            ("", (None, None)),
            ("4294967295.-1.", (None, None)),
        ] {
            assert_eq!(xmltv_ns(text), expected, "{text}");
        }
        for (text, expected) in [
            ("S02E05", (Some(2), Some(5))),
            ("s2 e5", (Some(2), Some(5))),
            ("2x05", (Some(2), Some(5))),
            ("Season 2, Episode 5", (Some(2), Some(5))),
            ("Staffel 2 Folge 5/12", (Some(2), Some(5))),
            ("Ep. 5", (None, Some(5))),
            ("5 of 12", (None, Some(5))),
            ("5/12", (None, Some(5))),
            ("#705", (None, Some(705))),
            ("T3", (Some(3), None)),
            ("Pilot", (None, None)),
            ("99999999999999999999", (None, None)),
        ] {
            assert_eq!(onscreen(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_number_panics(text in ".{0,40}", like in "[sSeExX0-9./ é]{0,20}") {
            for text in [text, like] {
                let _ = (xmltv_ns(&text), onscreen(&text));
            }
        }
    }
}
