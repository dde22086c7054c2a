//! Commands to receivers in the carousel.
//!
//! One document names all commands in force. It is signed as such ([`crate::trust::Kind::Command`]) and repeated while one of
//! them is in force; a receiver that was off receives it when it is on again. [`Executor`] ensures that each is executed once.

mod executor;

use std::fmt::Write as _;

use crate::limits;
use crate::trust::{BLANK, NAMESPACE, Stream};
use crate::xml::{self, Element, XmlError};

pub use executor::{Executor, MAX_REMEMBERED, MAX_WAITING, Outcome, Receiver};

/// Name of the command document on the air.
pub const URI: &str = "urn:skycache:commands";
/// MIME type of the command document.
pub const CONTENT_TYPE: &str = "application/vnd.skycache.commands+xml";
/// Service name under which the command document is signed; a certificate that is limited to services signs commands only if it
/// names this one.
pub const SERVICE: &str = "commands";
/// Namespace of its elements.
const COMMANDS_NAMESPACE: &str = "urn:skycache:commands:2026";
/// Longest identifier or name of a group.
const WORD_BYTES: usize = 64;
/// Longest target or text.
const TARGET_BYTES: usize = 2048;
/// Longest time over which receivers are dispersed.
pub const LONGEST_DISPERSAL_S: u64 = 7 * 86_400;

limits! {
    /// Commands of one document.
    pub const MAX_COMMANDS: usize = 256, "commands" {
        why: "An operator has a few in force at a time.",
        full: "A document with more is refused as a whole; `headend command` adds no more.",
        free: "When a command expires, or is cancelled.",
        test: "what_is_no_list_of_commands_is_refused",
    }

    /// Groups that one command may name.
    pub const MAX_GROUPS: usize = 64, "groups" {
        why: "A region or a model is one; a command for more boxes than that is one for all.",
        full: "The document is refused as a whole; `headend command` makes none with more.",
        free: "Holds for one command.",
        test: "what_is_no_list_of_commands_is_refused",
    }
}

/// Declares the actions: variant and name in one table.
macro_rules! actions {
    ($( $(#[doc = $about:literal])+ $variant:ident = $name:literal, )+) => {
        /// Task of a receiver, with its target.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Action {
            $( $(#[doc = $about])+ $variant(String), )+
        }

        impl Action {
            /// Names of all actions, in command lines and documents.
            pub const NAMES: [&str; [$($name),+].len()] = [$($name),+];

            /// Its name.
            pub const fn name(&self) -> &'static str {
                match self {
                    $( Self::$variant(_) => $name, )+
                }
            }

            /// Name of its subject.
            pub const fn target(&self) -> &str {
                match self {
                    $( Self::$variant(target) => target.as_str(), )+
                }
            }

            fn named(name: &str, target: String) -> Option<Self> {
                match name {
                    $( $name => Some(Self::$variant(target)), )+
                    _ => None,
                }
            }
        }
    };
}

actions! {
    /// Remove an object from the cache.
    Purge = "purge",
    /// Remove every object that matches a pattern.
    Ban = "ban",
    /// Never evict an object.
    Pin = "pin",
    /// Allow its eviction again.
    Unpin = "unpin",
    /// Make an object stale: it is fetched again.
    Refresh = "refresh",
    /// Show viewers a text for as long as the command is in force.
    Message = "message",
    /// Start the system of this name.
    RebootTo = "reboot-to",
}

impl Action {
    /// The action of this name, with its target.
    pub fn of(name: &str, target: &str) -> Option<Self> {
        if !(1..=TARGET_BYTES).contains(&target.len()) || target.contains(char::is_control) {
            return None;
        }
        let action = Self::named(name, target.to_owned())?;
        let is_fit = !matches!(action, Self::RebootTo(_)) || is_word(target);
        is_fit.then_some(action)
    }
}

/// A command. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Identifier: a receiver executes one command of each.
    pub id: String,
    /// Its task.
    pub action: Action,
    /// Receivers that belong to one of these groups; none: all.
    pub groups: Vec<String>,
    /// End of its validity.
    pub until: u64,
    /// Seconds within which each receiver chooses a random moment.
    pub within_s: u64,
}

impl Command {
    /// Whether it is for a receiver of these groups.
    pub fn is_for(&self, groups: &[String]) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|it| groups.contains(it))
    }
}

