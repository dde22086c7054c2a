//! Checks of origins: whether each is reachable from here, and answers.

use std::collections::HashSet;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Finding, Severity};
use crate::config::Config;
use crate::origin::{OriginError, OriginRefusal, Route};
use crate::running::origin_client;

/// Time for all of them together.
const PATIENCE: Duration = Duration::from_secs(4);
/// Origins that are asked; the configuration may name more.
const MOST_ASKED: usize = 64;

/// Requests the base of each route and the URL of each origin and parent, at the same time. Any answer below 500 is good: a
/// folder may be forbidden where its files are not. Only a refused signature is not.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let asked = asked(config);
    // A box that only receives asks none of them.
    if asked.is_empty() || !config.http.read_through {
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(err) => {
            return vec![Finding::new(
                Severity::Warning,
                "origins",
                err.to_string(),
                "raise the limit of threads",
            )];
        }
    };
    runtime.block_on(async {
        let client = std::sync::Arc::new(origin_client(config));
        let mut probes = JoinSet::new();
        for (at, (about, url)) in asked.into_iter().enumerate() {
            let client = std::sync::Arc::clone(&client);
            probes.spawn(async move {
                let answer = tokio::time::timeout(PATIENCE, client.probe(&url)).await;
                (at, finding(format!("{about} {url}"), answer.unwrap_or(Err(OriginError::Timeout))))
            });
        }
        let mut found = probes.join_all().await;
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, finding)| finding).collect()
    })
}

/// Key and URL of each, each URL once.
fn asked(config: &Config) -> Vec<(&'static str, String)> {
    let is_beyond_parents = |route: &&Route| {
        let group = config.parents.iter().find(|it| it.enabled && route.parents.as_ref() == Some(&it.name));
        group.is_none_or(|it| it.origin_last)
    };
    let routes = config.routes.iter().filter(is_beyond_parents).map(|it| ("[[route]] base", it.base.clone()));
    let origins = config.origins.iter().map(|it| ("[[origin]] url", it.url.clone()));
    let parents =
        config.parents.iter().flat_map(|it| &it.members).map(|it| ("[[parent]] url", it.url.clone()));
    let mut seen = HashSet::new();
    let all = routes.chain(origins).chain(parents);
    all.filter(|(_, url)| url.starts_with("http") && seen.insert(url.clone())).take(MOST_ASKED).collect()
}

