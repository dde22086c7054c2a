//! Access of players to routes: by address, by country, by playback token.
//!
//! ```text
//! request ─▶ deny ─▶ allow ─▶ countries ─▶ token ─▶ the object
//!              └───────┴────────┴───────────┴─ 403, and a reason that is counted
//! ```
//!
//! A rule applies to the objects below the base of its routes, by each name that they are requested by. Addresses are converted
//! to their canonical form first: a reader of MaxMind's format finds nothing for `::ffff:a.b.c.d`. Files are read again when they
//! change; if one cannot be read, its last content stays in force.

mod error;
mod options;
mod token;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use carousel::query;
use carousel::reason::Counts;
use ipnetwork::IpNetwork;
use maxminddb::{Reader, path};

pub use error::{AccessFileError, FileFault, KeysError};
pub use options::AccessRule;

use options::network;
use token::{Keys, NAME};

/// Interval at which files are checked.
const LOOK: Duration = Duration::from_secs(2);

carousel::reasons! {
    /// Why a player may not have an object.
    pub enum AccessRefusal in "access_refused" by "reason" {
        /// Its address is denied.
        Denied = "denied",
        /// Its address is not among those allowed.
        NotAllowed = "not_allowed",
        /// Its country is denied, or not among those allowed.
        Country = "country",
        /// Its country is not known, and only some are allowed.
        UnknownCountry = "unknown_country",
        /// It shows no playback token.
        NoToken = "no_token",
        /// Its token is malformed, or was altered.
        BadToken = "bad_token",
        /// Its token is of a key that is not known (any more).
        UnknownKey = "unknown_key",
        /// Its token has expired.
        Expired = "expired",
        /// Its token is for other paths.
        OtherPath = "other_path",
        /// Its token is for another address.
        OtherAddress = "other_address",
    }
}

/// A file that is read again when it changes.
struct Watched<T> {
    path: PathBuf,
    read: fn(&Path) -> Result<T, FileFault>,
    seen: RwLock<(Option<SystemTime>, Arc<T>)>,
}

impl<T> Watched<T> {
    fn open(path: &Path, read: fn(&Path) -> Result<T, FileFault>) -> Result<Self, AccessFileError> {
        let at = modified(path);
        let value = read(path).map_err(|kind| AccessFileError { path: path.to_path_buf(), kind })?;
        Ok(Self { path: path.to_path_buf(), read, seen: RwLock::new((at, Arc::new(value))) })
    }

    fn get(&self) -> Arc<T> {
        Arc::clone(&self.seen.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// Reads it if it has changed. Waits for the disk.
    fn reload(&self) {
        let at = modified(&self.path);
        let before = self.seen.read().unwrap_or_else(PoisonError::into_inner).0;
        if at.is_none() || at == before {
            return;
        }
        let file = self.path.display();
        let read = (self.read)(&self.path);
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        seen.0 = at;
        match read {
            Ok(value) => {
                seen.1 = Arc::new(value);
                tracing::info!(%file, "an access file has changed and was read again");
            }
            Err(why) => tracing::error!(%file, %why, "the content that was read before stays in force"),
        }
    }
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watched").field(&self.path).finish()
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|it| it.modified()).ok()
}

fn read_keys(path: &Path) -> Result<Keys, FileFault> {
    let text = std::fs::read_to_string(path).map_err(FileFault::Unreadable)?;
    Keys::read(&text).map_err(FileFault::Keys)
}

fn read_database(path: &Path) -> Result<Reader<Vec<u8>>, FileFault> {
    let bytes = std::fs::read(path).map_err(FileFault::Unreadable)?;
    Reader::from_source(bytes).map_err(|err| FileFault::NotADatabase(err.to_string()))
}

#[derive(Debug)]
struct Rule {
    name: String,
    deny: Vec<IpNetwork>,
    allow: Vec<IpNetwork>,
    deny_countries: Vec<String>,
    allow_countries: Vec<String>,
    database: Option<Watched<Reader<Vec<u8>>>>,
    keys: Option<Watched<Keys>>,
}

impl Rule {
    fn new(options: &AccessRule) -> Result<Self, AccessFileError> {
        let networks = |list: &[String]| list.iter().filter_map(|it| network(it)).collect();
        let database = options.database.as_ref().map(|it| Watched::open(it, read_database)).transpose()?;
        let keys = options.token_keys_file.as_ref().map(|it| Watched::open(it, read_keys)).transpose()?;
        Ok(Self {
            name: options.name.clone(),
            deny: networks(&options.deny),
            allow: networks(&options.allow),
            deny_countries: options.deny_countries.clone(),
            allow_countries: options.allow_countries.clone(),
            database,
            keys,
        })
    }

