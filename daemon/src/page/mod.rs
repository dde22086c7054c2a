//! The page at `/`: its parts, which the build embeds, and what the box is doing, which charts show.
//!
//! What it is made of and why is in `daemon/web/DESIGN.md`; how it is answered in `http/own.rs`.

pub(crate) mod assets;
mod live;

pub use live::{Live, MAX_VIEWERS, Viewer};

/// Text in markup.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        assert_eq!(escape("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
