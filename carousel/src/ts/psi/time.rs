//! Time and date table, time offset table.

use super::{TDT, TOT, bcd, from_bcd, with_length12};
use crate::bytes::WireError;
use crate::time::WallTime;
use crate::ts::descriptor;
use crate::ts::section::crc32;

/// Appends a TDT section (EN 300 468 clause 5.2.5), which has no CRC_32.
pub fn write_tdt(out: &mut Vec<u8>, now: WallTime) {
    out.extend_from_slice(&[TDT, 0x70, 5]);
    out.extend_from_slice(&utc_time(now));
}

/// Appends a TOT section (clause 5.2.6) that says UTC is local time.
///
/// # Errors
/// Never.
pub fn write_tot(out: &mut Vec<u8>, now: WallTime) -> Result<(), WireError> {
    let start = out.len();
    out.extend_from_slice(&[TOT, 0x70, 0]);
    out.extend_from_slice(&utc_time(now));
    with_length12(out, |out| {
        let mut data = b"GBR\x02\x00\x00".to_vec();
        data.extend_from_slice(&utc_time(now));
        data.extend_from_slice(&[0, 0]);
        descriptor::write(out, descriptor::LOCAL_TIME_OFFSET, &data)
    })?;
    out[start + 2] = (out.len() - start - 3 + 4) as u8;
    let crc = crc32(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
    Ok(())
}

/// The time of a TDT or TOT section that was not checked yet; checks the CRC_32 of a TOT.
pub fn read_time(bytes: &[u8]) -> Option<WallTime> {
    let time: &[u8; 5] = bytes.get(3..)?.first_chunk()?;
    let is_right = match bytes[0] {
        TDT => bytes.len() == 8,
        TOT => crc32(bytes) == 0,
        _ => false,
    };
    let day = i64::from(u16::from_be_bytes([time[0], time[1]])) - 40_587;
    let two = |byte: u8| i64::from(from_bcd(u32::from(byte)));
    let seconds = (day * 24 + two(time[2])) * 3600 + two(time[3]) * 60 + two(time[4]);
    is_right.then(|| WallTime::from_unix_ms(seconds * 1000))
}

/// MJD and BCD (Annex C).
fn utc_time(now: WallTime) -> [u8; 5] {
    let seconds = now.unix_ms().div_euclid(1000);
    let [high, low] = ((seconds.div_euclid(86_400) + 40_587) as u16).to_be_bytes();
    let of_day = seconds.rem_euclid(86_400) as u32;
    let two = |value: u32| bcd(value) as u8;
    [high, low, two(of_day / 3600), two(of_day / 60 % 60), two(of_day % 60)]
}