    fn check(&self, peer: IpAddr, path: &str, token: Option<&str>, now: u64) -> Result<(), AccessRefusal> {
        let peer = peer.to_canonical();
        if self.deny.iter().any(|it| it.contains(peer)) {
            return Err(AccessRefusal::Denied);
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|it| it.contains(peer)) {
            return Err(AccessRefusal::NotAllowed);
        }
        if let Some(database) = &self.database {
            match country_of(&database.get(), peer) {
                Some(country) => {
                    let is_in = |list: &[String]| list.contains(&country);
                    if is_in(&self.deny_countries)
                        || !self.allow_countries.is_empty() && !is_in(&self.allow_countries)
                    {
                        return Err(AccessRefusal::Country);
                    }
                }
                None if !self.allow_countries.is_empty() => return Err(AccessRefusal::UnknownCountry),
                None => {}
            }
        }
        let Some(keys) = &self.keys else { return Ok(()) };
        keys.get().check(token.ok_or(AccessRefusal::NoToken)?, path, peer, now)
    }
}

/// The country of a canonical address: of its location, else of its network's registration.
fn country_of(database: &Reader<Vec<u8>>, address: IpAddr) -> Option<String> {
    let found = database.lookup(address).ok()?;
    let of = |field: &str| found.decode_path::<String>(&path![field, "iso_code"]).ok().flatten();
    of("country").or_else(|| of("registered_country"))
}

/// All rules of the configuration.
#[derive(Debug, Default)]
pub struct Access {
    rules: RwLock<Arc<[Rule]>>,
    refused: Counts<AccessRefusal>,
}

impl Access {
    /// With these rules.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn new(rules: &[AccessRule]) -> Result<Self, AccessFileError> {
        let access = Self::default();
        access.configure(rules)?;
        Ok(access)
    }

    /// Takes over other rules.
    ///
    /// # Errors
    /// A file cannot be used. Those before stay.
    pub fn configure(&self, rules: &[AccessRule]) -> Result<(), AccessFileError> {
        let rules: Arc<[Rule]> = rules.iter().map(Rule::new).collect::<Result<_, _>>()?;
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }

    fn rules(&self) -> Arc<[Rule]> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counters of refusals.
    pub const fn refused(&self) -> &Counts<AccessRefusal> {
        &self.refused
    }

    /// Whether any rule requires tokens, so that requests are searched for them.
    pub fn has_tokens(&self) -> bool {
        self.rules().iter().any(|it| it.keys.is_some())
    }

    /// Checks whether a player may have the objects of a rule. `path`: as requested, without the token.
    ///
    /// # Errors
    /// The reason, which is counted.
    pub fn check(
        &self,
        rule: &str,
        peer: IpAddr,
        path: &str,
        token: Option<&str>,
        now: u64,
    ) -> Result<(), AccessRefusal> {
        let rules = self.rules();
        // A missing rule admits no client; the configuration refuses it.
        let rule = rules.iter().find(|it| it.name == rule);
        let checked = rule.map_or(Err(AccessRefusal::NotAllowed), |rule| rule.check(peer, path, token, now));
        checked.inspect_err(|why| {
            self.refused.add(*why);
        })
    }

    /// Checks for changed files, until the runtime ends.
    pub async fn keep_looking(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let rules = self.rules();
            let _ = tokio::task::spawn_blocking(move || {
                for rule in rules.iter() {
                    rule.database.iter().for_each(Watched::reload);
                    rule.keys.iter().for_each(Watched::reload);
                }
            })
            .await;
        }
    }
}

/// A path and query without tokens, and the token: that of the path, if it has one.
pub fn without_token(target: &str) -> Option<(String, String)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let of_path = path.strip_prefix('/').and_then(|it| it.strip_prefix(NAME)?.split_once('/'));
    let of_path = of_path.map(|(token, _)| token);
    let token = of_path.or_else(|| query.split('&').find_map(|pair| pair.strip_prefix(NAME)))?;
    let target = of_path.map_or(target, |token| &target[1 + NAME.len() + token.len()..]);
    Some((query::without(target, NAME).into_owned(), token.to_owned()))
}