/// Whether a text is an identifier, or a name of a group or system.
pub fn is_word(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // A target that begins with a hyphen would be an option of the called program.
    (1..=WORD_BYTES).contains(&text.len()) && text.chars().all(is_plain) && !text.starts_with('-')
}

/// Whether a pattern of `ban` matches any key, or as good as any: what it names beside `*` and `?` is punctuation, which every key
/// has (`*.*`, `*/*`).
pub fn is_everything(pattern: &str) -> bool {
    let bare = pattern.split_once("://").map_or(pattern, |(_, rest)| rest);
    !bare.contains(char::is_alphanumeric) && (bare.contains('*') || !bare.contains('?'))
}

/// The stream of the document in trust.
pub fn stream() -> Stream {
    Stream { service: SERVICE.to_owned(), name: SERVICE.to_owned(), tsi: 0 }
}

/// The document, to be sealed.
pub fn to_xml(commands: &[Command]) -> String {
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Commands xmlns=\"{COMMANDS_NAMESPACE}\" xmlns:sky=\"{NAMESPACE}\"{BLANK}>\n"
    );
    for it in commands {
        let (name, target) = (it.action.name(), xml::escape(it.action.target()));
        let _ = write!(out, "<Command id=\"{}\" until=\"{}\" withinS=\"{}\"", it.id, it.until, it.within_s);
        if !it.groups.is_empty() {
            let _ = write!(out, " groups=\"{}\"", it.groups.join(" "));
        }
        let _ = writeln!(out, " action=\"{name}\">{target}</Command>");
    }
    out.push_str("</Commands>\n");
    out
}

/// Reads the document. Commands whose action is not known here are left out: a newer headend may have more.
///
/// # Errors
/// If the document is malformed.
pub fn read(document: &[u8]) -> Result<Vec<Command>, XmlError> {
    let root = xml::parse(document)?;
    if root.name != "Commands" {
        return Err(XmlError::Missing { what: "Commands", within: root.name });
    }
    let mut commands = Vec::new();
    for element in root.all("Command") {
        if commands.len() >= MAX_COMMANDS {
            return Err(XmlError::TooLarge("MAX_COMMANDS"));
        }
        commands.extend(command(element)?);
    }
    Ok(commands)
}

