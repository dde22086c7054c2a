//! `GET /api/v1/logs`: the newest lines of the log.

use http::Uri;
use serde_json::{Value, json};
use tracing::Level;

use super::parameter;
use crate::logs::{self, MAX_LOG_LINES};

/// Lines of an answer to a request that does not say how many it wants.
const LINES: usize = 200;

/// The lines that a request asks for.
///
/// # Errors
/// One line: the parameter, and what it takes.
pub(super) fn answer(uri: &Uri) -> Result<Value, String> {
    let least = parameter(uri, "level").map_or(Some(Level::TRACE), |it| logs::level(&it));
    let least = least.ok_or("level: give error, warn, info, debug or trace")?;
    let since = parameter(uri, "since").map_or(Ok(0), |it| it.parse::<u64>());
    let since = since.ok().filter(|it| *it < 1 << 53).ok_or("since: give the number of a line, or 0")?;
    let most = parameter(uri, "limit").map_or(Ok(LINES), |it| it.parse());
    let most = most.ok().filter(|it| (1..=MAX_LOG_LINES).contains(it));
    let most = most.ok_or_else(|| format!("limit: give 1 to {MAX_LOG_LINES}"))?;
    let (lines, newest) = logs::lines().since(since, least, most);
    let lines: Vec<Value> = lines.iter().map(|it| it.to_json()).collect();
    Ok(json!({ "schema": 1, "newest": newest, "lines": lines }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked() {
        let answer = |query: &str| answer(&format!("/api/v1/logs?{query}").parse().unwrap());
        for good in
            ["", "level=warn", "since=0", "since=9007199254740991", "limit=1", "limit=1000&level=trace"]
        {
            assert!(answer(good).is_ok(), "{good}");
        }
        for (bad, named) in [
            ("level=loud", "level"),
            ("level=", "level"),
            ("since=-1", "since"),
            ("since=9007199254740992", "since"),
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=x", "limit"),
        ] {
            assert!(answer(bad).unwrap_err().starts_with(named), "{bad}");
        }
    }
}
