//! Options of the terrestrial path: `[[route]]` and `[[origin]]` of the configuration, and freshness where origins give none.

use carousel::query::{IgnoreQuery, QueryRule};
use serde::Deserialize;

use super::timeouts::RouteTimeouts;

/// `[[route]]`. Of several whose path fits a request the longest counts, whichever file it is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Path prefix at the players' listener; begins and ends with `/`.
    pub path: String,
    /// URL prefix that it stands for; ends with `/`.
    pub base: String,
    /// URLs in manifests that lead below `base` become paths below `path`, so that players stay at the box.
    #[serde(default)]
    pub rewrite: bool,
    /// What becomes of `Location`, `Content-Location` and `Link`.
    #[serde(default)]
    pub redirects: Redirects,
    /// `Host` in requests to the origin: `origin` (the host of `base`), `player` (as the player has sent it), or a name.
    #[serde(default)]
    pub host_header: Option<String>,
    /// Whether the origin gets to know the player's address.
    #[serde(default)]
    pub forwarded: Forwarded,
    /// Query parameters that are no part of the cache key: `true` for all, or their names.
    #[serde(default)]
    pub ignore_query: Option<IgnoreQuery>,
    /// The only query parameters that are part of the cache key.
    #[serde(default)]
    pub keep_query: Option<Vec<String>>,
    /// What becomes of a response that sets a cookie.
    #[serde(default)]
    pub set_cookie: SetCookie,
    /// What becomes of a response with `Vary: User-Agent`.
    #[serde(default)]
    pub vary_user_agent: VaryUserAgent,
    /// How long its origin may take, where that differs from `[http.origin_timeouts]`.
    #[serde(default)]
    pub timeouts: RouteTimeouts,
}

impl Route {
    /// Which query parameters a cache key leaves out.
    pub fn query_rule(&self) -> QueryRule {
        IgnoreQuery::rule(self.ignore_query.as_ref(), self.keep_query.as_deref())
    }
}

/// What becomes of URLs in response fields that lead back to the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redirects {
    /// Those below the base of a route become paths of the box.
    #[default]
    Rewrite,
    /// As `rewrite`, and redirects of the origin to itself are followed on behalf of the player.
    Follow,
    /// They go to the player as they come.
    Pass,
}

/// Whether `Forwarded` and `X-Forwarded-*` name the player.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarded {
    /// No: none is sent, and those of the request are dropped.
    #[default]
    Off,
    /// They name the player's connection; those of the request are dropped, since anybody can write them.
    On,
    /// The player's connection is added to those of the request: a proxy in front of the box has written them.
    Trusted,
}

/// What becomes of a response with `Set-Cookie` and explicit freshness. Without explicit freshness it is never kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetCookie {
    /// It is kept without the cookie, which only the player gets whose request it answers.
    #[default]
    Strip,
    /// It is kept with the cookie, for all.
    Keep,
    /// It is not kept.
    Pass,
}

/// What becomes of a response with `Vary: User-Agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VaryUserAgent {
    /// It is kept for exactly this player program.
    #[default]
    Exact,
    /// It is kept for player programs of the same products and platform, whatever their versions.
    Products,
    /// It is kept for all.
    Ignore,
    /// It is not kept.
    Refuse,
}

/// Puts routes into the order in which they are looked at: the longest path first.
pub fn by_longest_path(routes: &mut [Route]) {
    routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
}

/// `[[origin]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Host (and port, if not the scheme's) as in the objects' URIs.
    pub host: String,
    /// URL that is asked instead: scheme, host, port; a path is put before the object's.
    pub url: String,
}

/// How responses are kept: freshness where their origin gives none, and limits. Set in `[http]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FillOptions {
    /// Media segments.
    pub segment_ttl_s: u32,
    /// Manifests.
    pub manifest_ttl_s: u32,
    /// Responses 404 and 410.
    pub negative_ttl_s: u32,
    /// Longest object that is prefetched.
    pub prefetch_object_bytes: u64,
}
