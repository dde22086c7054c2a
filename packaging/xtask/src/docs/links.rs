//! Test of links between pages: files exist, and have the headings. Also of source files that documents name.

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

/// Looks up every source file that documents name as `name.rs`, by the end of its path, with or without `src`.
///
/// # Errors
/// All that are not there, one a line.
pub(crate) fn check_sources(documents: &[PathBuf], sources: &[PathBuf]) -> Result<(), String> {
    let below = |path: &Path| {
        let path = path.strip_prefix(workspace()).unwrap_or(path);
        format!("/{}", path.display())
    };
    let sources: Vec<String> = sources.iter().map(|it| below(it)).collect();
    let short: Vec<String> = sources.iter().map(|it| it.replace("/src/", "/")).collect();
    let mut wrong = Vec::new();
    for document in documents {
        let text = fs::read_to_string(document).map_err(|err| format!("{}: {err}", document.display()))?;
        for (line, name) in source_names(&text) {
            // From the folder of the document: its name is the end of a path all the same.
            let end = format!("/{}", name.trim_start_matches("../"));
            if !sources.iter().chain(&short).any(|it| it.ends_with(&end)) {
                wrong.push(format!("{}:{line}: there is no source file {name}", &below(document)[1..]));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Names of source files in code spans, with their lines; `{a,b}.rs` are two.
fn source_names(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let is_name = |span: &&str| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "_/.-{},".contains(c);
            span.ends_with(".rs") && span.len() > 3 && span.chars().all(is_part)
        };
        for span in line.split('`').skip(1).step_by(2).filter(is_name) {
            match span.split_once('{').and_then(|(from, rest)| Some((from, rest.split_once('}')?))) {
                Some((from, (names, to))) => {
                    let ends = |it: &String| it.ends_with(".rs");
                    let all = names.split(',').map(|name| format!("{from}{name}{to}"));
                    found.extend(all.filter(ends).map(|name| (at + 1, name)));
                }
                None => found.push((at + 1, span.to_owned())),
            }
        }
    }
    found
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
        assert_eq!(
            source_names("`a/b.rs` and `{x,y}.rs`\n`c/{z.rs,d}` `.rs` `e f.rs` g.rs"),
            [(1, "a/b.rs"), (1, "x.rs"), (1, "y.rs")].map(|(at, name)| (at, name.to_owned()))
        );
        let page = workspace().join("README.md");
        assert!(look_up(&page, text, "nothing.md").is_err() && look_up(&page, text, "#nothing").is_err());
        assert!(look_up(&page, text, "#a-b-c").is_ok() && look_up(&page, text, "LICENSE").is_ok());
    }
}
