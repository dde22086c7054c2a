//! Terrestrial path: one HTTP client for misses and for repair.
//!
//! [`Origins`] maps a cache key to its URL at an origin; [`fill`] fetches an object once for all requests, [`fetch`] turns a
//! response into a stored object, [`client`] makes the requests, [`addresses`] is their address policy, [`ranges`] requests
//! parts, [`spans`] stores objects of which only ranges were requested, [`resumed`] fetches long objects across power cuts,
//! [`kind`] distinguishes media from manifests, [`parents`] are the caches asked before an origin, [`failover`] the requests to
//! them, [`phase`] predicts changes of live manifests, [`icy`] reads responses of radio servers.

mod addresses;
mod breaker;
mod client;
mod connections;
mod error;
mod failover;
mod fetch;
mod fill;
mod icy;
mod kind;
mod loops;
mod message;
mod options;
mod parents;
mod phase;
mod policy;
mod ranges;
mod recovery;
mod resumed;
mod signing;
mod spans;
#[cfg(test)]
pub(crate) mod testing;
mod timeouts;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use carousel::name::ObjectKey;

pub(crate) use addresses::is_of_this_machine;
pub use addresses::{AddressPolicy, OriginRefusal};
pub use breaker::Asker;
pub use client::Client;
pub use error::{OriginError, OriginFailure};
pub use fill::{
    FillContext, FillRequest, FillResult, Filler, ForwardReason, MAX_FILLS, NoPlace, OwnFields, Passed,
    PrefetchEnd,
};
pub use loops::loop_id;
pub use message::{OnInterim, Question, Reply, RequestBody, no_body};
pub(crate) use options::{CONNECT_FIX, connect_mistake};
pub use options::{
    FillOptions, Forwarded, Origin, Redirects, Route, SetCookie, SurrogateFields, VaryUserAgent,
    by_longest_path, mistakes,
};
pub(crate) use parents::is_own;
pub use parents::{GroupReport, MemberReport, ParentGroup, mistakes as mistakes_of_parents};
pub(crate) use ranges::parse_content_range;
pub use resumed::{ResumedFetch, Unfinished};
pub use signing::{SignatureRefusal, Signing, SigningForm};
pub use spans::SpanResult;
pub use timeouts::{OriginTimeouts, RouteTimeouts};

carousel::limits! {
    /// Base URLs that are kept of received gateway configurations.
    const MAX_SIGNALLED: usize = 4096, "URLs" {
        why: "A configuration names one for each service.",
        full: "The last ones are not kept: their objects have no origin.",
        free: "With the next configuration.",
        test: "base_urls_of_received_configurations_are_bounded",
    }
}

/// Rules of the configuration file.
#[derive(Debug, Default)]
struct Configured {
    rules: Vec<Origin>,
    routes: Arc<[Route]>,
}

/// Map from cache keys to URLs at origins.
#[derive(Debug)]
pub struct Origins {
    configured: RwLock<Arc<Configured>>,
    /// Number of applied configurations.
    generation: AtomicU64,
    /// `BaseURL`s of received configurations: prefix of keys, and URL.
    signalled: RwLock<Vec<(String, String)>>,
}

impl Origins {
    /// Creates it from the configuration file.
    pub fn new(rules: Vec<Origin>, routes: Vec<Route>) -> Self {
        let origins = Self {
            configured: RwLock::default(),
            generation: AtomicU64::new(0),
            signalled: RwLock::default(),
        };
        origins.configure(rules, routes);
        origins
    }