/// Whether a field's value contains a token.
pub fn has_token(value: &[u8]) -> bool {
    value.windows(NAME.len()).any(|it| it == NAME.as_bytes())
}

/// A line of a log without its tokens.
pub fn redacted(text: &str) -> std::borrow::Cow<'_, str> {
    let name = &NAME[..NAME.len() - 1];
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(name) {
        out.extend([before, name]);
        rest = after;
        // A URL may be a parameter of another one.
        let is_encoded = rest.get(..3).is_some_and(|it| it.eq_ignore_ascii_case("%3d"));
        let (equals, ends): (_, &[char]) = match rest.starts_with('=') {
            true => (1, &['/', '&', ' ', '#', '?']),
            false if is_encoded => (3, &['/', '&', ' ', '#', '?', '%']),
            false => continue,
        };
        let (equals, token) = rest.split_at(equals);
        out.extend([equals, "…"]);
        rest = &token[token.find(ends).unwrap_or(token.len())..];
    }
    if out.is_empty() {
        return text.into();
    }
    out.push_str(rest);
    out.into()
}

/// A path for others to keep, without segments that have a `=`, written as such or `%3d`: those are tokens of CDNs.
pub fn without_tokens(path: &str) -> std::borrow::Cow<'_, str> {
    let has_equals = |it: &str| it.contains('=') || it.to_ascii_lowercase().contains("%3d");
    if !has_equals(path) {
        return path.into();
    }
    let segments = path.split('/').map(|it| if has_equals(it) { "…" } else { it });
    segments.collect::<Vec<_>>().join("/").into()
}

