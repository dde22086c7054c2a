//! Test of the code blocks of README and guide: runs them as a reader would, and compares their output.
//!
//! A comment before a block says how it is tested:
//!
//! | comment | block |
//! |---|---|
//! | `<!-- run -->` | shell commands; they must succeed |
//! | `<!-- output -->` | what the commands before it print: `…` is any text, a line of it alone any lines |
//! | `<!-- not run: why -->` | shell commands that a test cannot run |
//! | `<!-- file: NAME -->` | a file that commands after it use; written beside them |
//!
//! Every `sh` block has one of the first and third, so that none is forgotten. Every `toml` block must be a configuration of one
//! of the programs, or `<!-- fragment: PROGRAM -->` of one that others complete. Blocks of a page run in one shell, in their order,
//! in a folder of their own that has the repository's files, on a network of their own where the system gives one. A page that
//! leaves a process running fails.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use skycache_tests::programs::find;

use crate::workspace;

/// The longest that the commands of a page may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// Folders of the repository that commands may name.
const LINKED: [&str; 6] = ["README.md", "configs", "daemon", "docs", "packaging", "tests"];

/// Programs that commands may use, beside ours and those of every system.
const PROGRAMS: [&str; 4] = ["curl", "ffmpeg", "openssl", "python3"];

/// Use of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Use {
    /// Commands, and what they print if that is said.
    Run(Option<String>),
    /// A file with this name.
    File(String),
    /// A configuration that stands alone.
    Config,
    /// A part of one.
    Fragment,
    /// Neither.
    Shown,
}

/// A code block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Line of the text at which it begins, from 1.
    pub(crate) line: usize,
    /// First word after the fence.
    pub(crate) language: String,
    /// Text between the fences.
    pub(crate) text: String,
    /// Its use.
    pub(crate) used: Use,
}

/// Reads the blocks of a page.
///
/// # Errors
/// A block that does not say what it is, with its line.
pub(crate) fn read(text: &str) -> Result<Vec<Block>, String> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = text.lines().enumerate();
    let mut comment = String::new();
    while let Some((at, line)) = lines.next() {
        let trimmed = line.trim();
        if let Some(said) = trimmed.strip_prefix("<!--").and_then(|it| it.strip_suffix("-->")) {
            said.trim().clone_into(&mut comment);
            continue;
        }
        let Some(info) = trimmed.strip_prefix("```") else {
            if !trimmed.is_empty() {
                comment.clear();
            }
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let mut body = String::new();
        for (_, line) in lines.by_ref() {
            if line.trim() == "```" {
                break;
            }
            body.push_str(line.get(indent..).unwrap_or_else(|| line.trim_start()));
            body.push('\n');
        }
        let language = info.split([' ', ',']).next().unwrap_or_default().to_owned();
        let (line, said) = (at + 1, std::mem::take(&mut comment));
        let used = match (language.as_str(), said.as_str()) {
            (_, "output") => {
                let before = blocks.last_mut().map(|it| &mut it.used);
                let Some(Use::Run(expected @ None)) = before else {
                    return Err(format!("{line}: no commands stand before this output"));
                };
                *expected = Some(body);
                continue;
            }
            ("sh", "run") => Use::Run(None),
            ("sh", said) if said.starts_with("not run: ") => Use::Shown,
            ("sh", _) => {
                return Err(format!("{line}: put <!-- run --> or <!-- not run: why --> before this block"));
            }
            (_, said) if said.starts_with("file: ") => Use::File(said["file: ".len()..].trim().to_owned()),
            ("toml", said) if said.starts_with("fragment") => Use::Fragment,
            ("toml", _) => Use::Config,
            _ => Use::Shown,
        };
        blocks.push(Block { line, language, text: body, used });
    }
    Ok(blocks)
}

/// Whether `text` is what `expected` describes.
///
/// # Errors
/// The first line that differs.
pub(crate) fn compare(expected: &str, text: &str) -> Result<(), String> {
    let expected: Vec<&str> = expected.lines().map(str::trim_end).collect();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    // rest[i][j]: whether expected[i..] describes lines[j..].
    let mut rest = vec![vec![false; lines.len() + 1]; expected.len() + 1];
    rest[expected.len()][lines.len()] = true;
    for i in (0..expected.len()).rev() {
        for j in (0..=lines.len()).rev() {
            rest[i][j] = if expected[i].trim() == "…" {
                rest[i + 1][j] || j < lines.len() && rest[i][j + 1]
            } else {
                j < lines.len() && rest[i + 1][j + 1] && is_line(expected[i], lines[j])
            };
        }
    }
    if rest[0][0] {
        return Ok(());
    }
    let differs =
        expected.iter().find(|wanted| wanted.trim() != "…" && !lines.iter().any(|it| is_line(wanted, it)));
    let why = differs.map_or_else(
        || "lines differ in their order or number".to_owned(),
        |it| format!("no line is\n  {it}"),
    );
    Err(format!("{why}\nprinted:\n{}", lines.iter().map(|it| format!("  {it}\n")).collect::<String>()))
}

