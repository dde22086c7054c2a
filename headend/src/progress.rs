//! Progress of a running command: a bar on a terminal, occasional lines elsewhere.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar, hidden without a terminal.
pub fn bar(template: &str, length: u64) -> ProgressBar {
    if !is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// Whether output may have colours: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub fn may_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// Whether messages go to a terminal.
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Prints a line to stderr. A terminal that was closed is no error: a transmission must still end in order.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
