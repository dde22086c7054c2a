//! Execution of commands from the carousel, as of an operator's, with a line of the audit log for each.

use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use carousel::command::{Action, Command, Outcome};

use super::purge::{NotDone, PurgeRequest};
use super::{AUDIT, Verb, set_pinned};
use crate::clock;
use crate::status::Parts;

/// Interval at which documents are evaluated and due commands executed.
const LOOK: Duration = Duration::from_secs(1);
/// Time that the program of `reboot-to` may take.
const REBOOT_PATIENCE: Duration = Duration::from_secs(60);
/// Interval at which the end of that program is checked.
const REBOOT_LOOK: Duration = Duration::from_millis(20);

/// Executes due commands until the runtime ends.
pub async fn run(parts: Arc<Parts>) {
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let (now, wall) = (clock::now(), clock::trusted_wall());
        parts.commands.judge(&parts.trust, now, wall, write_down);
        loop {
            let looked = Arc::clone(&parts);
            // It waits for the disk.
            let due = tokio::task::spawn_blocking(move || looked.commands.next_due(now, wall)).await;
            let Ok(Some((root, command, not_done))) = due else { break };
            let outcome = match not_done {
                Some(outcome) => outcome,
                None => {
                    let (parts, command) = (Arc::clone(&parts), command.clone());
                    let done = tokio::task::spawn_blocking(move || carry_out(&parts, &root, &command)).await;
                    done.unwrap_or(Outcome::Failed)
                }
            };
            parts.commands.done(outcome);
            write_down(&command, outcome);
        }
    }
}

fn write_down(command: &Command, outcome: Outcome) {
    let (id, action, target) = (&command.id, command.action.name(), command.action.target());
    tracing::info!(target: AUDIT, client = "carousel", by = "signature", id, action, target, %outcome, "command");
}

/// Executes a command; may block.
fn carry_out(parts: &Parts, root: &str, command: &Command) -> Outcome {
    let id = &command.id;
    let purged = |request: PurgeRequest| outcome_of(request.carry_out(parts));
    let pinned = |verb, name| outcome_of(set_pinned(parts, verb, name));
    match &command.action {
        Action::Purge(name) => purged(PurgeRequest::of_name(name, false, id)),
        Action::Refresh(name) => purged(PurgeRequest::of_name(name, true, id)),
        Action::Ban(pattern) => purged(PurgeRequest::of_pattern(pattern, id)),
        Action::Pin(name) => pinned(Verb::Pin, name),
        Action::Unpin(name) => pinned(Verb::Unpin, name),
        Action::RebootTo(system) => reboot(&parts.commands.options().reboot, system),
        Action::Message(_) => {
            parts.commands.show(root, command.clone());
            Outcome::Done
        }
    }
}

fn outcome_of<T>(done: Result<T, NotDone>) -> Outcome {
    match done {
        Ok(_) => Outcome::Done,
        Err(NotDone::Nothing(_)) => Outcome::Nothing,
        Err(NotDone::Wrong(_)) => Outcome::Failed,
    }
}

/// Runs the program that starts another system, and waits for it.
fn reboot(program: &[String], system: &str) -> Outcome {
    let Some((name, arguments)) = program.split_first() else { return Outcome::NotConfigured };
    let mut child = match Process::new(name).args(arguments).arg(system).stdin(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(err) => {
            tracing::error!(program = name, %err, "the program of reboot-to cannot be run");
            return Outcome::Failed;
        }
    };
    let begun = clock::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Outcome::Done,
            Ok(None) if clock::now().since(begun) < REBOOT_PATIENCE => clock::sleep(REBOOT_LOOK),
            ended => {
                // It has ended, or is given up.
                let _ = child.kill();
                let _ = child.wait();
                tracing::error!(program = name, ?ended, "the program of reboot-to has failed");
                return Outcome::Failed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_system_is_started_by_the_program_that_is_configured() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("said");
        let script = format!("echo \"$0 $1\" > {}", file.display());
        let program = ["/bin/sh", "-c", script.as_str(), "to"].map(str::to_owned);
        assert_eq!(reboot(&program, "b"), Outcome::Done);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "to b\n");
        assert_eq!(reboot(&["/bin/false".to_owned()], "b"), Outcome::Failed);
        assert_eq!(reboot(&["/none/at/all".to_owned()], "b"), Outcome::Failed);
        assert_eq!(reboot(&[], "b"), Outcome::NotConfigured);
    }
}
