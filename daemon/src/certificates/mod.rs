//! Certificates in force on the daemon's own listeners, with their subjects, names and expiry dates; certificates that its
//! clients trust; messages about failures of TLS.

mod clients;
mod failures;
mod files;
mod named;

pub use clients::verifier_of_clients;
pub use failures::{FailureKind, failure_of, innermost_cause};
use files::read_chain;
pub use files::{CertificateFiles, ConfiguredFileError, UnusableFile, chain, check, read};
pub use named::{client_for_origins, client_trusting, client_trusting_system, verifier_of_servers};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use carousel::time::WallTime;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Days before its end from which a certificate is a warning: authorities that renew by themselves do so at 30.
pub const WARNING_DAYS: i64 = 14;
/// Names of a certificate that are shown; further ones are cut off.
const MAX_NAMES: usize = 100;
const DAY_MS: i64 = 86_400_000;

/// The chain that a listener presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Subject of the listener's own certificate (RFC 4514).
    pub subject: String,
    /// Host names and addresses of the listener's own certificate.
    pub names: Vec<String>,
    /// Begin of validity of the listener's own certificate.
    pub not_before: WallTime,
    /// Earliest expiry in the chain: when any of its certificates has expired, clients refuse the chain.
    pub not_after: WallTime,
}

impl Certificate {
    /// Reads a chain, the listener's own certificate first.
    ///
    /// # Errors
    /// The decoder's message, if one of them is not as RFC 5280 has it.
    pub fn read(chain: &[CertificateDer<'_>]) -> Result<Self, String> {
        let read = |der: &CertificateDer<'_>| {
            x509_cert::Certificate::from_der(der).map_err(|err| format!("no certificate of RFC 5280: {err}"))
        };
        let [own, others @ ..] = chain else { return Err("the file has no certificate".to_owned()) };
        let own = read(own)?;
        let own = own.tbs_certificate();
        let mut not_after = time(&own.validity().not_after);
        for other in others {
            not_after = not_after.min(time(&read(other)?.tbs_certificate().validity().not_after));
        }
        let names = match own.get_extension::<SubjectAltName>() {
            Ok(Some((_, SubjectAltName(names)))) => names.iter().filter_map(name).take(MAX_NAMES).collect(),
            _ => Vec::new(),
        };
        let not_before = time(&own.validity().not_before);
        Ok(Self { subject: own.subject().to_string(), names, not_before, not_after })
    }

    /// Entire days until its end; below 0 afterwards.
    pub fn days_left(&self, now: WallTime) -> i64 {
        (self.not_after.unix_ms() - now.unix_ms()).div_euclid(DAY_MS)
    }
}

fn time(time: &x509_cert::time::Time) -> WallTime {
    WallTime::from_unix(time.to_unix_duration())
}

/// A name that clients compare.
fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).ok().map(|it| IpAddr::from(Ipv4Addr::from(it)));
            let v6 = || <[u8; 16]>::try_from(bytes).ok().map(|it| IpAddr::from(Ipv6Addr::from(it)));
            v4.or_else(v6).map(|it| it.to_string())
        }
        _ => None,
    }
}

/// One listener's entry.
#[derive(Debug)]
struct Entry {
    listener: &'static str,
    file: PathBuf,
    certificate: Result<Certificate, String>,
    /// What was logged of its validity.
    warning: Option<String>,
}

/// Certificates that each listener presents now.
#[derive(Debug, Default)]
pub struct Certificates(Mutex<Vec<Entry>>);

