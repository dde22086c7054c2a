//! Refusals of a store, translated for operators: the fault, and the fix.

use std::time::SystemTime;

use carousel::xml;
use hyper::header::{DATE, HeaderMap};
use hyper::{StatusCode, header};

use super::super::stats::{Failed, PullFailure};

/// Difference of clocks, in seconds, from which a refusal is attributed to it. Signatures are valid for five minutes.
const SKEW_S: u64 = 240;
/// Characters of a store's own message that are shown.
const SHOWN_CHARS: usize = 200;

/// Handling of a response that is not a success.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The store is busy or has failed: retry later.
    Again(Failed),
    /// The credentials have expired: retry, if there are others.
    Expired(Failed),
    /// A retry would not help.
    Final(Failed),
}

/// Reads a refusal. `now` is the time of the request by our clock, `region` the one that it was signed for.
pub(super) fn refusal(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
    region: &str,
) -> Refusal {
    let document = xml::parse(body).ok().filter(|it| it.name == "Error");
    let text = |name: &str| {
        let found = document.as_ref().and_then(|it| it.child_text(name)).unwrap_or_default();
        found.chars().filter(|it| !it.is_control()).take(SHOWN_CHARS).collect::<String>()
    };
    let (code, message) = (text("Code"), text("Message"));
    let failed = |why: PullFailure, detail: String| Failed::new(why, detail);
    let said = if code.is_empty() {
        format!("{}, without a word of S3: is the endpoint that of a store?", status.as_str())
    } else {
        format!("{} {code}: {message}", status.as_str())
    };
    // Where the bucket is: a store says so in a field, or in the document.
    let of_header = headers.get("x-amz-bucket-region").and_then(|it| it.to_str().ok()).unwrap_or_default();
    let elsewhere = Some(of_header.to_owned()).filter(|it| !it.is_empty()).unwrap_or_else(|| text("Region"));
    let in_other_region = !elsewhere.is_empty() && elsewhere != region;
    let is_redirect = status.is_redirection();
    if is_transient(&code, status) {
        return Refusal::Again(failed(PullFailure::SlowDown, said));
    }
    if let Some(skew) = skew(headers, now)
        && (status == StatusCode::FORBIDDEN || status == StatusCode::BAD_REQUEST)
    {
        return Refusal::Final(failed(PullFailure::Clock, format!("{skew}: set the time ({said})")));
    }
    Refusal::Final(match code.as_str() {
        "RequestTimeTooSkewed" | "RequestExpired" => failed(
            PullFailure::Clock,
            format!("the clocks of this machine and the store differ: set the time ({said})"),
        ),
        _ if in_other_region && (is_redirect || status == StatusCode::BAD_REQUEST) => failed(
            PullFailure::Region,
            format!(
                "the bucket is in {elsewhere}, not in {region}: write region = \"{elsewhere}\" in [source.s3]"
            ),
        ),
        _ if is_redirect => redirected(headers, text("Endpoint"), &said),
        "InvalidAccessKeyId" | "NotSignedUp" => {
            failed(PullFailure::BadCredentials, "the store does not know the access key".to_owned())
        }
        "SignatureDoesNotMatch" => failed(
            PullFailure::BadCredentials,
            "the secret key is not that of the access key, or a proxy changes requests".to_owned(),
        ),
        "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" => {
            return Refusal::Expired(failed(
                PullFailure::BadCredentials,
                format!("the session token counts no longer ({said})"),
            ));
        }
        "NoSuchBucket" | "InvalidBucketName" => failed(PullFailure::NoBucket, said),
        "InvalidObjectState" => {
            failed(PullFailure::Archived, "it is in an archive: restore it first".to_owned())
        }
        "NoSuchKey" => failed(PullFailure::NotFound, status.as_str().to_owned()),
        _ if status == StatusCode::PRECONDITION_FAILED => failed(PullFailure::Changed, String::new()),
        _ if status == StatusCode::FORBIDDEN => failed(
            PullFailure::Denied,
            format!(
                "{said}; s3:GetObject and s3:ListBucket are needed: without the latter, keys that are not there are denied, too"
            ),
        ),
        _ if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) => {
            failed(PullFailure::NotFound, said)
        }
        _ => failed(PullFailure::Status, said),
    })
}