fn is_line(pattern: &str, line: &str) -> bool {
    let parts: Vec<&str> = pattern.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return pattern == line };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Runs the blocks of a page.
///
/// # Errors
/// The block that failed, with what it printed.
pub(crate) fn run(page: &Path, bin: &Path) -> Result<usize, String> {
    let name = page.strip_prefix(workspace()).unwrap_or(page).display().to_string();
    let text = fs::read_to_string(page).map_err(|err| format!("{name}: {err}"))?;
    let blocks = read(&text).map_err(|why| format!("{name}:{why}"))?;
    run_blocks(&name, &blocks, bin)
}

/// Runs the blocks of a page of this name.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_blocks(name: &str, blocks: &[Block], bin: &Path) -> Result<usize, String> {
    let commands = || blocks.iter().filter(|it| matches!(it.used, Use::Run(_)));
    let count = commands().count();
    let uses =
        |name: &&str| commands().any(|it| it.text.split_whitespace().any(|word| word.ends_with(*name)));
    let missing = PROGRAMS.iter().filter(|name| uses(name) && find(name).is_none());
    let missing: Vec<&str> = missing.copied().collect();
    if !missing.is_empty() {
        println!("SKIPPED: {name}: needs {}", missing.join(", "));
    }
    if count == 0 || !missing.is_empty() {
        return Ok(0);
    }
    let folder = tempfile::Builder::new().prefix("skycache-docs-").tempdir();
    let folder = folder.map_err(|err| format!("a temporary folder: {err}"))?;
    let root = fs::canonicalize(workspace()).map_err(|err| err.to_string())?;
    for entry in LINKED {
        std::os::unix::fs::symlink(root.join(entry), folder.path().join(entry))
            .map_err(|err| format!("{entry}: {err}"))?;
    }
    let state = folder.path().join(".doc");
    fs::create_dir(&state).map_err(|err| err.to_string())?;
    let mut script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n".to_owned();
    for (at, block) in blocks.iter().enumerate() {
        match &block.used {
            Use::Run(_) => {
                write(&state.join(format!("{at}.sh")), &block.text)?;
                script.push_str(&format!(
                    "echo {at} > .doc/at\nsource .doc/{at}.sh > .doc/{at}.out 2> .doc/{at}.err\n"
                ));
            }
            Use::File(file) => {
                write(&state.join(format!("{at}.file")), &block.text)?;
                script.push_str(&format!("mkdir -p \"$(dirname '{file}')\"\ncp .doc/{at}.file '{file}'\n"));
            }
            _ => {}
        }
    }
    script.push_str("echo done > .doc/at\nfor i in {1..50}; do [ -z \"$(jobs -r)\" ] && break; sleep 0.1; done\njobs -r > .doc/left\n");
    write(&state.join("all.sh"), &script)?;
    let status = shell(folder.path(), bin)?;
    let read = |file: &str| fs::read_to_string(state.join(file)).unwrap_or_default();
    let at = read("at").trim().to_owned();
    if at != "done" {
        let line = at.parse::<usize>().ok().and_then(|at| blocks.get(at)).map_or(0, |it| it.line);
        let said = format!("{}{}", read(&format!("{at}.out")), read(&format!("{at}.err")));
        let why =
            status.map_or_else(|| format!("took longer than {} s", PATIENCE.as_secs()), |it| it.to_string());
        return Err(format!("{name}:{line}: {why}\n{said}"));
    }
    for (at, block) in blocks.iter().enumerate() {
        if let Use::Run(Some(expected)) = &block.used {
            compare(expected, &read(&format!("{at}.out")))
                .map_err(|why| format!("{name}:{}: {why}{}", block.line, read(&format!("{at}.err"))))?;
        }
    }
    match read("left").trim() {
        "" => Ok(count),
        left => Err(format!("{name}: the page leaves running, so that a reader does too:\n{left}")),
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|err| format!("{}: {err}", path.display()))
}