/// An origin that is away at the moment is no mistake: the box serves what it has.
fn finding(about: String, answer: Result<u16, OriginError>) -> Finding {
    let (what, fix) = match answer {
        Ok(508) => ("it leads back to this cache".to_owned(), "name the origin itself"),
        // 501: it knows no HEAD.
        Ok(status) if status < 500 || status == 501 => {
            return Finding::fine(about, format!("answers {status}"));
        }
        Ok(status) => (format!("answers {status}"), "read the log of the origin"),
        Err(OriginError::Timeout) => (
            "no answer".to_owned(),
            "is it up, and does a firewall between here and there let the port pass?",
        ),
        Err(OriginError::Connect(why)) if why.ends_with("not trusted here") => (
            format!("no connection: {why}"),
            "add its authority to the system's certificates, or name its file in the environment variable SSL_CERT_FILE of the unit",
        ),
        Err(OriginError::Connect(why)) => (format!("no connection: {why}"), "start it, or correct the URL"),
        Err(OriginError::NoAnswer(why)) => (format!("no answer: {why}"), "read the log of the origin"),
        Err(OriginError::Address(OriginRefusal::Loop)) => {
            ("it is a listener of this skycached".to_owned(), "name the origin itself")
        }
        Err(err @ OriginError::Signature(why)) => (err.to_string(), why.fix()),
        Err(OriginError::Unsigned) => (
            "its requests cannot be signed".to_owned(),
            "see what is said of secret_file; a key that S3 signs is UTF-8",
        ),
        Err(err @ (OriginError::BadUrl | OriginError::Address(_))) => (err.to_string(), "correct the URL"),
        Err(err) => (err.to_string(), "the log of the daemon has more with [log] level = \"debug\""),
    };
    Finding::new(Severity::Warning, about, what, fix)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// An origin that answers each connection with one status.
    fn origin(status: u16) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read(&mut [0; 4096]);
                let _ =
                    stream.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").as_bytes());
            }
        });
        format!("http://{address}/")
    }

    #[test]
    fn origins_that_are_away_or_fail_are_found_with_their_fix() {
        let (well, forbidden, ill) = (origin(200), origin(403), origin(503));
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "[[route]]\npath = '/a/'\nbase = '{well}'\n[[route]]\npath = '/b/'\nbase = '{forbidden}'\n\
             [[route]]\npath = '/c/'\nbase = '{well}'\n[[route]]\npath = '/d/'\nbase = '{ill}'\n\
             [[origin]]\nhost = 'cdn.example.com'\nurl = 'http://{closed}'\n"
        );
        let all = examine(&Config::parse(&text).unwrap());
        let said: Vec<_> = all.iter().map(|it| (it.severity, it.what.as_str(), it.fix.as_str())).collect();
        assert_eq!(said.len(), 4, "each once: {said:?}");
        assert_eq!(said[0], (Severity::Fine, "answers 200", ""));
        assert_eq!(said[1], (Severity::Fine, "answers 403", ""));
        assert_eq!(said[2], (Severity::Warning, "answers 503", "read the log of the origin"));
        assert!(said[3].1.contains("refused") && said[3].2.contains("start it"), "{said:?}");
        assert!(all[3].about.ends_with(&closed.to_string()), "{}", all[3].about);
        assert!(examine(&Config::parse("").unwrap()).is_empty());
        let one_way = Config::parse(&format!("http.read_through = false\n{text}")).unwrap();
        assert!(examine(&one_way).is_empty(), "a box that only receives");
    }

    #[test]
    fn routes_of_s3_are_asked_with_a_signature_and_its_refusal_has_a_fix() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut head = [0; 4096];
                let length = stream.read(&mut head).unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let is_signed = head.starts_with("GET ") && head.contains("/skycached-check?X-Amz-");
                let code = match head.split('/').nth(1) {
                    Some("well") if is_signed => "NoSuchKey",
                    Some("skewed") if is_signed => "RequestTimeTooSkewed",
                    Some("key") if is_signed => "InvalidAccessKeyId",
                    _ => "SignatureDoesNotMatch",
                };
                let status = if code == "NoSuchKey" { 404 } else { 403 };
                let body = format!("<Error><Code>{code}</Code></Error>");
                let length = body.len();
                let _ = stream.write_all(
                    format!(
                        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                    )
                    .as_bytes(),
                );
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "wJalrXUtnFEMI").unwrap();
        let route = |name: &str| {
            format!(
                "[[route]]\npath = '/{name}/'\nbase = 'http://{address}/{name}/'\n[route.sign]\nform = 's3'\naccess_key = 'AKIA1'\nsecret_file = '{}'\n",
                secret.display()
            )
        };
        let text = ["well", "skewed", "key"].map(route).concat();
        let all = examine(&Config::parse(&text).unwrap());
        let of = |name: &str| all.iter().find(|it| it.about.ends_with(&format!("/{name}/"))).unwrap();
        assert_eq!((of("well").severity, of("well").what.as_str()), (Severity::Fine, "answers 404"));
        assert_eq!(of("skewed").severity, Severity::Warning);
        assert_eq!(of("skewed").fix, "set the clock of the box by NTP");
        assert!(of("key").fix.contains("access_key"), "{}", of("key").fix);
    }

    #[test]
    fn a_route_to_the_box_itself_is_found() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = format!(
            "http.listen = '127.0.0.1:{port}'\n[[route]]\npath = '/a/'\nbase = 'http://127.0.0.1:{port}/b/'\n"
        );
        // The listener is open as that of the daemon would be.
        let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let all = examine(&Config::parse(&text).unwrap());
        assert_eq!(all[0].what, "it is a listener of this skycached");
    }
}
