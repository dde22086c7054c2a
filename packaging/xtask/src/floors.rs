//! Test of the layering: which rooms (top-level modules) of a crate may import which.
//!
//! Each crate's `src/lib.rs` lists its rooms by floor, the bottom one first, in lines such as `//! floor 0: clock, sys`. The
//! tests here read the sources without compiling them and fail
//! - when a room imports one from a higher floor,
//! - when rooms of one floor import each other in a circle,
//! - when a room is missing from the list, or the list names one that does not exist,
//! - when `ARCHITECTURE.md` has other floors for the daemon, or no row for a room.
//!
//! Only shipped code counts: items behind `#[cfg(test)]` and files that only those declare are left out. Paths that count are
//! those that begin with `crate::`, with the crate's own name in `main.rs`, and with as many `super::` as lead to the root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates, and the names by which their programs' `main.rs` imports them.
const CRATES: [(&str, &str); 3] = [("carousel", "carousel"), ("headend", "headend"), ("daemon", "skycache")];

/// Room → rooms that it imports, each with one file that does.
type Imports = BTreeMap<String, BTreeMap<String, String>>;

#[derive(Debug, Default)]
struct Crate {
    /// Room → floor, as `lib.rs` lists them.
    floors: BTreeMap<String, u32>,
    /// Rooms that exist.
    rooms: BTreeSet<String>,
    imports: Imports,
}

/// Removes comments and every item behind a `#[cfg(test)]`; returns the names of the modules among those. Relies on rustfmt:
/// an item ends at its first line that is indented like its attribute and ends in `;` or `}`.
fn shipped(source: &str) -> (String, Vec<String>) {
    let (mut kept, mut test_modules) = (String::new(), Vec::new());
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("//") {
            continue;
        }
        let is_test =
            trimmed.starts_with("#[cfg(") && trimmed.contains("test") && !trimmed.contains("not(test");
        if !is_test {
            kept.push_str(line.split(" // ").next().unwrap_or(line));
            kept.push('\n');
            continue;
        }
        let indent = line.len() - trimmed.len();
        for line in lines.by_ref() {
            let item = line.trim_start();
            if let Some(rest) = item.strip_prefix("mod ").or_else(|| item.strip_prefix("pub(crate) mod ")) {
                test_modules.push(rest.trim_end_matches([';', '{', ' ']).to_owned());
            }
            let is_attribute = item.starts_with('#') || item.starts_with("//");
            if line.len() - item.len() == indent && !is_attribute && item.ends_with([';', '}']) {
                break;
            }
        }
    }
    (kept, test_modules)
}

/// Source files below a folder, without tests.
pub(crate) fn shipped_sources(root: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    source_files(root, &mut files);
    // Modules of tests, as folder or file without the extension.
    let mut of_tests: Vec<PathBuf> = Vec::new();
    let mut sources = Vec::new();
    for path in files {
        let (code, tests) = shipped(&fs::read_to_string(&path).unwrap());
        let stem = path.with_extension("");
        let is_root = stem.ends_with("mod") || stem.ends_with("lib") || stem.ends_with("main");
        let folder = if is_root { path.parent().unwrap().to_owned() } else { stem };
        of_tests.extend(tests.into_iter().map(|it| folder.join(it)));
        sources.push((path, code));
    }
    sources.retain(|(path, _)| !of_tests.iter().any(|it| path.with_extension("").starts_with(it)));
    sources
}

