//! Options of trust: `[trust]`.

use std::path::{Path, PathBuf};

use carousel::config::Mistake;
use carousel::trust::{MAX_ROOTS, Mode, Policy, PublicKey, RevocationList, ServicePolicy};
use serde::{Deserialize, Serialize};

/// Demands on carousels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureMode {
    /// Only what a trusted key has signed is received.
    Require,
    /// Unsigned carousels are received too; they never replace what is signed.
    Prefer,
    /// Signatures are not looked at.
    Off,
}

impl SignatureMode {
    /// As the carousel's rooms have it.
    pub const fn mode(self) -> Mode {
        match self {
            Self::Require => Mode::Require,
            Self::Prefer => Mode::Prefer,
            Self::Off => Mode::Off,
        }
    }
}

/// `[trust]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrustOptions {
    /// Signatures that are asked of carousels: `require`, `prefer` or `off`. Left out: `require` where a key is pinned or
    /// enrolled, `off` elsewhere.
    pub mode: Option<SignatureMode>,
    /// Root keys: `ed25519:…` as `headend keygen` prints them, or paths of its `root.pub`.
    pub keys: Vec<String>,
    /// Trust the first root key that signs what comes, where none is pinned. It is shown by `skycached trust`, which confirms
    /// or forgets it.
    pub enrol: bool,
    /// Paths of revocation lists (`revoked-N.list`) that are known beforehand; others come with the carousel.
    pub revocations: Vec<PathBuf>,
    /// Services with rules of their own.
    #[serde(rename = "service")]
    pub services: Vec<TrustService>,
}

/// `[[trust.service]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrustService {
    /// Identifier of the service; `announcement` is the announcement channel and the gateway configuration.
    pub id: String,
    /// Signatures that are asked of it. Left out: those that are asked of all.
    #[serde(default)]
    pub mode: Option<SignatureMode>,
    /// Root keys that may sign for it, and no others.
    #[serde(default)]
    pub keys: Vec<String>,
}

impl TrustOptions {
    /// Demands where no service says otherwise.
    pub fn signature_mode(&self) -> SignatureMode {
        let has_keys =
            self.enrol || !self.keys.is_empty() || self.services.iter().any(|it| !it.keys.is_empty());
        self.mode.unwrap_or(if has_keys { SignatureMode::Require } else { SignatureMode::Off })
    }

    /// The policy; reads the files that it names.
    ///
    /// # Errors
    /// A key or list that cannot be read.
    pub fn policy(&self) -> Result<Policy, String> {
        let keys = |keys: &[String]| keys.iter().map(|it| key(it)).collect::<Result<Vec<_>, _>>();
        let services = self.services.iter().map(|it| {
            let mode = it.mode.unwrap_or_else(|| self.signature_mode()).mode();
            Ok(ServicePolicy { service: it.id.clone(), mode, keys: keys(&it.keys)? })
        });
        Ok(Policy {
            mode: self.signature_mode().mode(),
            keys: keys(&self.keys)?,
            services: services.collect::<Result<_, String>>()?,
            enrol: self.enrol,
            revocations: self.revocations.iter().map(|it| list(it)).collect::<Result<_, _>>()?,
            has_exceptions: false,
        })
    }

    /// Values that are well-formed but cannot work.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let fix = "give it as `headend keygen` prints it, or the path of its root.pub";
        let lists = std::iter::once(("trust.keys".to_owned(), &self.keys));
        let services = self.services.iter().enumerate();
        let lists = lists.chain(services.map(|(at, it)| (format!("trust.service[{at}].keys"), &it.keys)));
        let mut count = 0;
        for (name, keys) in lists {
            count += keys.len();
            for wrong in keys.iter().filter_map(|it| key(it).err()) {
                all.push(Mistake::of_value(&name, &wrong, fix));
            }
        }
        if count > MAX_ROOTS {
            let what = format!("{count} keys");
            all.push(Mistake::of_value("trust.keys", &what, &format!("{MAX_ROOTS} at most")));
        }
        for wrong in self.revocations.iter().filter_map(|it| list(it).err()) {
            all.push(Mistake::of_value(
                "trust.revocations",
                &wrong,
                "give a revoked-N.list of `headend keygen`",
            ));
        }
        let needs_keys = self.mode == Some(SignatureMode::Require) && count == 0 && !self.enrol;
        if needs_keys {
            let fix = "pin the root key with keys = [\"ed25519:…\"], or set enrol = true";
            all.push(Mistake::of_value("trust.mode", "no key is trusted, so nothing is received", fix));
        }
        all
    }
}

/// A key, or the first one in a file.
fn key(text: &str) -> Result<PublicKey, String> {
    let none = || format!("{text} is not a key");
    if text.starts_with("ed25519:") {
        return PublicKey::from_text(text).ok_or_else(none);
    }
    let content = read(Path::new(text))?;
    content.lines().find_map(PublicKey::from_text).ok_or_else(none)
}

fn list(path: &Path) -> Result<RevocationList, String> {
    let content = read(path)?;
    let mut lists =
        content.lines().filter_map(|line| RevocationList::from_text(line.strip_prefix("revoked ")?));
    lists.next_back().ok_or_else(|| format!("{} is not a revocation list", path.display()))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|err| format!("{}: {}", path.display(), carousel::config::plain(&err)))
}

#[cfg(test)]
mod tests {
    use carousel::trust::SecretKey;

    use super::*;

    #[test]
    fn what_is_asked_follows_from_the_keys() {
        let text = SecretKey::from_seed(&[1; 32]).public().to_string();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("root.pub");
        std::fs::write(&file, format!("# root key\n{text}\n")).unwrap();
        assert_eq!(TrustOptions::default().signature_mode(), SignatureMode::Off);
        for named in [text.clone(), file.display().to_string()] {
            let options = TrustOptions { keys: vec![named], ..TrustOptions::default() };
            assert_eq!((options.signature_mode(), options.mistakes().len()), (SignatureMode::Require, 0));
            assert_eq!(options.policy().unwrap().keys[0].to_string(), text);
        }
        let enrol = TrustOptions { enrol: true, ..TrustOptions::default() };
        assert_eq!((enrol.signature_mode(), enrol.mistakes().len()), (SignatureMode::Require, 0));
        let service = TrustService { id: "tag:a".to_owned(), mode: None, keys: vec![text] };
        let options = TrustOptions { services: vec![service], mode: Some(SignatureMode::Prefer), ..enrol };
        assert_eq!(options.policy().unwrap().services[0].mode, Mode::Prefer);
    }

    #[test]
    fn keys_that_are_none_and_trust_in_nobody_are_mistakes() {
        let wrong = TrustOptions {
            keys: vec!["ed25519:x".to_owned(), "/nonesuch/root.pub".to_owned()],
            revocations: vec![PathBuf::from("/nonesuch")],
            ..TrustOptions::default()
        };
        let keys: Vec<String> = wrong.mistakes().into_iter().map(|it| it.key).collect();
        assert_eq!(keys, ["trust.keys", "trust.keys", "trust.revocations"]);
        assert!(wrong.policy().is_err());
        let nobody = TrustOptions { mode: Some(SignatureMode::Require), ..TrustOptions::default() };
        assert_eq!(nobody.mistakes()[0].key, "trust.mode");
    }
}
