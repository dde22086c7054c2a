//! `[traces]`: the collector, and which requests are traced.

use std::path::PathBuf;

use carousel::config::Mistake;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// `[traces]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// URL of the collector for OTLP over HTTP (protobuf), such as `http://127.0.0.1:4318`. Without a path it is asked at `/v1/traces`.
    pub endpoint: String,
    /// File with fields of the requests to it, one in a line, such as `authorization: Bearer …`. Read again for each request.
    pub headers_file: Option<PathBuf>,
    /// Authorities of its certificate, PEM. None: those of the system.
    pub ca: Option<PathBuf>,
    /// Share of the requests that are traced of those without a trusted `traceparent`, from 0 to 1.
    pub sample: f64,
    /// Addresses and networks of clients whose `traceparent` counts: edges before this box, or players of a test. That of others is
    /// neither followed nor passed on.
    pub trusted: Vec<String>,
    /// `service.name` in the traces.
    pub service_name: String,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers_file: None,
            ca: None,
            sample: 0.01,
            trusted: Vec::new(),
            service_name: "skycached".to_owned(),
        }
    }
}

impl Traces {
    /// Every mistake.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, fix: &str| all.push(Mistake::of_value(key, &what, fix));
        let url = self.endpoint.parse::<http::Uri>().ok().filter(|url| {
            matches!(url.scheme_str(), Some("http" | "https"))
                && url.host().is_some_and(|host| !host.is_empty())
                && url.query().is_none()
        });
        let usual = "give the collector's URL for OTLP over HTTP, such as \"http://127.0.0.1:4318\"";
        match url {
            None if self.endpoint.is_empty() => wrong("traces.endpoint", "it is empty".to_owned(), usual),
            None => wrong("traces.endpoint", format!("{:?} is not such a URL", self.endpoint), usual),
            Some(url) if url.authority().is_some_and(|it| it.as_str().contains('@')) => {
                let fix = "put `authorization: Basic …` into a file, and name it in headers_file";
                wrong("traces.endpoint", "a user or password in the URL is not sent".to_owned(), fix);
            }
            // The port of the other protocol, which no collector answers HTTP/1.1 at.
            Some(url) if url.port_u16() == Some(4317) && url.path() == "/" => {
                let what = "4317 is the port for gRPC".to_owned();
                wrong("traces.endpoint", what, "give the port for OTLP over HTTP, which is 4318 mostly");
            }
            Some(_) => {}
        }
        if !(0.0..=1.0).contains(&self.sample) {
            wrong(
                "traces.sample",
                format!("{} is not a share", self.sample),
                "give 0.01 for one in a hundred",
            );
        }
        for text in self.trusted.iter().filter(|it| it.parse::<IpNetwork>().is_err()) {
            wrong(
                "traces.trusted",
                format!("{text:?} is not an address or network"),
                "give it as \"192.0.2.7\" or \"2001:db8::/32\"",
            );
        }
        if self.service_name.is_empty() {
            wrong("traces.service_name", "it is empty".to_owned(), "leave it out, or give one");
        }
        all
    }

    /// The URL that spans are posted to.
    pub fn url(&self) -> String {
        let base = self.endpoint.trim_end_matches('/');
        match self.endpoint.parse::<http::Uri>() {
            Ok(url) if url.path() == "/" => format!("{base}/v1/traces"),
            _ => self.endpoint.clone(),
        }
    }

    /// The clients whose `traceparent` counts.
    pub fn networks(&self) -> Vec<IpNetwork> {
        self.trusted.iter().filter_map(|it| it.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let keys = |text: &str| -> Vec<String> {
            let traces: Traces = toml::from_str(text).unwrap();
            traces.mistakes().into_iter().map(|it| it.key).collect()
        };
        assert_eq!(keys("endpoint = 'http://127.0.0.1:4318'\ntrusted = ['10.0.0.0/8', '::1']"), [""; 0]);
        assert_eq!(keys(""), ["traces.endpoint"]);
        for wrong in ["localhost:4318", "grpc://h", "http://", "http://u:p@h", "http://h:4317", "http://h/?a"]
        {
            assert_eq!(keys(&format!("endpoint = '{wrong}'")), ["traces.endpoint"], "{wrong}");
        }
        assert_eq!(
            keys("endpoint = 'http://h'\nsample = 1.5\ntrusted = ['x']\nservice_name = ''"),
            ["traces.sample", "traces.trusted", "traces.service_name"]
        );
        assert_eq!(keys("endpoint = 'http://h'\nsample = nan"), ["traces.sample"]);
    }

    #[test]
    fn a_url_without_a_path_has_that_of_the_protocol() {
        let url = |endpoint: &str| Traces { endpoint: endpoint.to_owned(), ..Traces::default() }.url();
        assert_eq!(url("http://h:4318"), "http://h:4318/v1/traces");
        assert_eq!(url("https://h/"), "https://h/v1/traces");
        assert_eq!(url("https://h/otlp/v1/traces"), "https://h/otlp/v1/traces");
    }
}
