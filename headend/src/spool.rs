//! Commands to receivers that are in force: a file each, in a folder that `headend command` writes and `headend send` reads.
//!
//! The document that goes on the air is made from them and signed. It leaves out commands that have expired or whose file was
//! removed.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use carousel::command::{Action, Command, MAX_COMMANDS, is_word};
use carousel::config::plain;
use serde_json::{Value, json};

use crate::config::Config;
use crate::sys::read_source_file;

/// Longest file of a command.
const FILE_BYTES: u64 = 64 << 10;

/// The folder of a configuration; `None` if nothing is signed, and thus no command sent.
pub fn folder(config: &Config) -> Option<PathBuf> {
    let signing = config.signing.as_ref()?;
    Some(signing.commands.clone().unwrap_or_else(|| signing.keys.join("commands")))
}

/// A command in the form of files and `--json`.
pub fn to_json(command: &Command) -> Value {
    json!({
        "schema": 1, "id": command.id, "action": command.action.name(), "target": command.action.target(),
        "groups": command.groups, "until": command.until, "within_s": command.within_s,
    })
}

/// A command of a file, or of another headend. `None`: it cannot be read.
pub fn of_json(value: &Value) -> Option<Command> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let number = |name: &str| value.get(name).and_then(Value::as_u64);
    let groups = value.get("groups")?.as_array()?.iter().map(|it| it.as_str().map(str::to_owned));
    let command = Command {
        id: text("id").filter(|id| is_word(id))?.to_owned(),
        action: Action::of(text("action")?, text("target")?)?,
        groups: groups.collect::<Option<Vec<_>>>()?,
        until: number("until")?,
        within_s: number("within_s")?,
    };
    command.groups.iter().all(|it| is_word(it)).then_some(command)
}

/// Commands in force at `date`, by identifier, and a line for each unusable file.
pub fn read(folder: &Path, date: u64) -> (Vec<Command>, Vec<String>) {
    let (mut commands, mut problems) = (Vec::new(), Vec::new());
    // A link may lead to the folder; those in it are not followed.
    let entries = folder.canonicalize().and_then(fs::read_dir);
    // The first command makes the folder.
    if let Some(err) = entries.as_ref().err().filter(|it| it.kind() != ErrorKind::NotFound) {
        problems.push(format!("{}: {}", folder.display(), plain(err)));
    }
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|it| it != "json") {
            continue;
        }
        let bytes = read_source_file(&path, FILE_BYTES).ok().filter(|it| it.len() as u64 <= FILE_BYTES);
        let value = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        match value.as_ref().and_then(of_json) {
            Some(command) if command.until > date => commands.push(command),
            Some(_) => {}
            None => problems.push(format!("{}: no command; remove it", path.display())),
        }
    }
    commands.sort_by(|a, b| a.id.cmp(&b.id));
    if commands.len() > MAX_COMMANDS {
        problems.push(format!("{}: more than {MAX_COMMANDS} commands; the rest waits", folder.display()));
        commands.truncate(MAX_COMMANDS);
    }
    (commands, problems)
}

/// Adds commands that another headend has on the air, and removes those that it has taken back since `before`. Lines on what could
/// not be done.
pub fn mirror(folder: &Path, before: &[Command], commands: &[Command], date: u64) -> Vec<String> {
    let (own, mut problems) = read(folder, date);
    for gone in before.iter().filter(|it| own.contains(it) && !commands.contains(it)) {
        problems.extend(cancel(folder, &gone.id).err());
    }
    for command in commands.iter().filter(|it| it.until > date && !own.contains(it)) {
        problems.extend(add(folder, command, date).err());
    }
    problems
}

