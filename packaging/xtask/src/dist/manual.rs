//! Man pages and completions, generated from the command lines.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::tree::{Tree, gzip};

/// Adds those of a program to a package's tree.
pub(crate) fn add(
    tree: &mut Tree,
    program: &'static str,
    command: Command,
    date: &str,
) -> Result<(), String> {
    let failed = |err: std::io::Error| format!("the manual of {program}: {err}");
    let mut command = command.name(program);
    command.build();
    pages(tree, &command, program, date).map_err(failed)?;
    for (shell, path) in [
        (Shell::Bash, format!("usr/share/bash-completion/completions/{program}")),
        (Shell::Zsh, format!("usr/share/zsh/vendor-completions/_{program}")),
        (Shell::Fish, format!("usr/share/fish/vendor_completions.d/{program}.fish")),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, program, &mut text);
        tree.add_file(&path, 0o644, text);
    }
    Ok(())
}

/// A page for the program, and one for each verb.
fn pages(tree: &mut Tree, command: &Command, name: &str, date: &str) -> std::io::Result<()> {
    for verb in command.get_subcommands().filter(|it| it.get_name() != "help") {
        pages(tree, verb, &format!("{name}-{}", verb.get_name()), date)?;
    }
    let mut page = Vec::new();
    let command = command.clone().display_name(name).disable_help_subcommand(true);
    clap_mangen::Man::new(command).date(date).source("Skycache").render(&mut page)?;
    tree.add_file(&format!("usr/share/man/man1/{name}.1.gz"), 0o644, gzip(&page));
    Ok(())
}

pub(crate) fn skycached() -> Command {
    skycache::cli::Cli::command()
}

pub(crate) fn headend() -> Command {
    headend::cli::Cli::command()
}
