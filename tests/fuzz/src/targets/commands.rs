//! Broadcast commands, from the document on the air to the execution.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use carousel::command::{
    self, Executor, MAX_REMEMBERED, MAX_WAITING, Receiver, is_word, read, stream, to_xml,
};
use carousel::firmware;
use carousel::time::{Instant, WallTime};
use carousel::trust::{
    Allowance, Certificate, Edition, Judged, Kind, Mode, Policy, RevocationList, Sealer, SecretKey, Trust,
};

use crate::input::Input;

/// Operations of this target.
pub(crate) mod operation {
    /// A document as it is.
    pub(crate) const RAW: u8 = 0;
    /// A document, signed with the next version.
    pub(crate) const SEALED: u8 = 1;
    /// This number of seconds passes.
    pub(crate) const TIME: u8 = 2;
    /// The box starts again with what it has written down.
    pub(crate) const RESTART: u8 = 3;
}

fn root() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

/// A document as the headend signs it.
pub(crate) fn sealed(version: u64, text: &str) -> String {
    static SEALER: OnceLock<Sealer> = OnceLock::new();
    let sealer = SEALER.get_or_init(|| {
        let online = SecretKey::from_seed(&[2; 32]);
        let certificate = Certificate::issue(&root(), online.public(), (0, 1), (0, 1 << 40), Vec::new());
        Sealer::new(online, certificate, None, 0).unwrap_or_else(|| unreachable!("its own certificate"))
    });
    let edition = Edition { version, issued: 1, until: 1 << 40, ..Edition::default() };
    // The headend's own documents have one blank for a signature.
    if text.matches(carousel::trust::BLANK).count() != 1 {
        return text.to_owned();
    }
    sealer.seal_xml(Kind::Command, &stream(), &edition, text)
}

/// Sequences of documents, time and restarts: nothing is done that no signed document has asked for, and nothing twice.
pub(super) fn commands(bytes: &[u8]) {
    let trust = Trust::new(Policy { keys: vec![root().public()], ..Policy::default() });
    let groups = ["north".to_owned()];
    let (mut executor, mut seconds, mut version) = (Executor::new([7; 16]), 1_u64, 1_u64);
    let (mut asked, mut done) = (BTreeSet::new(), BTreeSet::new());
    let mut input = Input::new(bytes);
    while let Some((kind, bytes)) = input.record() {
        let now = Instant::from_nanos(seconds * 1_000_000_000);
        let document = match kind & 3 {
            operation::RAW => bytes.to_vec(),
            operation::SEALED => {
                version += 1;
                sealed(version, &String::from_utf8_lossy(bytes)).into_bytes()
            }
            operation::TIME => {
                seconds += u64::from(Input::new(bytes).short());
                executor_is_bounded(&executor);
                while let Some((_, command, _)) =
                    executor.next_due(Instant::from_nanos(seconds * 1_000_000_000), seconds)
                {
                    assert!(asked.contains(&command.id), "nobody has asked for {}", command.id);
                    assert!(command.is_for(&groups), "{} is for others", command.id);
                    // What has expired is forgotten, and may be given again.
                    let is_new = done.insert((command.id.clone(), command.until));
                    assert!(is_new, "{} is done twice", command.id);
                }
                continue;
            }
            _ => {
                let text = executor.memory();
                executor = Executor::recall(&text).unwrap_or_else(|| panic!("a memory is read: {text}"));
                assert_eq!(executor.memory(), text);
                continue;
            }
        };
        if let Ok(offers) = firmware::read(&document) {
            assert_eq!(
                firmware::read(firmware::to_xml(&offers).as_bytes()),
                Ok(offers),
                "offers are read as written"
            );
        }
        round_trips(&document);
        let wall = WallTime::from_unix_ms(i64::try_from(seconds * 1000).unwrap_or(i64::MAX));
        let judged = Judged {
            kind: Kind::Command,
            bytes: &document,
            tsi: None,
            mode: Mode::Require,
            allowance: Allowance::Caller,
        };
        let Ok(Some(by)) = trust.judge(now, Some(wall), &judged) else { continue };
        let Ok(commands) = read(&document) else { continue };
        asked.extend(commands.iter().map(|it| it.id.clone()));
        let receiver = Receiver { groups: &groups, date: seconds };
        executor.take(now, &by.root.to_string(), &receiver, commands, |_, _| {});
        executor_is_bounded(&executor);
    }
}

fn executor_is_bounded(executor: &Executor) {
    let (waiting, known) = executor.counts();
    assert!(waiting <= MAX_WAITING && known <= MAX_REMEMBERED, "{waiting} wait, {known} are remembered");
}

/// What is read of a document is written and read as the same; a seal, its certificate and its list too.
fn round_trips(document: &[u8]) {
    if let Ok(commands) = read(document) {
        for it in &commands {
            assert!(is_word(&it.id) && it.groups.iter().all(|group| is_word(group)), "{it:?}");
            assert!(!it.action.target().contains(char::is_control), "{it:?}");
            assert!(it.within_s <= command::LONGEST_DISPERSAL_S, "{it:?}");
        }
        assert_eq!(read(to_xml(&commands).as_bytes()).as_ref(), Ok(&commands));
    }
    if let Ok(Some(sealed)) = carousel::trust::open(document) {
        let _ = sealed.is_genuine(Kind::Command);
        let certificate = &sealed.seal.certificate;
        if certificate.is_genuine() {
            assert_eq!(Certificate::from_text(&certificate.to_text()).as_ref(), Some(certificate));
        }
    }
    if let Ok(text) = std::str::from_utf8(document)
        && let Some(list) = RevocationList::from_text(text)
    {
        assert_eq!(RevocationList::from_text(&list.to_text()), Some(list));
    }
}