    /// Applies a new configuration file.
    pub fn configure(&self, rules: Vec<Origin>, mut routes: Vec<Route>) {
        by_longest_path(&mut routes);
        let configured = Configured { rules, routes: routes.into() };
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(configured);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A number that changes with each [`Self::configure`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn configured(&self) -> Arc<Configured> {
        // A poisoned lock still holds a complete configuration: it is only ever swapped.
        Arc::clone(&self.configured.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Short paths for players.
    pub fn routes(&self) -> Arc<[Route]> {
        Arc::clone(&self.configured().routes)
    }

    /// Replaces the URLs of received configurations.
    pub fn set_signalled(&self, urls: impl Iterator<Item = String>) {
        let prefix = |url: String| Some((ObjectKey::from_name(&url, None).ok()?.as_str().to_owned(), url));
        let all: Vec<_> = urls.filter_map(prefix).take(MAX_SIGNALLED).collect();
        *self.signalled.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// The URL of a key by `[[origin]]` rules alone.
    pub fn configured_url(&self, key: &ObjectKey) -> Option<String> {
        let (host, path) = key.as_str().split_once('/')?;
        let configured = self.configured();
        let rule = configured.rules.iter().find(|rule| rule.host.eq_ignore_ascii_case(host))?;
        Some(format!("{}/{path}", rule.url.trim_end_matches('/')))
    }

    /// The URL of `key`, if an origin is configured for it: by an `[[origin]]` rule, a `[[route]]`, or a received
    /// configuration. Anything else would make the box an open proxy.
    pub fn url_for(&self, key: &ObjectKey) -> Option<String> {
        if let Some(url) = self.configured_url(key) {
            return Some(url);
        }
        if let Some(url) = routed(&self.configured().routes, key) {
            return Some(url);
        }
        let signalled = self.signalled.read().unwrap_or_else(PoisonError::into_inner);
        signalled.iter().find_map(|(prefix, url)| {
            key.as_str().strip_prefix(prefix.as_str()).map(|rest| format!("{url}{rest}"))
        })
    }

    /// The URL for a request with an unsafe method: only if the configuration file names the origin. Received documents
    /// must not be able to make a box send such requests.
    pub fn url_for_unsafe(&self, key: &ObjectKey) -> Option<String> {
        self.configured_url(key).or_else(|| routed(&self.configured().routes, key))
    }

    /// Value of `Allow` if a request of this method for `key` is not passed on although the configuration names its origin.
    /// Both routes apply: the one by whose path it was requested, and the one of its origin.
    pub fn refused_method(
        &self,
        method: &http::Method,
        key: &ObjectKey,
        by: Option<&Route>,
    ) -> Option<String> {
        if matches!(*method, http::Method::GET | http::Method::HEAD) {
            return None;
        }
        let mut allowed = self.passed_methods(key, by)?;
        if allowed.iter().any(|it| it == method.as_str()) {
            return None;
        }
        allowed.splice(0..0, ["GET", "HEAD"].map(str::to_owned));
        Some(allowed.join(", "))
    }

    /// Methods other than GET and HEAD that are passed on for `key`; `None`: the configuration names no origin for it.
    pub fn passed_methods(&self, key: &ObjectKey, by: Option<&Route>) -> Option<Vec<String>> {
        self.url_for_unsafe(key)?;
        let configured = self.configured();
        let to = route_of(&configured.routes, key).map(|(route, _)| route);
        let default = Route::default_methods();
        let lists = [by, to].map(|it| it.map_or(&default, |route| &route.methods));
        Some(lists[0].iter().filter(|it| lists[1].contains(it)).cloned().collect())
    }

    /// Whether this key is below the base URL of a received configuration.
    pub fn is_signalled(&self, key: &ObjectKey) -> bool {
        let signalled = self.signalled.read().unwrap_or_else(PoisonError::into_inner);
        signalled.iter().any(|(prefix, _)| key.as_str().starts_with(prefix))
    }

    /// The hosts replaced by `[[origin]]` rules: requested URL, and host of the objects' URIs.
    pub fn stand_ins(&self) -> Vec<(String, String)> {
        self.configured().rules.iter().map(|rule| (rule.url.clone(), rule.host.clone())).collect()
    }

    /// As [`Origins::url_for`], for an object announced by the carousel: its own URI is used as well (TS 103 769 clause
    /// 9.3), except the reserved host of DVB-NIP, which has no address.
    pub fn url_for_announced(&self, key: &ObjectKey, uri: &str) -> Option<String> {
        let is_web = uri.starts_with("http://") || uri.starts_with("https://");
        let own = (is_web && !key.as_str().starts_with("dvb.gw/"))
            .then(|| uri.split('#').next().unwrap_or(uri).to_owned());
        self.url_for(key).or(own)
    }
}

/// The URL of `key` by the `[[route]]`s.
fn routed(routes: &[Route], key: &ObjectKey) -> Option<String> {
    route_of(routes, key).map(|(route, rest)| format!("{}{rest}", route.base))
}

/// The route with the longest base above `key`, and the remainder of the key.
pub fn route_of<'a>(routes: &'a [Route], key: &'a ObjectKey) -> Option<(&'a Route, &'a str)> {
    let below = routes.iter().filter_map(|route| Some((route, rest_below(&route.base, key)?)));
    below.max_by_key(|(route, _)| route.base.len())
}

/// The remainder of `key` below a base URL.
pub fn rest_below<'a>(base: &str, key: &'a ObjectKey) -> Option<&'a str> {
    key.as_str().strip_prefix(ObjectKey::from_name(base, None).ok()?.as_str())
}

/// A panic in between leaves a consistent value: each change under the lock is one assignment, insertion or removal.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_passed_on_as_the_route_says_whichever_way_it_is_asked() {
        let methods = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
        let route = Route {
            path: "/v/".into(),
            base: "https://routes.example/vod/".into(),
            methods: methods(&["POST"]),
            ..Route::default()
        };
        let origins = Origins::new(Vec::new(), vec![route.clone()]);
        let key = ObjectKey::from_name("https://routes.example/vod/x", None).unwrap();
        let refused = |method: &str, by| origins.refused_method(&method.parse().unwrap(), &key, by);
        for by in [None, Some(&route)] {
            assert_eq!(refused("POST", by), None);
            assert_eq!(refused("GET", by), None);
            assert_eq!(refused("DELETE", by).unwrap(), "GET, HEAD, POST");
            assert_eq!(refused("PURGE", by).unwrap(), "GET, HEAD, POST");
        }
        let elsewhere = ObjectKey::from_name("https://other.example/x", None).unwrap();
        assert_eq!(origins.refused_method(&http::Method::DELETE, &elsewhere, None), None, "no origin");
    }