/// Writes a command down, and removes those that have expired.
///
/// # Errors
/// If its identifier is taken, or there is no place.
pub fn add(folder: &Path, command: &Command, date: u64) -> Result<(), String> {
    let failed = |path: &Path, err: &std::io::Error| format!("{}: {}", path.display(), plain(err));
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(|err| failed(folder, &err))?;
    let (known, _) = read(folder, 0);
    let (old, in_force): (Vec<_>, Vec<_>) = known.into_iter().partition(|it| it.until <= date);
    for expired in old {
        // Another call may have been faster.
        let _ = fs::remove_file(file(folder, &expired.id));
    }
    if in_force.len() >= MAX_COMMANDS {
        return Err(format!(
            "{MAX_COMMANDS} commands are in force; `headend command cancel ID` takes one back"
        ));
    }
    let (path, new) = (file(folder, &command.id), folder.join(format!("{}.new", command.id)));
    let taken = || format!("{}: a command of this identifier is in force; give another --id", command.id);
    let written =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&new).and_then(|mut it| {
            writeln!(it, "{}", to_json(command))?;
            it.sync_all()
        });
    // A link does not replace an existing file.
    let linked = written.and_then(|()| fs::hard_link(&new, &path));
    let _ = fs::remove_file(&new);
    linked.map_err(|err| if err.kind() == ErrorKind::AlreadyExists { taken() } else { failed(&path, &err) })
}

/// Takes a command back. Receivers that have done it have done it.
///
/// # Errors
/// If no command has this identifier.
pub fn cancel(folder: &Path, id: &str) -> Result<(), String> {
    let missing =
        || format!("{id}: no command of this identifier; `headend command list` shows those in force");
    if !is_word(id) {
        return Err(missing());
    }
    let path = file(folder, id);
    fs::remove_file(&path).map_err(|err| match err.kind() {
        ErrorKind::NotFound => missing(),
        _ => format!("{}: {}", path.display(), plain(&err)),
    })
}

fn file(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(id: &str, until: u64) -> Command {
        let action = Action::of("ban", "h/*").unwrap();
        Command { id: id.to_owned(), action, groups: vec!["north".into()], until, within_s: 60 }
    }

    #[test]
    fn commands_are_kept_until_they_expire_or_are_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        // The folder of the configuration is a link: what is in it is read all the same.
        fs::create_dir(folder.path().join("there")).unwrap();
        std::os::unix::fs::symlink("there", folder.path().join("link")).unwrap();
        let at = folder.path().join("link/commands");
        for (id, until) in [("b", 200), ("a", 100), ("c", 300)] {
            add(&at, &command(id, until), 50).unwrap();
        }
        assert_eq!(read(&at, 50), (vec![command("a", 100), command("b", 200), command("c", 300)], vec![]));
        assert_eq!(read(&at, 100).0, [command("b", 200), command("c", 300)]);
        assert!(add(&at, &command("b", 900), 50).unwrap_err().contains("another --id"));
        cancel(&at, "b").unwrap();
        assert!(cancel(&at, "b").unwrap_err().contains("headend command list"));
        assert!(cancel(&at, "../../etc/x").is_err());
        add(&at, &command("d", 900), 250).unwrap();
        assert_eq!(read(&at, 0).0, [command("c", 300), command("d", 900)], "what has expired is removed");
        fs::write(at.join("odd.json"), "{}").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at.join("link.json")).unwrap();
        assert_eq!(read(&at, 0).1.len(), 2);
    }

    #[test]
    fn commands_of_another_headend_are_taken_over_and_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        let [own, a, b] = ["own", "a", "b"].map(|id| command(id, 200));
        add(&at, &own, 50).unwrap();
        assert!(mirror(&at, &[], &[a.clone(), b.clone(), command("old", 50)], 50).is_empty());
        assert_eq!(read(&at, 50).0, [a.clone(), b.clone(), own.clone()]);
        assert!(mirror(&at, &[a.clone(), b.clone()], std::slice::from_ref(&b), 50).is_empty());
        assert_eq!(read(&at, 50).0, [b.clone(), own], "what was given here stays");
        assert_eq!(
            mirror(&at, &[], &[Command { within_s: 1, ..b }], 50).len(),
            1,
            "another command of this name"
        );
    }

    #[test]
    fn commands_in_force_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        for number in 0..MAX_COMMANDS {
            let text = to_json(&command(&format!("c{number}"), 200)).to_string();
            fs::write(at.join(format!("c{number}.json")), text).unwrap();
        }
        assert!(add(&at, &command("more", 200), 50).unwrap_err().contains("are in force"));
        assert!(add(&at, &command("more", 900), 200).is_ok(), "those before have expired");
    }
}
