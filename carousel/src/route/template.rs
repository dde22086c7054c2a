//! File templates: names derived from TOIs (ATSC A/331 Annex A, `afdt:fileTemplate`).

use std::fmt::Write as _;

use crate::lct::Toi;
use crate::name::ObjectKey;

/// Maximum width of a padded TOI: the digits of the largest 64-bit number.
const MAX_WIDTH: usize = 20;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The TOI in decimal, zero-padded to this width.
    Toi(usize),
}

/// `afdt:fileTemplate`: `$TOI$`, `$TOI%05d$`, and `$$` for a dollar sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTemplate(Vec<Piece>);

impl FileTemplate {
    /// Parses a template. `None` if it has other variables, or makes unusable names, such as those that escape from their
    /// folder.
    pub fn parse(text: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let push = |pieces: &mut Vec<Piece>, text: &str| match pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => pieces.push(Piece::Text(text.to_owned())),
        };
        while let Some((before, behind)) = rest.split_once('$') {
            push(&mut pieces, before);
            let (variable, behind) = behind.split_once('$')?;
            match variable {
                "" => push(&mut pieces, "$"),
                "TOI" => pieces.push(Piece::Toi(0)),
                _ => {
                    let width = variable.strip_prefix("TOI%0")?.strip_suffix('d')?;
                    let is_number = !width.is_empty() && width.bytes().all(|byte| byte.is_ascii_digit());
                    let width = width.parse().ok().filter(|width| is_number && *width <= MAX_WIDTH)?;
                    pieces.push(Piece::Toi(width));
                }
            }
            rest = behind;
        }
        push(&mut pieces, rest);
        let template = Self(pieces);
        let is_usable = |toi| ObjectKey::from_name(&template.name(Toi(toi)), None).is_ok();
        (is_usable(1) && is_usable(u128::from(u32::MAX))).then_some(template)
    }

    /// The name of the object with this TOI.
    pub fn name(&self, toi: Toi) -> String {
        let mut name = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Toi(width) => {
                    let _ = write!(name, "{:0width$}", toi.0);
                }
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_made_of_tois() {
        let name = |template, toi| FileTemplate::parse(template).map(|it| it.name(Toi(toi)));
        assert_eq!(name("seg-0-$TOI%05d$.m4s", 7).as_deref(), Some("seg-0-00007.m4s"));
        assert_eq!(name("$TOI$.m4s", 123_456).as_deref(), Some("123456.m4s"));
        assert_eq!(name("a$$b$TOI$", 1).as_deref(), Some("a$b1"));
        assert_eq!(name("http://h/$TOI$/$TOI%03d$.ts", 5).as_deref(), Some("http://h/5/005.ts"));
        assert_eq!(name("fixed.mp4", 5).as_deref(), Some("fixed.mp4"));
    }

    #[test]
    fn what_escapes_or_is_no_template_is_refused() {
        for text in [
            "../../$TOI$.m4s",
            "http://h/..%2f$TOI$",
            "$Number$.m4s",
            "$TOI%d$",
            "$TOI%021d$",
            "$TOI%0-5d$",
            "$TOI",
            "a\0$TOI$",
            "",
        ] {
            assert_eq!(FileTemplate::parse(text), None, "{text:?}");
        }
        assert_eq!(FileTemplate::parse(&format!("{}$TOI$", "x".repeat(9000))), None);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_names_are_usable(text in "[$TOI%0-9da-z./]{0,40}", toi in any::<u32>()) {
            if let Some(template) = FileTemplate::parse(&text) {
                prop_assert!(ObjectKey::from_name(&template.name(Toi(toi.into())), None).is_ok());
            }
        }
    }
}