fn command(element: &Element) -> Result<Option<Command>, XmlError> {
    let bad = |what, value: &str| XmlError::BadValue { what, value: value.to_owned() };
    let number = |what: &'static str| {
        let text = element.attribute(what).unwrap_or_default();
        text.parse::<u64>().map_err(|_| bad(what, text))
    };
    let id = element.attribute("id").unwrap_or_default();
    if !is_word(id) {
        return Err(bad("id", id));
    }
    let groups = element.attribute("groups").unwrap_or_default();
    let groups: Vec<String> = groups.split_whitespace().map(str::to_owned).collect();
    if groups.len() > MAX_GROUPS {
        return Err(XmlError::TooLarge("MAX_GROUPS"));
    }
    if let Some(group) = groups.iter().find(|it| !is_word(it)) {
        return Err(bad("groups", group));
    }
    let name = element.attribute("action").unwrap_or_default();
    let Some(action) = Action::of(name, &element.text) else {
        return if Action::NAMES.contains(&name) { Err(bad("target", &element.text)) } else { Ok(None) };
    };
    let (until, within_s) = (number("until")?, number("withinS")?.min(LONGEST_DISPERSAL_S));
    Ok(Some(Command { id: id.to_owned(), action, groups, until, within_s }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::time::{Instant, WallTime};
    use crate::trust::tests::{ROOT, sealer};
    use crate::trust::{Allowance, Edition, Judged, Kind, Mode, Policy, Trust, TrustDrop};

    pub(crate) fn command(id: &str, action: &str, target: &str) -> Command {
        let action = Action::of(action, target).unwrap();
        Command { id: id.to_owned(), action, groups: Vec::new(), until: 10_000, within_s: 0 }
    }

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let targets = ["https://h/a?b=1&c=2", "h/*", "h/a", "h/b", "h/<c>", "Tonight \"at\" eight", "b"];
        let commands: Vec<Command> = Action::NAMES
            .iter()
            .zip(targets)
            .map(|(name, target)| Command {
                groups: vec!["north".into(), "lab-2".into()],
                within_s: 600,
                ..command(&format!("c-{name}"), name, target)
            })
            .collect();
        assert_eq!(read(to_xml(&commands).as_bytes()), Ok(commands));
        assert_eq!(read(to_xml(&[]).as_bytes()), Ok(Vec::new()));
        // What a newer headend may send.
        let newer = to_xml(&[command("1", "pin", "h/a")]).replace("\"pin\"", "\"fly\"");
        assert_eq!(read(newer.as_bytes()), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_list_of_commands_is_refused() {
        let good = to_xml(&[Command { groups: vec!["north".into()], ..command("1", "purge", "h/a") }]);
        assert!(read(good.as_bytes()).is_ok());
        let long = "x".repeat(TARGET_BYTES + 1);
        let groups = "g ".repeat(MAX_GROUPS + 1);
        for (from, to) in [
            ("Commands ", "Orders "),
            ("id=\"1\"", "id=\"a b\""),
            ("id=\"1\"", ""),
            ("until=\"10000\"", "until=\"soon\""),
            ("north", "no/rth"),
            ("north", groups.as_str()),
            ("h/a", ""),
            ("h/a", long.as_str()),
        ] {
            assert!(read(good.replace(from, to).as_bytes()).is_err(), "{from} {to:.20}");
        }
        let many: Vec<Command> =
            (0..=MAX_COMMANDS).map(|at| command(&at.to_string(), "pin", "h/a")).collect();
        assert!(read(to_xml(&many[1..]).as_bytes()).is_ok());
        assert!(read(to_xml(&many).as_bytes()).is_err());
        assert_eq!(Action::of("reboot-to", "b; reboot"), None);
        assert_eq!(Action::of("reboot-to", "-x"), None);
        for all in
            ["*", "**", "?*", "*?*", "*/*", "http://*", "", "//", "*.*", "*-*", "*.?*", "https://*.*/*"]
        {
            assert!(is_everything(all), "{all}");
        }
        for some in ["a*", "*a", "cdn.example.com/*", "???", "http://h/*", "*.m4s", "*é*"] {
            assert!(!is_everything(some), "{some}");
        }
        assert_eq!(Action::of("message", "a\u{1b}[31m"), None);
    }

    /// The document is judged like any other: by key, kind, version, time.
    #[test]
    fn only_signed_documents_in_force_count_and_older_ones_do_not_come_back() {
        let trust = Trust::new(Policy { keys: vec![ROOT.public()], ..Policy::default() });
        let sealer = sealer(2, (0, 1));
        let edition = |version| Edition { version, issued: 1000, until: 10_000, ..Edition::default() };
        let text = to_xml(&[command("1", "purge", "h/a")]);
        let sealed = |version| sealer.seal_xml(Kind::Command, &stream(), &edition(version), &text);
        let judge = |bytes: &str, date_s: i64| {
            let judged = Judged {
                kind: Kind::Command,
                bytes: bytes.as_bytes(),
                tsi: None,
                mode: Mode::Require,
                allowance: Allowance::Caller,
            };
            trust.judge(Instant::default(), Some(WallTime::from_unix_ms(date_s * 1000)), &judged).map(|_| ())
        };
        assert_eq!(judge(&sealed(5), 2000), Ok(()));
        assert_eq!(judge(&sealed(5), 2000), Ok(()), "it is repeated");
        assert_eq!(judge(&sealed(4), 2000), Err(TrustDrop::Replayed));
        assert_eq!(judge(&sealed(6), 10_001), Err(TrustDrop::Expired));
        assert_eq!(judge(&text.replace(BLANK, ""), 2000), Err(TrustDrop::Unsigned));
        assert_eq!(judge(&sealed(7).replace("h/a", "h/b"), 2000), Err(TrustDrop::BadSignature));
        let as_fdt = sealer.seal_xml(Kind::Fdt, &stream(), &edition(8), &text);
        assert_eq!(judge(&as_fdt, 2000), Err(TrustDrop::BadSignature), "a seal of another kind");
    }
}
