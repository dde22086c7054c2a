//! Options of the terrestrial path: `[[route]]` and `[[origin]]` of the configuration, and freshness where origins give none.

use serde::Deserialize;

/// `[[route]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Path prefix at the players' listener; begins and ends with `/`.
    pub path: String,
    /// URL prefix that it stands for; ends with `/`.
    pub base: String,
    /// Absolute URLs in manifests that begin with `base` are turned to `path`, so that players stay at the box.
    #[serde(default)]
    pub rewrite: bool,
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
