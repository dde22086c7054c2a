//! Checks of origins: whether each is reachable from here, and answers.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Finding, Severity};
use crate::certificates::UnusableFile;
use crate::config::Config;
use crate::origin::{OriginError, OriginRefusal, Route};
use crate::running::origin_client;

/// Time for all of them together.
const PATIENCE: Duration = Duration::from_secs(6);
/// Origins that are asked; the configuration may name more.
const MOST_ASKED: usize = 64;

/// Requests the base of each route and the URL of each origin and parent, at the same time. Any answer below 500 is good: a
/// folder may be forbidden where its files are not. Only a refused signature is not.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let without_tls = config.routes.iter().filter(|it| it.has_http2_without_tls()).map(|route| {
        let (what, fix) = (
            "HTTP/2 is agreed on by TLS, so HTTP/1.1 is used",
            "give base with https://, or leave http2 out",
        );
        Finding::new(Severity::Warning, format!("[[route]] http2 of {}", route.path), what, fix)
    });
    let found: Vec<_> = without_tls.collect();
    let asked = asked(config);
    // A box that only receives asks none of them.
    if asked.is_empty() || !config.http.read_through {
        return found;
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
    let found = runtime.block_on(async {
        let (mut found, mut asked) = (found, asked);
        let client = origin_client(config).or_else(|why| {
            found.push(unusable_ca(config, why));
            // Without the file nothing can be said of certificates: the daemon does not start either.
            let unasked = asked.extract_if(.., |(_, url)| url.starts_with("https:"));
            found.extend(unasked.map(|(about, url)| {
                let what = "not asked, for want of [http] origin_ca";
                Finding::new(Severity::Warning, format!("{about} {url}"), what, "see the error about that")
            }));
            let mut without = config.clone();
            without.http.origin_ca = None;
            origin_client(&without)
        });
        let client = match client {
            Ok(client) => std::sync::Arc::new(client),
            Err(why) => {
                let what = format!("none is asked: {}", why.what);
                found.push(Finding::new(Severity::Warning, "origins", what, why.fix));
                return found;
            }
        };
        let mut probes = JoinSet::new();
        for (at, (about, url)) in asked.into_iter().enumerate() {
            let client = std::sync::Arc::clone(&client);
            probes.spawn(async move {
                let answer = tokio::time::timeout(PATIENCE, client.probe(&url)).await;
                (at, finding(format!("{about} {url}"), answer.unwrap_or(Err(OriginError::Timeout))))
            });
        }
        let mut answers = probes.join_all().await;
        answers.sort_by_key(|(at, _)| *at);
        found.into_iter().chain(answers.into_iter().map(|(_, finding)| finding)).collect()
    });
    // A name server that is silent holds a thread for longer than its answer is waited for.
    runtime.shutdown_background();
    found
}

/// `[http] origin_ca` is unusable.
fn unusable_ca(config: &Config, why: UnusableFile) -> Finding {
    let file = config.http.origin_ca.as_deref().unwrap_or_else(|| Path::new(""));
    let about = format!("[http] origin_ca {}", file.display());
    Finding::new(Severity::Error, about, why.what, why.fix)
}

/// Key and URL of each, each URL once.
fn asked(config: &Config) -> Vec<(&'static str, String)> {
    let is_beyond_parents = |route: &&Route| {
        let parents = route.parents.as_ref().filter(|_| !route.skip_shield);
        let group = config.parents.iter().find(|it| it.enabled && parents == Some(&it.name));
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

/// An origin that is away at the moment is not a mistake: the box serves what it has.
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
            "put the certificate of its authority, or its own if it is self-signed, into a PEM file, and name that in [http] origin_ca",
        ),
        Err(OriginError::Connect(why)) if why.starts_with("the certificate is for ") => (
            format!("no connection: {why}"),
            "give the origin a certificate with that name (subjectAltName), or name it in the URL as its certificate does",
        ),
        Err(OriginError::Connect(why)) if why.starts_with("the host has no address") => (
            format!("no connection: {why}"),
            "correct the host in the URL, or the name servers of this machine (/etc/resolv.conf)",
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
    fn bases_that_only_parents_ask_are_not_asked_and_those_of_routes_without_parents_are() {
        let route = |name: &str, skips: bool| {
            format!(
                "[[route]]\npath = '/{name}/'\nbase = 'http://{name}.example.com/'\nparents = 'p'\nskip_shield = {skips}\n"
            )
        };
        let group = "[[parent]]\nname = 'p'\norigin_last = false\n[[parent.member]]\nurl = 'http://parent.example.com'\n";
        let text = format!("{}{}{group}", route("behind", false), route("direct", true));
        let urls: Vec<_> = asked(&Config::parse(&text).unwrap()).into_iter().map(|(_, url)| url).collect();
        assert_eq!(urls, ["http://direct.example.com/", "http://parent.example.com"]);
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
    fn http2_of_an_origin_without_tls_is_found() {
        let route = |scheme: &str| {
            format!(
                "http.read_through = false\n[[route]]\npath = '/a/'\nbase = '{scheme}://h/'\nhttp2 = true\n"
            )
        };
        let all = examine(&Config::parse(&route("http")).unwrap());
        assert_eq!(
            (all.len(), all[0].severity, all[0].about.as_str()),
            (1, Severity::Warning, "[[route]] http2 of /a/")
        );
        assert!(examine(&Config::parse(&route("https")).unwrap()).is_empty());
    }

    #[test]
    fn certificates_that_are_not_trusted_have_a_fix_that_ends_the_fault() {
        let trust = "the certificate is signed by itself, or is an authority's, and is not trusted here";
        let names = "the certificate is for box.lan, not for other.lan";
        for (why, fix) in [(trust, "[http] origin_ca"), (names, "subjectAltName")] {
            let found = finding("x".to_owned(), Err(OriginError::Connect(why.to_owned())));
            assert!(found.fix.contains(fix), "{why}: {}", found.fix);
        }
        let text = "http.origin_ca = '/nowhere/ca.pem'\n[[route]]\npath = '/a/'\nbase = 'https://h/'\n";
        let all = examine(&Config::parse(text).unwrap());
        assert_eq!((all.len(), all[0].severity), (2, Severity::Error), "{all:?}");
        let said = (all[0].about.as_str(), all[0].what.as_str(), all[0].fix.as_str());
        assert_eq!(said, ("[http] origin_ca /nowhere/ca.pem", "there is no such file", "give a PEM file"));
        assert_eq!(
            (all[1].severity, all[1].about.as_str()),
            (Severity::Warning, "[[route]] base https://h/")
        );
        assert!(all[1].what.contains("not asked") && all[1].what.contains("origin_ca"), "{}", all[1].what);
        // What needs no certificate is asked all the same.
        let text = format!("{text}[[route]]\npath = '/b/'\nbase = '{}'\n", origin(200));
        let all = examine(&Config::parse(&text).unwrap());
        assert_eq!((all.len(), all[2].what.as_str()), (3, "answers 200"), "{all:?}");
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
