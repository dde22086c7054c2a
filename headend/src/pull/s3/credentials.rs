//! Credentials of a bucket: from the file that the configuration names, from the environment, or from the file of AWS's tools.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use carousel::config::plain;

use super::super::stats::{Failed, PullFailure};
use crate::options::S3;

/// A variable of the environment by its name.
pub(crate) type Environment = fn(&str) -> Option<String>;

/// The environment of this program. An empty variable counts as unset, as for AWS's tools.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|it| !it.is_empty())
}

/// A key of a bucket. It is never logged.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) key: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// A section of a credentials file.
#[derive(Default)]
struct Profile {
    credentials: Option<Credentials>,
    region: Option<String>,
    /// A key by which AWS's tools would get credentials elsewhere.
    other: Option<String>,
}

/// Source of the credentials of one source.
pub(super) struct Keyring {
    source: KeySource,
    /// Content of the file, and its time of modification.
    read: Mutex<Option<(SystemTime, Credentials)>>,
}

enum KeySource {
    Anonymous,
    Fixed(Credentials),
    File { file: PathBuf, profile: String, is_configured: bool },
    Nowhere,
}

impl Keyring {
    pub(super) fn new(options: &S3, environment: Environment) -> Self {
        let source = if options.anonymous {
            KeySource::Anonymous
        } else {
            of_file(options, environment, options.credentials_file.clone(), true)
                .or_else(|| of_environment(options, environment).map(KeySource::Fixed))
                .or_else(|| of_file(options, environment, usual_file(environment), false))
                .unwrap_or(KeySource::Nowhere)
        };
        Self { source, read: Mutex::default() }
    }

    /// The current credentials; `None`: requests are not signed.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>, Failed> {
        match &self.source {
            KeySource::Anonymous => Ok(None),
            KeySource::Fixed(credentials) => Ok(Some(credentials.clone())),
            KeySource::Nowhere => Err(nothing("no credentials were given")),
            KeySource::File { file, profile, is_configured } => {
                self.of_file(file, profile, *is_configured).map(Some)
            }
        }
    }

    fn of_file(&self, file: &Path, profile: &str, is_configured: bool) -> Result<Credentials, Failed> {
        let refused = |why: String| Failed::new(PullFailure::NoCredentials, why);
        let modified = std::fs::metadata(file).and_then(|it| it.modified());
        let modified = match modified {
            Ok(modified) => modified,
            Err(_) if !is_configured => return Err(nothing(&format!("there is no {}", file.display()))),
            Err(err) => return Err(refused(format!("credentials_file {}: {}", file.display(), plain(&err)))),
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, credentials)) = read.as_ref().filter(|(at, _)| *at == modified) {
            return Ok(credentials.clone());
        }
        let text = std::fs::read_to_string(file)
            .map_err(|err| refused(format!("{}: {}", file.display(), plain(&err))))?;
        let found = profiles(&text).remove(profile);
        let credentials = match found {
            None => Err(refused(format!("{} has no section [{profile}]", file.display()))),
            Some(Profile { credentials: Some(credentials), .. }) => Ok(credentials),
            Some(Profile { other: Some(other), .. }) => {
                Err(refused(format!("[{profile}] of {} has {other}, which is not supported", file.display())))
            }
            Some(_) => Err(refused(format!(
                "[{profile}] of {} lacks aws_access_key_id or aws_secret_access_key",
                file.display()
            ))),
        }?;
        *read = Some((modified, credentials.clone()));
        Ok(credentials)
    }
}

fn nothing(what: &str) -> Failed {
    Failed::new(PullFailure::NoCredentials, what)
}

