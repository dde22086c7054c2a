//! `headend command`: gives, lists and cancels commands to receivers ([`crate::spool`]).

use carousel::command::{Action, Command, MAX_GROUPS, SERVICE, is_everything, is_word};
use carousel::time::WallTime;
use carousel::trust::Sealer;
use serde_json::json;

use super::{pretty, print};
use crate::cli::Order;
use crate::clock::{Clocks as _, SystemClocks};
use crate::config::Config;
use crate::{signing, spool};

/// Gives receivers a command, shows those in force, or takes one back.
pub(super) fn command(order: Order) -> Result<(), String> {
    let config = Config::load(&order.config)?;
    let folder = spool::folder(&config).ok_or_else(|| {
        format!(
            "{}: commands are signed; `headend keygen --out DIR` makes keys, [signing] keys names their folder",
            order.config.display()
        )
    })?;
    if let Some(signing) = config.signing.as_ref().filter(|it| it.commands.is_none()) {
        signing::keys_are_there(&signing.keys)?;
    }
    let wall = SystemClocks::new().wall();
    let date = wall.unix_seconds();
    match (order.action.as_str(), order.target.as_deref()) {
        ("list", None) => {
            let (commands, problems) = spool::read(&folder, date);
            for problem in problems {
                eprintln!("headend: {problem}");
            }
            if order.json {
                let commands: Vec<_> = commands.iter().map(spool::to_json).collect();
                return print(&pretty(&json!({ "schema": 1, "commands": commands })));
            }
            if commands.is_empty() {
                return print("no commands are in force\n");
            }
            print(&commands.iter().map(|it| format!("{}\n", line(it))).collect::<String>())
        }
        ("cancel", Some(id)) => {
            spool::cancel(&folder, id)?;
            warn_on_standby(&config);
            if order.json {
                return print(&pretty(&json!({ "schema": 1, "id": id, "done": "cancelled" })));
            }
            print(&format!("{id}: cancelled; receivers that have not done it will not\n"))
        }
        ("list", Some(_)) => Err("list takes nothing behind it".to_owned()),
        (action, target) => {
            // The key that would sign it must be there, and be one that receivers take commands of.
            let sealer = signing::sealer(&config, wall)?;
            if let Some(certificate) = sealer.as_ref().map(Sealer::certificate)
                && !certificate.covers(SERVICE)
            {
                return Err(format!(
                    "key {} may sign for {} alone, and receivers would refuse its commands; `headend keygen{} --rotate --service {SERVICE}`, \
                     with --service for each of the others, makes one that may sign both",
                    certificate.key.id(),
                    certificate.services.join(", "),
                    config.keys_flag()
                ));
            }
            let command = given(&order, action, target.unwrap_or_default(), wall)?;
            spool::add(&folder, &command, date)?;
            warn_on_standby(&config);
            if order.json {
                return print(&pretty(&spool::to_json(&command)));
            }
            print(&format!("{}\n`headend send` repeats it until then\n", line(&command)))
        }
    }
}

/// With a lease, the headend on the air sends its own commands.
fn warn_on_standby(config: &Config) {
    let Some(file) = config.file.as_ref().filter(|_| config.lease.is_some()) else { return };
    let lease = crate::status::ask(file).map(|status| status["lease"].clone()).unwrap_or_default();
    if lease["role"] != "active" {
        let holder = lease["holder"].as_str().unwrap_or("another headend");
        eprintln!(
            "headend: this headend is not on the air: say the same on {holder}, unless both have one folder of commands"
        );
    }
}

fn given(order: &Order, action: &str, target: &str, wall: WallTime) -> Result<Command, String> {
    let Some(action) = Action::of(action, target) else {
        return Err(match action {
            "cancel" => "cancel takes the identifier of a command".to_owned(),
            "reboot-to" => "reboot-to takes the name of a system: letters, digits, - _ .".to_owned(),
            _ => format!("{action} takes a target: 1 to 2048 bytes without control characters"),
        });
    };
    if let Action::Ban(pattern) = &action
        && is_everything(pattern)
    {
        return Err(format!(
            "{pattern:?} matches everything that receivers hold, and none of them does that"
        ));
    }
    let id = order.id.clone().unwrap_or_else(|| format!("c{}", wall.unix_ms()));
    if let Some(odd) = order.groups.iter().chain([&id]).find(|it| !is_word(it)) {
        return Err(format!("{odd:?}: identifiers and groups have 1 to 64 letters, digits, - _ ."));
    }
    if order.groups.len() > MAX_GROUPS {
        return Err(format!("more than {MAX_GROUPS} groups; leave them out to mean all receivers"));
    }
    let until = wall.unix_seconds() + order.valid_s;
    Ok(Command { id, action, groups: order.groups.clone(), until, within_s: order.within_s })
}

fn line(command: &Command) -> String {
    let groups = if command.groups.is_empty() { "all".to_owned() } else { command.groups.join(", ") };
    let until = signing::at(command.until).to_xml();
    let (name, target) = (command.action.name(), command.action.target());
    let within =
        if command.within_s > 0 { format!(", within {} s", command.within_s) } else { String::new() };
    format!("{}: {name} {target}; receivers: {groups}; until {until}{within}", command.id)
}
