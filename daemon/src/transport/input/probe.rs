//! Entry points for fuzz targets (`tests/fuzz`): parsers of responses of SAT>IP servers.

use super::Signal;
use super::rtsp::{RtspError, answer};
use super::satip::{MAX_TIMEOUT_S, Setup, signal_of};

/// Parses a server's consecutive answers to SETUP, until one is invalid. Returns the number of valid ones.
///
/// # Panics
/// If a parsed value exceeds its bounds.
pub fn answers(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        match answer(&mut bytes, "SETUP") {
            Ok(response) => {
                let setup = Setup::of(&response);
                assert!((1..=MAX_TIMEOUT_S).contains(&setup.timeout_s), "{setup:?}");
                assert!(setup.stream.bytes().all(|it| it.is_ascii_graphic()), "{setup:?}");
            }
            Err(RtspError::Refused { why, .. }) => assert!(!why.is_empty()),
            Err(_) => break,
        }
        count += 1;
    }
    count
}

/// The signal in a datagram of RTCP.
pub fn signal(datagram: &[u8]) -> Option<Signal> {
    signal_of(datagram)
}
