//! Seeds of broadcast commands.

use carousel::command::{Action, Command, to_xml};

use crate::input;
use crate::targets::{commands_operation as operation, sealed_commands};

fn command(id: &str, action: &str, target: &str) -> Command {
    let action = Action::of(action, target).unwrap_or_else(|| unreachable!("an action"));
    Command { id: id.to_owned(), action, groups: Vec::new(), until: 5000, within_s: 0 }
}

pub(crate) fn commands() -> Vec<Vec<u8>> {
    let targets = ["https://h/a?b=1&c=2", "h/*", "h/a", "h/b", "h/<c>", "Tonight \"at\" eight", "b"];
    let mut all: Vec<Command> = Action::NAMES
        .iter()
        .zip(targets)
        .map(|(name, target)| command(&format!("c-{name}"), name, target))
        .collect();
    all[1].groups = vec!["north".to_owned(), "lab-2".to_owned()];
    all[2].groups = vec!["south".to_owned()];
    all[3].within_s = 600;
    all[4].until = 10;
    let text = to_xml(&all);
    let mut once = Vec::new();
    input::add(&mut once, operation::SEALED, text.as_bytes());
    input::add(&mut once, operation::TIME, &[0, 10]);
    input::add(&mut once, operation::SEALED, text.as_bytes());
    input::add(&mut once, operation::RESTART, &[]);
    input::add(&mut once, operation::SEALED, to_xml(&all[3..]).as_bytes());
    input::add(&mut once, operation::TIME, &[2, 100]);
    let mut raw = Vec::new();
    input::add(&mut raw, operation::RAW, sealed_commands(1, &text).as_bytes());
    input::add(&mut raw, operation::RAW, text.as_bytes());
    input::add(&mut raw, operation::TIME, &[3, 255]);
    vec![once, raw]
}