    #[test]
    fn only_hosts_that_somebody_has_named_are_asked() {
        let rule = Origin { host: "cdn.example.com".into(), url: "http://127.0.0.1:9000/o/".into() };
        let route =
            Route { path: "/v/".into(), base: "https://routes.example/vod/".into(), ..Route::default() };
        let origins = Origins::new(vec![rule], vec![route]);
        origins.set_signalled(["http://air.example:81/dash/".to_owned()].into_iter());
        let url = |key: &str| origins.url_for(&ObjectKey::from_name(key, None).unwrap());
        assert_eq!(url("cdn.example.com/a/b?c").unwrap(), "http://127.0.0.1:9000/o/a/b?c");
        assert_eq!(url("routes.example/vod/x").unwrap(), "https://routes.example/vod/x");
        assert_eq!(url("routes.example/other/x"), None);
        assert_eq!(url("air.example:81/dash/1.m4s").unwrap(), "http://air.example:81/dash/1.m4s");
        assert_eq!(url("169.254.169.254/latest/meta-data"), None);
        assert!(origins.is_signalled(&ObjectKey::from_name("air.example:81/dash/new", None).unwrap()));
        let announced =
            |name: &str| origins.url_for_announced(&ObjectKey::from_name(name, None).unwrap(), name);
        assert_eq!(announced("https://other.example/x#7").unwrap(), "https://other.example/x");
        assert_eq!(announced("http://dvb.gw/x"), None);
        assert_eq!(announced("tag:x/y"), None);
    }

    #[test]
    fn base_urls_of_received_configurations_are_bounded() {
        let origins = Origins::new(Vec::new(), Vec::new());
        let url = |number: usize| format!("http://cdn.example/{number}/");
        let is_known = |number: usize| {
            let key = ObjectKey::from_name(&format!("{}x", url(number)), None).unwrap();
            origins.url_for(&key).is_some()
        };
        origins.set_signalled((0..=MAX_SIGNALLED).map(url));
        assert!(is_known(MAX_SIGNALLED - 1) && !is_known(MAX_SIGNALLED));
        origins.set_signalled((1..=MAX_SIGNALLED).map(url));
        assert!(is_known(MAX_SIGNALLED));
    }
}
