//! Failures of requests to origins, and the reasons by which they are counted.

use std::fmt;

use super::addresses::OriginRefusal;
use super::signing::SignatureRefusal;

/// Error of a request to an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginError {
    /// The URL is malformed.
    BadUrl,
    /// No connection, or TLS failed: the request has not reached anything.
    Connect(String),
    /// The connection ended before the head of a response, or the head is malformed.
    NoAnswer(String),
    /// Nothing came in time.
    Timeout,
    /// A status other than success.
    Status(u16),
    /// Too many redirects, or an invalid one.
    Redirect,
    /// Ranges were asked for and something else came.
    BadRange,
    /// The body ended early.
    Cut,
    /// The body is slower than the minimum rate.
    TooSlow,
    /// The origin has failed repeatedly and is not requested for a while.
    CircuitOpen,
    /// The address policy refuses its address.
    Address(OriginRefusal),
    /// The player's body ended early, or was invalid.
    RequestBody,
    /// It cannot be signed.
    Unsigned,
    /// Its signature is refused.
    Signature(SignatureRefusal),
}

carousel::reasons! {
    /// Why a request to an origin came to nothing.
    pub enum OriginFailure in "origin_failures" by "reason" {
        /// The URL is malformed.
        BadUrl = "bad_url",
        /// No connection, or TLS failed.
        Connect = "connect",
        /// The connection ended before the head of a response, or the head is malformed.
        NoAnswer = "no_answer",
        /// Nothing came in time.
        Timeout = "timeout",
        /// The status is not one of success.
        Status = "status",
        /// Redirects lead nowhere, or have no end.
        Redirect = "redirect",
        /// Ranges were asked for and something else came.
        BadRange = "bad_range",
        /// The body ended early.
        Cut = "cut",
        /// The body came slower than the least rate.
        TooSlow = "too_slow",
        /// The origin has failed repeatedly and is not asked for a while.
        CircuitOpen = "circuit_open",
        /// The address policy refuses it.
        Address = "address",
        /// The player's body ended early, or was none.
        RequestBody = "request_body",
        /// The request cannot be signed.
        Unsigned = "unsigned",
        /// The signature of the request is refused.
        Signature = "signature",
    }
}

impl OriginError {
    /// Whether the configuration or the request is wrong, not the origin, so that an operator must be informed.
    pub const fn is_a_mistake(&self) -> bool {
        matches!(self, Self::BadUrl | Self::Address(_) | Self::RequestBody)
    }

    /// The reason for metrics.
    pub const fn reason(&self) -> OriginFailure {
        match self {
            Self::BadUrl => OriginFailure::BadUrl,
            Self::Connect(_) => OriginFailure::Connect,
            Self::NoAnswer(_) => OriginFailure::NoAnswer,
            Self::Timeout => OriginFailure::Timeout,
            Self::Status(_) => OriginFailure::Status,
            Self::Redirect => OriginFailure::Redirect,
            Self::BadRange => OriginFailure::BadRange,
            Self::Cut => OriginFailure::Cut,
            Self::TooSlow => OriginFailure::TooSlow,
            Self::CircuitOpen => OriginFailure::CircuitOpen,
            Self::Address(_) => OriginFailure::Address,
            Self::RequestBody => OriginFailure::RequestBody,
            Self::Unsigned => OriginFailure::Unsigned,
            Self::Signature(_) => OriginFailure::Signature,
        }
    }
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::NoAnswer(why) => write!(f, "no answer: {why}"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Unsigned => f.write_str("it cannot be signed: see sign.secret_file of its route or parent"),
            Self::Signature(why) => write!(f, "the signature of its request is refused ({})", why.as_str()),
            Self::Address(why) => write!(f, "not asked ({why}): [http] allow_origins can name it"),
            other => f.write_str(other.reason().as_str()),
        }
    }
}
