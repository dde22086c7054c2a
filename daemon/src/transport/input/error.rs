//! Failures of inputs: whose fault each is, and whether opening the input again can help.

use std::fmt;
use std::io;

/// Why an input cannot be opened or read.
#[derive(Debug)]
pub enum InputError {
    /// The configuration lacks something, or asks for what the tuner cannot do.
    Configuration(String),
    /// A device, file or socket of this machine cannot be opened or read.
    Local {
        /// Its path or address, and what was done.
        what: String,
        /// The system's error.
        err: io::Error,
        /// The fix, where one is known.
        fix: Option<&'static str>,
    },
    /// The socket of a group cannot be opened: [`crate::source::SourceError`] says why.
    Socket(String),
    /// The driver of a tuner refuses a command.
    Driver {
        /// Folder of the adapter.
        device: String,
        /// Name of the ioctl.
        command: &'static str,
        /// The system's error.
        err: io::Error,
    },
    /// A recording is not a transport stream.
    Content(String),
    /// A SAT>IP server refuses, or does not answer.
    Server {
        /// Its host and port.
        server: String,
        /// Its explanation, or the failure of the connection.
        why: String,
    },
}

impl InputError {
    /// A device, file or socket without a known fix.
    pub(super) const fn local(what: String, err: io::Error) -> Self {
        Self::Local { what, err, fix: None }
    }

    /// Whether opening the input again can help, without a change of the configuration.
    pub const fn can_retry(&self) -> bool {
        match self {
            Self::Configuration(_) => false,
            // Adapters come back, files are completed, servers restart.
            Self::Local { .. }
            | Self::Socket(_)
            | Self::Driver { .. }
            | Self::Content(_)
            | Self::Server { .. } => true,
        }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(why) | Self::Socket(why) | Self::Content(why) => f.write_str(why),
            Self::Local { what, err, fix: None } => write!(f, "{what}: {err}"),
            Self::Local { what, err, fix: Some(fix) } => write!(f, "{what}: {err}; {fix}"),
            Self::Driver { device, command, err } => write!(f, "{device}: {command}: {err}"),
            Self::Server { server, why } => write!(f, "satip://{server}: {why}"),
        }
    }
}

impl std::error::Error for InputError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Local { err, .. } | Self::Driver { err, .. } => Some(err),
            Self::Configuration(_) | Self::Socket(_) | Self::Content(_) | Self::Server { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_the_device_and_the_fix() {
        let busy = || io::Error::from(io::ErrorKind::ResourceBusy);
        let opened = InputError::Local { what: "/dev/x".to_owned(), err: busy(), fix: Some("free it") };
        assert_eq!(opened.to_string(), "/dev/x: resource busy; free it");
        let tuned = InputError::Driver { device: "/dev/x".to_owned(), command: "FE_SET_TONE", err: busy() };
        assert_eq!(tuned.to_string(), "/dev/x: FE_SET_TONE: resource busy");
        assert!(opened.can_retry() && tuned.can_retry());
        assert!(!InputError::Configuration("no carrier".to_owned()).can_retry());
    }
}