/// First segments of what follows `prefix` in `code`: one name, or each of a braced list.
fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|it| it.is_alphanumeric() || matches!(it, '_' | ':')) {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let ident = |text: &str| -> String {
            text.trim_start().chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect()
        };
        let Some(list) = rest.strip_prefix('{') else {
            names.push(ident(rest));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (at, it) in list.char_indices() {
            match it {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    names.push(ident(&list[start..at]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.push(ident(&list[start..at]));
                    start = at + 1;
                }
                _ => {}
            }
        }
    }
    names.retain(|it| !it.is_empty());
    names
}

/// Name → room, for what `lib.rs` re-exports at the root.
fn re_exports(lib: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for statement in lib.split(';') {
        let Some((_, path)) = statement.split_once("pub use ") else { continue };
        let Some((room, rest)) = path.trim_start_matches("crate::").split_once("::") else { continue };
        for name in rest.split(['{', '}', ',', ' ', '\n']).filter(|it| !it.is_empty()) {
            found.insert(name.to_owned(), room.trim().to_owned());
        }
    }
    found
}

/// Sources below a folder, in order; those that a build has made are left out.
pub(crate) fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                source_files(&path, found);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

impl Crate {
    fn read(name: &str, import_name: &str) -> Self {
        let root = crate::workspace().join(name).join("src");
        let lib = fs::read_to_string(root.join("lib.rs")).unwrap();
        let mut found = Self::default();
        for line in lib.lines().filter_map(|it| it.strip_prefix("//! floor ")) {
            let (floor, rooms) = line.split_once(": ").unwrap_or_else(|| panic!("{name}: {line:?}"));
            for room in rooms.split(", ") {
                let old = found.floors.insert(room.trim().to_owned(), floor.parse().unwrap());
                assert_eq!(old, None, "{name}: lib.rs lists {room} twice");
            }
        }
        let exports = re_exports(&shipped(&lib).0);
        for (path, code) in shipped_sources(&root) {
            let relative = path.strip_prefix(&root).unwrap().with_extension("");
            let mut module: Vec<_> = relative.iter().map(|it| it.to_str().unwrap()).collect();
            if module.last() == Some(&"mod") {
                module.pop();
            }
            let room = module[0].to_owned();
            if room == "lib" {
                continue;
            }
            let mut names = names_after(&code, "crate::");
            names.extend(names_after(&code, &"super::".repeat(module.len())));
            if room == "main" {
                names.extend(names_after(&code, &format!("{import_name}::")));
            }
            let shown = path.strip_prefix(crate::workspace()).unwrap_or(&path).display().to_string();
            for name in names {
                let target = exports.get(&name).cloned().unwrap_or(name);
                if target != room {
                    found
                        .imports
                        .entry(room.clone())
                        .or_default()
                        .entry(target)
                        .or_insert_with(|| shown.clone());
                }
            }
            found.rooms.insert(room);
        }
        found
    }

    /// Imports that go up, and those that are part of a circle within a floor.
    fn faults(&self) -> BTreeSet<(String, String)> {
        let mut faults = BTreeSet::new();
        let floor = |room: &String| self.floors.get(room).copied();
        for (from, targets) in &self.imports {
            for to in targets.keys().filter(|it| self.rooms.contains(*it)) {
                if floor(to) > floor(from) || (floor(to) == floor(from) && self.reaches(to, from)) {
                    faults.insert((from.clone(), to.clone()));
                }
            }
        }
        faults
    }

    /// Whether imports within the floor of `from` lead from it to `to`.
    fn reaches(&self, from: &str, to: &str) -> bool {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(room) = open.pop() {
            if room == to {
                return true;
            }
            if seen.insert(room) {
                let targets = self.imports.get(room).into_iter().flat_map(BTreeMap::keys);
                open.extend(
                    targets.map(String::as_str).filter(|it| self.floors.get(*it) == self.floors.get(from)),
                );
            }
        }
        false
    }
}

#[test]
fn rooms_import_only_downwards_and_in_no_circle() {
    let mut wrong = Vec::new();
    for (name, import_name) in CRATES {
        let read = Crate::read(name, import_name);
        assert!(read.rooms.len() > 5, "{name}: no sources found");
        for room in read.rooms.iter().filter(|it| !read.floors.contains_key(*it)) {
            wrong.push(format!("{name}/src/lib.rs lists no floor for {room}"));
        }
        for room in read.floors.keys().filter(|it| !read.rooms.contains(*it)) {
            wrong.push(format!("{name}/src/lib.rs lists {room}, which does not exist"));
        }
        for (from, to) in read.faults() {
            let file = &read.imports[&from][&to];
            wrong.push(format!("{file}: {from} imports {to}, which is on a higher floor or closes a circle"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rows of a Markdown table below the header `header`, each as its cells.
fn table(text: &str, header: &str) -> Vec<Vec<String>> {
    let rows =
        text.lines().skip_while(|line| *line != header).skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(cells).collect()
}

/// Rooms of a crate that a text names as paths in backquotes: `crate/src/room`, also with braces and below the room.
fn rooms_named(text: &str, name: &str) -> BTreeSet<String> {
    let paths = text.split('`').skip(1).step_by(2).filter_map(|it| it.strip_prefix(&format!("{name}/src/")));
    let expanded = paths.flat_map(|path| match path.strip_prefix('{').and_then(|it| it.split_once('}')) {
        Some((rooms, _)) => rooms.split(',').map(str::to_owned).collect(),
        None => vec![path.to_owned()],
    });
    let room_of = |path: String| path.split(['/', '.']).next().unwrap_or_default().to_owned();
    expanded.map(room_of).collect()
}

#[test]
fn architecture_has_the_floors_of_the_daemon() {
    let workspace = crate::workspace();
    let text = fs::read_to_string(workspace.join("ARCHITECTURE.md")).unwrap();
    let mut listed: Vec<BTreeSet<String>> = table(&text, "| floor | rooms |")
        .iter()
        .map(|row| row[1].split(',').map(|it| it.trim().to_owned()).collect())
        .collect();
    listed.reverse();
    let mut of_lib: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for (room, floor) in Crate::read("daemon", "skycache").floors {
        of_lib.entry(floor).or_default().insert(room);
    }
    assert_eq!(listed, of_lib.into_values().collect::<Vec<_>>(), "ARCHITECTURE.md, then daemon/src/lib.rs");
}

#[test]
fn architecture_names_every_room() {
    let text = fs::read_to_string(crate::workspace().join("ARCHITECTURE.md")).unwrap();
    for (name, import_name) in CRATES {
        let named = rooms_named(&text, name);
        let rooms = Crate::read(name, import_name).rooms;
        let missing: Vec<&String> = rooms.iter().filter(|it| *it != "main" && !named.contains(*it)).collect();
        assert!(missing.is_empty(), "no row of ARCHITECTURE.md names these rooms of {name}: {missing:?}");
        let gone: Vec<&String> =
            named.iter().filter(|it| *it != "main" && *it != "lib" && !rooms.contains(*it)).collect();
        assert!(gone.is_empty(), "ARCHITECTURE.md names rooms of {name} that do not exist: {gone:?}");
    }
}

#[test]
fn finds_rooms_in_paths() {
    let text =
        "| a | `daemon/src/http/{a,b}.rs`, `daemon/src/{listen,vitals}.rs` |\n`headend/src/x`, daemon/src/y";
    assert_eq!(rooms_named(text, "daemon"), ["http", "listen", "vitals"].map(str::to_owned).into());
}

#[test]
fn reads_imports_as_rustfmt_writes_them() {
    let source = "//! crate::no\nuse crate::{a, b::{self, X}, c::Y};\nuse super::super::d::Z; // crate::no\n\
                  #[cfg(test)]\nuse crate::no;\nfn f() -> crate::e::T {}\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests;\n\
                  #[cfg(test)]\nmod more {\n    use crate::no;\n}\nmacro!($crate::f::g);\n";
    let (code, tests) = shipped(source);
    assert_eq!(names_after(&code, "crate::"), ["a", "b", "c", "e", "f"]);
    assert_eq!(names_after(&code, &"super::".repeat(2)), ["d"]);
    assert_eq!(tests, ["tests", "more"]);
    assert_eq!(re_exports("pub use sys::{one, two};\npub use name::Three;").len(), 3);
}

#[test]
fn finds_upward_imports_and_circles() {
    let floors = [("low", 0), ("a", 1), ("b", 1), ("c", 1), ("top", 2)];
    let arrows = [("low", "top"), ("a", "b"), ("b", "a"), ("c", "a"), ("top", "c"), ("a", "low")];
    let mut tried = Crate::default();
    for (room, floor) in floors {
        tried.rooms.insert(room.to_owned());
        tried.floors.insert(room.to_owned(), floor);
    }
    for (from, to) in arrows {
        tried.imports.entry(from.to_owned()).or_default().insert(to.to_owned(), String::new());
    }
    let wanted = [("a", "b"), ("b", "a"), ("low", "top")].map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(tried.faults(), BTreeSet::from(wanted));
}