/// Whether the store is busy or has failed.
fn is_transient(code: &str, status: StatusCode) -> bool {
    let codes = [
        "SlowDown",
        "ServiceUnavailable",
        "InternalError",
        "RequestTimeout",
        "TooManyRequests",
        "Throttling",
        "ThrottlingException",
        "OperationAborted",
    ];
    codes.contains(&code)
        || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

/// A redirect that leads to no other region. `endpoint`: as the document has it.
fn redirected(headers: &HeaderMap, endpoint: String, said: &str) -> Failed {
    let location = headers.get(header::LOCATION).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let to = if endpoint.is_empty() {
        location.split('?').next().unwrap_or_default().to_owned()
    } else {
        endpoint
    };
    let why = format!("{said}; the store refers to {to:?}: set endpoint, region or path_style");
    Failed::new(PullFailure::Region, why)
}

/// Difference between our clock and the store's, if it is large.
fn skew(headers: &HeaderMap, now: SystemTime) -> Option<String> {
    let theirs = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let (s, how) = match now.duration_since(theirs) {
        Ok(ahead) => (ahead.as_secs(), "ahead of"),
        Err(behind) => (behind.duration().as_secs(), "behind"),
    };
    (s >= SKEW_S).then(|| format!("the clock of this machine is {s} s {how} the store's"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_795_960_167;

    fn read(status: u16, fields: &[(&'static str, &str)], body: &str) -> Refusal {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, value.parse().unwrap());
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        refusal(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), now, "us-east-1")
    }

    fn error(code: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>of it</Message><Region>eu-west-1</Region></Error>"
        )
    }

    #[test]
    fn each_refusal_has_its_reason_and_what_to_do() {
        let bare = |code: &str| error(code).replace("<Region>eu-west-1</Region>", "");
        for (status, fields, body, why, detail) in [
            (
                301,
                &[("x-amz-bucket-region", "eu-central-1")][..],
                bare("PermanentRedirect"),
                PullFailure::Region,
                "region = \"eu-central-1\"",
            ),
            (
                301,
                &[("x-amz-bucket-region", "eu-central-1")],
                String::new(),
                PullFailure::Region,
                "region = \"eu-central-1\"",
            ),
            (400, &[], error("AuthorizationHeaderMalformed"), PullFailure::Region, "region = \"eu-west-1\""),
            (
                400,
                &[],
                error("AuthorizationQueryParametersError"),
                PullFailure::Region,
                "region = \"eu-west-1\"",
            ),
            (
                307,
                &[("location", "https://b.other/?X-Amz-Signature=1")],
                bare("TemporaryRedirect"),
                PullFailure::Region,
                "\"https://b.other/\"",
            ),
            (403, &[], bare("InvalidAccessKeyId"), PullFailure::BadCredentials, "does not know"),
            (403, &[], bare("SignatureDoesNotMatch"), PullFailure::BadCredentials, "secret key"),
            (403, &[], bare("RequestTimeTooSkewed"), PullFailure::Clock, "set the time"),
            (403, &[], bare("AccessDenied"), PullFailure::Denied, "s3:ListBucket"),
            (403, &[], bare("InvalidObjectState"), PullFailure::Archived, "restore"),
            (404, &[], bare("NoSuchBucket"), PullFailure::NoBucket, "of it"),
            (404, &[], bare("NoSuchKey"), PullFailure::NotFound, "404"),
            (404, &[], "<html/>".to_owned(), PullFailure::NotFound, "endpoint"),
            (412, &[], bare("PreconditionFailed"), PullFailure::Changed, ""),
            (400, &[], bare("InvalidRequest"), PullFailure::Status, "400 InvalidRequest: of it"),
            (501, &[], bare("NotImplemented"), PullFailure::Status, "501"),
        ] {
            let Refusal::Final(failed) = read(status, fields, &body) else { panic!("{status} {body}") };
            assert!(failed.why == why && failed.detail.contains(detail), "{status} {body}: {failed:?}");
        }
        for (status, code) in
            [(503, "SlowDown"), (500, "InternalError"), (400, "RequestTimeout"), (502, "?"), (429, "?")]
        {
            assert!(
                matches!(read(status, &[], &bare(code)), Refusal::Again(it) if it.why == PullFailure::SlowDown),
                "{code}"
            );
        }
        assert!(matches!(read(400, &[], &bare("ExpiredToken")), Refusal::Expired(_)));
    }

    #[test]
    fn a_refusal_at_another_time_is_about_the_clock() {
        let at = |s: u64| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        // Presigned requests get AccessDenied, not RequestTimeTooSkewed.
        for (theirs, told) in [(NOW + 1800, "1800 s behind"), (NOW - 1800, "1800 s ahead of")] {
            let Refusal::Final(failed) = read(403, &[("date", &at(theirs))], &error("AccessDenied")) else {
                panic!()
            };
            assert!(failed.why == PullFailure::Clock && failed.detail.contains(told), "{failed:?}");
        }
        let Refusal::Final(failed) = read(403, &[("date", &at(NOW + 60))], &error("AccessDenied")) else {
            panic!()
        };
        assert_eq!(failed.why, PullFailure::Denied);
    }

    #[test]
    fn words_of_a_store_are_shown_in_one_line_of_bounded_length() {
        let body = error("Odd").replace("of it", &format!("a&#10;b{}", "x".repeat(999)));
        let Refusal::Final(failed) = read(400, &[], &body.replace("<Region>eu-west-1</Region>", "")) else {
            panic!()
        };
        assert!(!failed.detail.contains('\n') && failed.detail.len() < 300, "{failed:?}");
    }
}