impl Certificates {
    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a chain that came into force on the listener of this table of the configuration, and replaces the previous
    /// one.
    pub fn put(&self, listener: &'static str, file: &Path, chain: &[CertificateDer<'_>]) {
        let mut entries = self.entries();
        let before = entries.iter().position(|it| it.listener == listener).map(|at| entries.remove(at));
        let warning = before.and_then(|it| it.warning);
        let certificate = Certificate::read(chain);
        entries.push(Entry { listener, file: file.to_path_buf(), certificate, warning });
    }

    /// Records what is wrong with the validity of a listener's chain. Whether that is news: it has not been said of this listener
    /// before, nor of the same file of another one.
    fn is_news(&self, listener: &str, warning: Option<String>) -> bool {
        let mut entries = self.entries();
        let Some(at) = entries.iter().position(|it| it.listener == listener) else {
            return warning.is_some();
        };
        let is_known = entries.iter().any(|it| it.file == entries[at].file && it.warning == warning);
        let is_news = warning.is_some() && !is_known;
        entries[at].warning = warning;
        is_news
    }

    /// Listeners, and seconds from 1970 to the ends of their certificates; those that cannot be read are left out.
    pub fn ends_s(&self) -> Vec<(&'static str, i64)> {
        let entries = self.entries();
        let end_s =
            |it: &Entry| Some((it.listener, it.certificate.as_ref().ok()?.not_after.unix_ms() / 1000));
        entries.iter().filter_map(end_s).collect()
    }

    /// All of them. `now` is unknown while the date cannot be right.
    pub fn to_json(&self, now: Option<WallTime>) -> Vec<Value> {
        let entry = |it: &Entry| {
            let known = it.certificate.as_ref().ok();
            json!({
                "listener": it.listener, "file": it.file.display().to_string(), "error": it.certificate.as_ref().err(),
                "subject": known.map(|it| &it.subject), "names": known.map(|it| it.names.as_slice()).unwrap_or_default(),
                "not_before": known.map(|it| it.not_before.to_xml()), "not_after": known.map(|it| it.not_after.to_xml()),
                "days_left": known.zip(now).map(|(it, now)| it.days_left(now)),
            })
        };
        self.entries().iter().map(entry).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::Command;

    use super::*;

    /// Has OpenSSL write a certificate and its key under these names of a folder; false without OpenSSL.
    pub(crate) fn make(folder: &Path, certificate: &str, key: &str, arguments: &[&str]) -> bool {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(folder).args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /O=Example/CN=box"
                .split(' '),
        );
        let Ok(output) = openssl.args(["-out", certificate, "-keyout", key]).args(arguments).output() else {
            println!("SKIPPED: no openssl");
            return false;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        true
    }

    /// A certificate that is valid for `days`.
    fn made(days: u32) -> Option<Vec<CertificateDer<'static>>> {
        let folder = tempfile::tempdir().unwrap();
        let names = "subjectAltName=DNS:box.lan,DNS:*.box.lan,IP:192.168.1.20,IP:fd00::1,email:a@example.com";
        let arguments = ["-addext", names, "-days", &days.to_string()];
        let is_made = make(folder.path(), "cert.pem", "key.pem", &arguments);
        is_made.then(|| chain("test", &folder.path().join("cert.pem")).unwrap())
    }

    #[test]
    fn a_certificate_is_known_by_names_and_days() {
        let Some(chain) = made(30) else { return };
        let it = Certificate::read(&chain).unwrap();
        assert_eq!(it.subject, "CN=box,O=Example");
        assert_eq!(it.names, ["box.lan", "*.box.lan", "192.168.1.20", "fd00::1"]);
        let day = |days: i64| WallTime::from_unix_ms(it.not_before.unix_ms() + days * DAY_MS);
        assert_eq!((it.days_left(day(0)), it.days_left(day(20)), it.days_left(day(30))), (30, 10, 0));
        assert_eq!(it.days_left(WallTime::from_unix_ms(day(30).unix_ms() + 1)), -1);
    }

    #[test]
    fn the_chain_ends_with_whichever_ends_first() {
        let (Some(own), Some(authority)) = (made(300), made(3)) else { return };
        let both = [own[0].clone(), authority[0].clone()];
        let end = |chain: &[CertificateDer<'_>]| Certificate::read(chain).unwrap().not_after;
        assert_eq!(end(&both), end(&authority));
        assert!(end(&both) < end(&own));
    }

    #[test]
    fn a_new_certificate_takes_the_place_of_the_one_before_it() {
        let Some(chain) = made(30) else { return };
        let all = Certificates::default();
        all.put("http.tls", Path::new("a.pem"), &[CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])]);
        let [bad] = &all.to_json(None)[..] else { panic!() };
        assert!(bad["error"].is_string() && bad["subject"].is_null() && bad["days_left"].is_null(), "{bad}");
        assert_eq!(all.ends_s(), []);
        all.put("admin.tls", Path::new("b.pem"), &chain);
        all.put("http.tls", Path::new("a.pem"), &chain);
        assert_eq!(all.ends_s().len(), 2);
        let it = all.to_json(Some(Certificate::read(&chain).unwrap().not_before));
        assert_eq!((&it[1]["listener"], &it[1]["file"]), (&json!("http.tls"), &json!("a.pem")));
        assert_eq!((&it[1]["days_left"], &it[1]["error"]), (&json!(30), &Value::Null));
        assert_eq!(all.to_json(None)[0]["days_left"], Value::Null, "the date is not known");
        assert!(Certificate::read(&[]).is_err());
    }
}
