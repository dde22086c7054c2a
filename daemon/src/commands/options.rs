//! Options of commands that come with the carousel: `[commands]`.

use carousel::command::{MAX_GROUPS, is_word};
use carousel::config::Mistake;
use serde::{Deserialize, Serialize};

/// `[commands]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommandOptions {
    /// Groups that this box belongs to: it does commands for all boxes, and those for one of these.
    pub groups: Vec<String>,
    /// Program that a `reboot-to` runs, with the name of the system behind its arguments. Left out: such commands are not done.
    pub reboot: Vec<String>,
}

impl CommandOptions {
    /// Values that cannot be used.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        if let Some(odd) = self.groups.iter().find(|it| !is_word(it)) {
            all.push(Mistake::of_value(
                "commands.groups",
                &format!("{odd:?} is not a name of a group"),
                "1 to 64 letters, digits, - _ .",
            ));
        }
        if self.groups.len() > MAX_GROUPS {
            all.push(Mistake::of_value(
                "commands.groups",
                &format!("more than {MAX_GROUPS} groups"),
                "name those that operators use",
            ));
        }
        if self.reboot.first().is_some_and(|it| !it.starts_with('/')) {
            all.push(Mistake::of_value(
                "commands.reboot",
                "the program has no absolute path",
                "name it from / on",
            ));
        }
        all
    }
}
