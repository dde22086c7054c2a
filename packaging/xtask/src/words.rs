//! Test of words: text and names in the repository use those of `GLOSSARY.md`, not the ones that they have replaced.
//!
//! A word is a run of letters, so that names (`has_begun_anew`) are read like comments, and a phrase is found across the
//! end of a line. Case does not matter. Folders with texts of other software are left out.

use std::path::Path;
use std::process::Command;

/// Words and phrases that are not used, and what stands in their place.
const REPLACED: [(&str, &str); 21] = [
    ("anew", "again, from the start; restart"),
    ("as the log has it", "for the log"),
    ("at will", "freely, as many as wanted"),
    ("be had", "available"),
    ("blemish", "the defect or repair itself"),
    ("blemishes", "the defects or repairs themselves"),
    ("for ever", "forever, permanently"),
    ("foretold", "predicted"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("mending", "repair"),
    ("mends", "fixes"),
    ("no use", "unused, unusable, dropped"),
    ("passed over", "skipped, ignored"),
    ("stranger", "untrusted"),
    ("strangers", "untrusted senders"),
    ("that for so long", "a name for the duration"),
    ("told above", "see above"),
    ("whatever it says", "even if it says otherwise"),
    ("who turns", "transmission order"),
    ("whom", "a sentence about the request, key or client"),
];

/// Files in which a word may stand, each with its reason.
const ALLOWED: [(&str, &str, &str); 5] = [
    ("CHANGELOG.md", "mend", "names the member of JSON that `fix` has replaced"),
    ("CHANGELOG.md", "stranger", "names the state that `untrusted` has replaced"),
    ("GLOSSARY.md", "mend", "its column of words that are not used"),
    ("GLOSSARY.md", "mending", "the same"),
    ("GLOSSARY.md", "stranger", "the same"),
];

/// Folders and files that are not ours to word.
const FOREIGN: [&str; 5] =
    ["findings/", "Cargo.lock", "LICENSE", "daemon/web/package-lock.json", "packaging/xtask/src/words.rs"];

/// The words of a text in lower case, each with its line from 1.
fn words(text: &str) -> Vec<(usize, String)> {
    let of_line = |(at, line): (usize, &str)| {
        let words = line.split(|it: char| !it.is_alphabetic()).filter(|it| !it.is_empty());
        words.map(|it| (at + 1, it.to_lowercase())).collect::<Vec<_>>()
    };
    text.lines().enumerate().flat_map(of_line).collect()
}

/// Lines of a text with a phrase that is not used, with the phrase and what stands in its place.
fn replaced(text: &str) -> Vec<(usize, &'static str, &'static str)> {
    let words = words(text);
    let mut found = Vec::new();
    for (phrase, instead) in REPLACED {
        let phrase_words: Vec<&str> = phrase.split(' ').collect();
        for window in words.windows(phrase_words.len()) {
            if window.iter().map(|(_, it)| it.as_str()).eq(phrase_words.iter().copied()) {
                found.push((window[0].0, phrase, instead));
            }
        }
    }
    found.sort_unstable();
    found
}

fn is_allowed(path: &str, phrase: &str) -> bool {
    ALLOWED.iter().any(|(file, word, _)| *file == path && *word == phrase)
}

/// Files that git has, and those that are new; `None` without git or a repository.
fn files(workspace: &Path) -> Option<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(workspace)
        .output()
        .ok()
        .filter(|it| it.status.success())?;
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    Some(names.split('\0').filter(|it| !it.is_empty()).map(str::to_owned).collect())
}

#[test]
fn words_that_were_replaced_are_not_used() {
    let workspace = crate::workspace();
    let Some(files) = files(&workspace) else {
        eprintln!("SKIPPED: git does not list the files of the repository");
        return;
    };
    let mut wrong = Vec::new();
    let mut texts = 0;
    for path in files.iter().filter(|path| !FOREIGN.iter().any(|it| path.starts_with(it))) {
        // Neither links nor pictures and recordings.
        let file = workspace.join(path);
        let is_file = file.symlink_metadata().is_ok_and(|it| it.is_file());
        let Some(text) = is_file.then(|| std::fs::read_to_string(file).ok()).flatten() else { continue };
        texts += 1;
        for (line, phrase, instead) in replaced(&text).into_iter().filter(|it| !is_allowed(path, it.1)) {
            wrong.push(format!("{path}:{line}: {phrase:?}; write: {instead}"));
        }
    }
    assert!(texts > 500, "only {texts} files were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn phrases_are_found_in_names_and_across_lines() {
    let text = "/// Nothing stays for\n/// ever; forever is right.\nfn is_made_anew() {}\nlet Stranger = recommend;\n";
    let found: Vec<_> = replaced(text).into_iter().map(|(line, phrase, _)| (line, phrase)).collect();
    assert_eq!(found, [(1, "for ever"), (3, "anew"), (4, "stranger")]);
}

#[test]
fn what_is_allowed_is_there() {
    // A release takes lines out of the changelog.
    for (file, word, reason) in ALLOWED.iter().filter(|it| it.0 != "CHANGELOG.md") {
        let text = std::fs::read_to_string(crate::workspace().join(file)).unwrap();
        assert!(replaced(&text).iter().any(|it| it.1 == *word), "{file} has no {word:?}: {reason}");
    }
}