fn profile_name(options: &S3, environment: Environment) -> String {
    options.profile.clone().or_else(|| environment("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned())
}

fn of_file(
    options: &S3,
    environment: Environment,
    file: Option<PathBuf>,
    is_configured: bool,
) -> Option<KeySource> {
    Some(KeySource::File { file: file?, profile: profile_name(options, environment), is_configured })
}

/// A profile that is named in the configuration goes before the environment, as it does for AWS's tools.
fn of_environment(options: &S3, environment: Environment) -> Option<Credentials> {
    if options.profile.is_some() {
        return None;
    }
    let (key, secret) = (environment("AWS_ACCESS_KEY_ID")?, environment("AWS_SECRET_ACCESS_KEY")?);
    Some(Credentials { key, secret, token: environment("AWS_SESSION_TOKEN") })
}

fn usual_file(environment: Environment) -> Option<PathBuf> {
    let named = environment("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    named.or_else(|| Some(Path::new(&environment("HOME")?).join(".aws/credentials")))
}

/// Region of a bucket: of the configuration, the environment, the profile, or the one that means none.
pub(super) fn region(options: &S3, environment: Environment) -> String {
    let of_profile = || {
        let file = options.credentials_file.clone().or_else(|| usual_file(environment))?;
        let text = std::fs::read_to_string(file).ok()?;
        profiles(&text).remove(&profile_name(options, environment))?.region
    };
    let given = options.region.clone().or_else(|| environment("AWS_REGION"));
    given
        .or_else(|| environment("AWS_DEFAULT_REGION"))
        .or_else(of_profile)
        .unwrap_or_else(|| "us-east-1".to_owned())
}

/// Sections of a credentials file. Comments begin with `#` or `;`, continued lines with a blank.
fn profiles(text: &str) -> HashMap<String, Profile> {
    let mut values: HashMap<String, HashMap<String, String>> = HashMap::new();
    let mut section = None::<String>;
    for line in text.trim_start_matches('\u{feff}').lines() {
        let is_continued = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) || is_continued {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|it| it.split(']').next()) {
            let name = name.trim();
            let name = name.strip_prefix("profile ").unwrap_or(name).trim();
            values.entry(name.to_owned()).or_default();
            section = Some(name.to_owned());
        } else if let (Some((key, value)), Some(name)) = (line.split_once('='), &section) {
            let value = value.split(" #").next().unwrap_or_default().trim();
            let of_section = values.entry(name.clone()).or_default();
            of_section.insert(key.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    let profile = |mut values: HashMap<String, String>| {
        let mut take = |name: &str| values.remove(name).filter(|it| !it.is_empty());
        let (key, secret) = (take("aws_access_key_id"), take("aws_secret_access_key"));
        let (token, region) = (take("aws_session_token"), take("region"));
        let others =
            ["credential_process", "role_arn", "sso_session", "sso_start_url", "web_identity_token_file"];
        let other = others.into_iter().find(|it| take(it).is_some()).map(str::to_owned);
        let credentials = key.zip(secret).map(|(key, secret)| Credentials { key, secret, token });
        Profile { credentials, region, other }
    };
    values.into_iter().map(|(name, values)| (name, profile(values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(key: &str, secret: &str, token: Option<&str>) -> Credentials {
        Credentials { key: key.to_owned(), secret: secret.to_owned(), token: token.map(str::to_owned) }
    }

    const FILE: &str = "# of operations\n[default]\naws_access_key_id = A\naws_secret_access_key=s/+=1 # old\n\n\
        [vod]\r\nAWS_ACCESS_KEY_ID=B\r\naws_secret_access_key = t\r\naws_session_token = u==\r\nregion = eu-central-1\r\n\
        [role]\nrole_arn = arn:aws:iam::1:role/x\n[empty]\naws_access_key_id =\naws_secret_access_key = x\n";

    fn nothing_set(_: &str) -> Option<String> {
        None
    }

    fn set(name: &str) -> Option<String> {
        let value = match name {
            "AWS_ACCESS_KEY_ID" => "E",
            "AWS_SECRET_ACCESS_KEY" => "e",
            "AWS_SESSION_TOKEN" => "t",
            "AWS_REGION" => "eu-west-1",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn sections_of_a_credentials_file_are_told_apart() {
        let mut found = profiles(FILE);
        assert_eq!(found["default"].credentials, Some(credentials("A", "s/+=1", None)));
        let vod = found.remove("vod").unwrap();
        assert_eq!(vod.credentials, Some(credentials("B", "t", Some("u=="))));
        assert_eq!(vod.region.as_deref(), Some("eu-central-1"));
        assert_eq!(found["role"].other.as_deref(), Some("role_arn"));
        assert!(found["empty"].credentials.is_none());
    }

    #[test]
    fn a_file_of_the_configuration_goes_before_the_environment_and_that_before_the_usual_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(&file, FILE).unwrap();
        let of = |options: &S3, environment: Environment| Keyring::new(options, environment).credentials();
        let options = S3 { credentials_file: Some(file.clone()), ..S3::default() };
        assert_eq!(of(&options, set).unwrap(), Some(credentials("A", "s/+=1", None)));
        assert_eq!(region(&options, nothing_set), "us-east-1");
        let vod = S3 { profile: Some("vod".to_owned()), ..options.clone() };
        assert_eq!(of(&vod, set).unwrap(), Some(credentials("B", "t", Some("u=="))));
        assert_eq!(
            (region(&vod, nothing_set).as_str(), region(&vod, set).as_str()),
            ("eu-central-1", "eu-west-1")
        );
        assert_eq!(of(&S3::default(), set).unwrap(), Some(credentials("E", "e", Some("t"))));
        assert_eq!(of(&S3 { anonymous: true, ..S3::default() }, set).unwrap(), None);
        let none = of(&S3::default(), nothing_set).unwrap_err();
        assert!(
            none.why == PullFailure::NoCredentials && none.detail == "no credentials were given",
            "{none:?}: the fix stands behind it"
        );
        for (profile, why) in [("nobody", "no section [nobody]"), ("role", "role_arn"), ("empty", "lacks")] {
            let options = S3 { profile: Some(profile.to_owned()), ..options.clone() };
            let refused = of(&options, set).unwrap_err().detail;
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn a_file_that_changes_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(&file, FILE).unwrap();
        let keyring =
            Keyring::new(&S3 { credentials_file: Some(file.clone()), ..S3::default() }, nothing_set);
        keyring.credentials().unwrap();
        std::fs::write(&file, FILE.replace("= A", "= C")).unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(9);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        assert_eq!(keyring.credentials().unwrap().unwrap().key, "C");
        let shown = format!("{:?}", keyring.credentials());
        assert!(!shown.contains("s/+=1"), "{shown}");
    }
}
