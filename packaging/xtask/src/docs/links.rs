//! Links between pages: files that are there, and headings in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace;

/// Looks up every relative link.
///
/// # Errors
/// All that lead nowhere, one a line.
pub(crate) fn check(pages: &[PathBuf]) -> Result<(), String> {
    let mut wrong = Vec::new();
    for page in pages {
        let text = fs::read_to_string(page).map_err(|err| format!("{}: {err}", page.display()))?;
        let name = page.strip_prefix(workspace()).unwrap_or(page).display();
        for (line, link) in links(&text) {
            if let Err(why) = look_up(page, &text, &link) {
                wrong.push(format!("{name}:{line}: {link}: {why}"));
            }
        }
    }
    let summary = fs::read_to_string(workspace().join("docs/SUMMARY.md")).unwrap_or_default();
    for page in pages {
        if let Ok(name) = page.strip_prefix(workspace().join("docs"))
            && name != Path::new("SUMMARY.md")
            && !summary.contains(&format!("({})", name.display()))
        {
            wrong.push(format!("docs/SUMMARY.md: {} is missing", name.display()));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Targets of `[text](target)`, outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut is_code) = (Vec::new(), false);
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        // Every second part between backquotes is code.
        let bare: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in bare.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((at + 1, target.split(' ').next().unwrap_or_default().to_owned()));
            }
        }
    }
    found
}

fn look_up(page: &Path, text: &str, link: &str) -> Result<(), String> {
    if ["http://", "https://", "mailto:"].iter().any(|it| link.starts_with(it)) {
        return Ok(());
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let folder = page.parent().unwrap_or(page);
    let target = if file.is_empty() { page.to_owned() } else { folder.join(file) };
    if !target.exists() {
        return Err("there is no such file".to_owned());
    }
    let docs = workspace().join("docs");
    let is_below = |path: &Path| {
        path.canonicalize().ok().zip(docs.canonicalize().ok()).is_some_and(|(it, docs)| it.starts_with(docs))
    };
    if is_below(page) && !is_below(&target) {
        return Err("it is outside of the book".to_owned());
    }
    if heading.is_empty() {
        return Ok(());
    }
    let other =
        if file.is_empty() { text.to_owned() } else { fs::read_to_string(&target).unwrap_or_default() };
    if anchors(&other).contains(heading) { Ok(()) } else { Err("there is no such heading".to_owned()) }
}

/// Anchors of headings, as mdBook and code hosts make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings =
        text.lines().filter_map(|line| line.strip_prefix('#').map(|it| it.trim_start_matches('#').trim()));
    let anchor = |heading: &str| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    headings.map(anchor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_anchors_are_found_outside_of_code() {
        let text = "# A b: `c`\n[x](y.md#z) and `[no](no)`\n```\n[no](no)\n```\n![p](p.png \"t\")\n";
        assert_eq!(links(text), [(2, "y.md#z".to_owned()), (6, "p.png".to_owned())]);
        assert_eq!(anchors(text), BTreeSet::from(["a-b-c".to_owned()]));
        let page = workspace().join("README.md");
        assert!(look_up(&page, text, "nothing.md").is_err() && look_up(&page, text, "#nothing").is_err());
        assert!(look_up(&page, text, "#a-b-c").is_ok() && look_up(&page, text, "LICENSE").is_ok());
    }
}