#[cfg(test)]
mod database;

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(options: AccessRule) -> Access {
        Access::new(&[AccessRule { name: "r".to_owned(), ..options }]).unwrap()
    }

    fn check(access: &Access, peer: &str) -> Result<(), AccessRefusal> {
        access.check("r", peer.parse().unwrap(), "/", None, 0)
    }

    #[test]
    fn addresses_are_compared_in_their_canonical_form() {
        let list = |text: &[&str]| text.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let access = rule(AccessRule {
            allow: list(&["10.0.0.0/8", "2001:db8::/32"]),
            deny: list(&["10.9.0.0/16", "::ffff:10.8.0.0/112"]),
            ..AccessRule::default()
        });
        for (peer, result) in [
            ("10.1.2.3", Ok(())),
            ("::ffff:10.1.2.3", Ok(())),
            ("2001:db8::1", Ok(())),
            ("10.9.0.1", Err(AccessRefusal::Denied)),
            ("::ffff:10.9.0.1", Err(AccessRefusal::Denied)),
            ("10.8.0.1", Err(AccessRefusal::Denied)),
            ("10.10.0.1", Ok(())),
            ("192.0.2.1", Err(AccessRefusal::NotAllowed)),
        ] {
            assert_eq!(check(&access, peer), result, "{peer}");
        }
        assert_eq!(access.refused().get(AccessRefusal::Denied), 3);
        assert_eq!(
            access.check("none", "10.1.2.3".parse().unwrap(), "/", None, 0),
            Err(AccessRefusal::NotAllowed)
        );
    }

    #[test]
    fn a_token_is_found_in_path_and_query() {
        let of = |target: &str| without_token(target);
        let some = |rest: &str, token: &str| Some((rest.to_owned(), token.to_owned()));
        assert_eq!(of("/sktoken=a.b/vod/1.m4s?x=1"), some("/vod/1.m4s?x=1", "a.b"));
        assert_eq!(of("/vod/1.m4s?x=1&sktoken=a.b&y=2"), some("/vod/1.m4s?x=1&y=2", "a.b"));
        assert_eq!(of("/vod/1.m4s?sktoken=a.b"), some("/vod/1.m4s", "a.b"));
        assert_eq!(of("/vod/1.m4s?xsktoken=a"), None);
        let both = of("/sktoken=a.b/vod/1.m4s?sktoken=c.d&x=1&sktoken=e.f");
        assert_eq!(both, some("/vod/1.m4s?x=1", "a.b"), "no other goes on to the origin");
        assert_eq!(of("/vod?u=/sktoken=a/b"), None);
        assert_eq!(
            redacted("GET /sktoken=a.b/vod?x&sktoken=c.d HTTP"),
            "GET /sktoken=…/vod?x&sktoken=… HTTP"
        );
        assert_eq!(redacted("/vod"), "/vod");
        assert_eq!(
            redacted("/api/v1/purge?key=%2Fvod%3Fsktoken%3Da.b%26x&y=sktoken%3dc.d sktoken-s sktoken"),
            "/api/v1/purge?key=%2Fvod%3Fsktoken%3D…%26x&y=sktoken%3d… sktoken-s sktoken"
        );
        // As many as a head has room for.
        assert_eq!(redacted(&"/sktoken=a".repeat(4800)), "/sktoken=…".repeat(4800));
        assert_eq!(redacted(&"sktoken".repeat(6800)), "sktoken".repeat(6800));
        assert!(has_token(b"https://box/sktoken=a.b/x") && !has_token(b"https://box/sktoke"));
    }

    #[test]
    fn segments_of_a_path_that_may_be_tokens_are_left_out() {
        for (path, expected) in [
            ("/vod/1.ts", "/vod/1.ts"),
            ("/sktoken=a.b/vod/", "/…/vod/"),
            ("/exp=1700000000~acl=/live/*~hmac=0a1b/live/1.ts", "/…/live/…/live/1.ts"),
            ("/bcdn_token=0a1b&expires=17&token_path=%2Fvod%2F/vod/1.ts", "/…/vod/1.ts"),
            ("/live/hdntl%3Dexp%3d17~hmac%3D0a1b/1.ts", "/live/…/1.ts"),
            ("=", "…"),
            ("", ""),
        ] {
            assert_eq!(without_tokens(path), expected);
        }
    }

    #[test]
    fn countries_are_those_of_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("country.mmdb");
        let networks = [
            ("81.2.69.0/24", "country", "GB"),
            ("2001:218::/32", "country", "JP"),
            ("192.0.2.0/24", "registered_country", "AT"),
        ];
        std::fs::write(&file, database::of(&networks)).unwrap();
        let of = |allow: &[&str], deny: &[&str]| {
            let list = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
            rule(AccessRule {
                allow_countries: list(allow),
                deny_countries: list(deny),
                database: Some(file.clone()),
                ..AccessRule::default()
            })
        };
        let (only, but) = (of(&["GB", "AT"], &[]), of(&[], &["GB"]));
        for (peer, in_only, in_but) in [
            ("81.2.69.160", Ok(()), Err(AccessRefusal::Country)),
            ("::ffff:81.2.69.160", Ok(()), Err(AccessRefusal::Country)),
            ("2001:218::1", Err(AccessRefusal::Country), Ok(())),
            ("192.0.2.9", Ok(()), Ok(())),
            ("10.0.0.1", Err(AccessRefusal::UnknownCountry), Ok(())),
        ] {
            assert_eq!((check(&only, peer), check(&but, peer)), (in_only, in_but), "{peer}");
        }
        std::fs::write(&file, "no database").unwrap();
        assert!(
            Access::new(&[AccessRule { database: Some(file), ..AccessRule::default() }])
                .unwrap_err()
                .to_string()
                .contains("MaxMind")
        );
    }

    #[test]
    fn files_are_read_again_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        let write = |text: &str, at: u64| {
            std::fs::write(&file, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        };
        let options =
            AccessRule { name: "r".to_owned(), token_keys_file: Some(file.clone()), ..AccessRule::default() };
        assert!(
            Access::new(std::slice::from_ref(&options)).unwrap_err().to_string().contains("keys"),
            "a file that is not there"
        );
        write(&format!("k1 {}", "a".repeat(32)), 1000);
        let access = Access::new(&[options]).unwrap();
        assert!(access.has_tokens());
        assert_eq!(check(&access, "10.0.0.1"), Err(AccessRefusal::NoToken));
        let keys = || format!("{:?}", access.rules()[0].keys.as_ref().unwrap().get());
        write(&format!("k2 {}", "b".repeat(32)), 2000);
        access.rules()[0].keys.as_ref().unwrap().reload();
        assert_eq!(keys(), "[\"k2\"]");
        write("broken", 3000);
        access.rules()[0].keys.as_ref().unwrap().reload();
        assert_eq!(keys(), "[\"k2\"]");
    }
}
