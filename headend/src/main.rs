//! `headend`: parses the command line and runs one command.

use std::process::ExitCode;

use clap::Parser as _;
use headend::cli::Cli;
use headend::commands;

fn main() -> ExitCode {
    match commands::run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("headend: {why}");
            ExitCode::FAILURE
        }
    }
}