/// Runs the script of a page to its end; `None`: it took too long and was ended.
fn shell(folder: &Path, bin: &Path) -> Result<Option<std::process::ExitStatus>, String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let (program, arguments) = network();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).process_group(0);
    command.env("PATH", format!("{}:{path}", bin.display())).env("HOME", folder).env("NO_COLOR", "1");
    // Widths of terminals are not a matter of a document.
    command.env("COLUMNS", "100").stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::null()).spawn().map_err(|err| format!("bash: {err}"))?;
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|err| err.to_string())? {
            Some(status) => break Some(status),
            None if begin.elapsed() > PATIENCE => break None,
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    end_group(&mut child);
    Ok(status)
}

/// Ends what is left of a page's processes.
fn end_group(child: &mut Child) {
    let group = format!("-{}", child.id());
    // No process left to end is the wanted state.
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = child.wait();
}

/// The shell with a network of its own, where the system gives one: default ports and groups are then its own.
fn network() -> (&'static str, Vec<&'static str>) {
    const SCRIPT: &str = "ip link set lo up && exec bash .doc/all.sh";
    for arguments in [&["--net"][..], &["--user", "--map-root-user", "--net"]] {
        let works = Command::new("unshare")
            .args(arguments)
            .args(["sh", "-c", "ip link set lo up"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|it| it.success());
        if works {
            return ("unshare", [arguments, &["sh", "-c", SCRIPT]].concat());
        }
    }
    ("bash", vec![".doc/all.sh"])
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn blocks_say_what_they_are() {
        let page = "# T\n<!-- run -->\n```sh\necho a\n```\n\n<!-- output -->\n```\na\n```\n<!-- file: x/y.toml -->\n```toml\na = 1\n```\n```toml\nb = 1\n```\n<!-- not run: needs a dish -->\n```sh\ntune\n```\n```json\n{}\n```\n";
        let blocks = read(page).unwrap();
        let used: Vec<&Use> = blocks.iter().map(|it| &it.used).collect();
        let expected = [
            &Use::Run(Some("a\n".to_owned())),
            &Use::File("x/y.toml".to_owned()),
            &Use::Config,
            &Use::Shown,
            &Use::Shown,
        ];
        assert_eq!(used, expected);
        assert_eq!(blocks[0].line, 3);
        assert!(read("```sh\nls\n```\n").unwrap_err().contains("1: put <!-- run -->"));
        assert!(read("<!-- output -->\n```\nx\n```\n").unwrap_err().contains("no commands"));
    }

    #[test]
    fn output_is_compared_with_its_gaps() {
        for (expected, text, is_same) in [
            ("a\nb\n", "a\nb\n", true),
            ("a … c\n", "a 12 c\n", true),
            ("a\n…\nd\n", "a\nb\nc\nd\n", true),
            ("…\n", "", true),
            ("a\n…\n", "a\n", true),
            ("a\n", "a\nb\n", false),
            ("a … c\n", "a 12 d\n", false),
            ("a\n…\nd\n", "a\nb\n", false),
            ("b\na\n", "a\nb\n", false),
        ] {
            assert_eq!(compare(expected, text).is_ok(), is_same, "{expected:?} {text:?}");
        }
    }

    fn run_page(page: &str) -> Result<usize, String> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        run_blocks(&format!("page-{number}"), &read(page).unwrap(), &PathBuf::from("/nonexistent"))
    }

    #[test]
    fn a_wrong_block_fails_its_page_and_a_good_one_leaves_nothing() {
        let good = "<!-- file: name -->\n```\nworld\n```\n<!-- run -->\n```sh\nsleep 60 &\necho hello $(cat name)\nkill %1\n```\n<!-- output -->\n```\nhello …\n```\n";
        assert_eq!(run_page(good), Ok(1));
        let other = good.replace("echo hello", "echo bye");
        assert!(run_page(&other).unwrap_err().contains("no line is\n  hello …"), "other output");
        let failing = good.replace("cat name", "cat nothing").replace("echo hello $(cat", "x=$(cat");
        assert!(run_page(&failing).unwrap_err().contains(":6:"), "a command that fails");
        let left = good.replace("kill %1\n", "");
        assert!(run_page(&left).unwrap_err().contains("leaves running"), "a process that stays");
    }
}
