//! NAL units: byte stream format, payloads, and SEI messages.

use super::facts::Video;

carousel::limits! {
    /// Parameter set or SEI message that is read.
    const MAX_PAYLOAD_BYTES: usize = 4096, "bytes" {
        why: "The longest that encoders write, with all HRD schedules and scaling lists, has a quarter of it.",
        full: "Bytes behind it are not considered.",
        free: "Holds for one unit.",
        test: "emulation_prevention_is_taken_out",
    }
}

/// Units between start codes (Annex B). The last one may be truncated.
pub(super) fn units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(stream);
    std::iter::from_fn(move || {
        let unit = rest?;
        rest = after_start_code(unit);
        let length = rest.map_or(unit.len(), |rest| unit.len() - rest.len() - 3);
        Some(&unit[..length])
    })
}

fn after_start_code(stream: &[u8]) -> Option<&[u8]> {
    stream.windows(3).position(|three| three == [0, 0, 1]).map(|at| &stream[at + 3..])
}

/// Payload of a unit after its header, without emulation prevention bytes.
pub(super) fn payload(unit: &[u8], header_bytes: usize) -> Vec<u8> {
    let bytes = unit.get(header_bytes..).unwrap_or_default();
    let mut out = Vec::with_capacity(bytes.len().min(MAX_PAYLOAD_BYTES));
    let mut zeros = 0;
    for &byte in bytes.iter().take(MAX_PAYLOAD_BYTES) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Applies the messages of an SEI unit (its [`payload`]) to the video. Message types are the same for both codecs.
pub(super) fn supplement(video: &mut Video, payload: &[u8]) {
    let mut rest = payload;
    // The trailing bits are one byte.
    while rest.len() > 1 {
        let Some((kind, length)) = count(&mut rest).and_then(|kind| Some((kind, count(&mut rest)?))) else {
            return;
        };
        let Some((message, behind)) = rest.split_at_checked(length) else { return };
        rest = behind;
        match (kind, message) {
            // mastering_display_colour_volume, content_light_level_info
            (137 | 144, _) => video.hdr10 = true,
            (147, [transfer, ..]) => video.colour.alternative_transfer = Some(*transfer),
            // ITU-T T.35: United States, Samsung, provider's code 1, application 4
            (4, [0xb5, 0x00, 0x3c, 0x00, 0x01, 0x04, ..]) => video.hdr10_plus = true,
            _ => {}
        }
    }
}

/// A number coded with bytes of 255 as continuation.
fn count(rest: &mut &[u8]) -> Option<usize> {
    let mut sum = 0;
    loop {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        sum += usize::from(byte);
        if byte < 255 {
            return Some(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_lie_between_start_codes() {
        let stream = [9, 9, 0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 0, 0, 1];
        assert_eq!(units(&stream).collect::<Vec<_>>(), [&[0x67, 1][..], &[0x68], &[]]);
        assert_eq!(units(&[0, 0]).count(), 0);
    }

    #[test]
    fn emulation_prevention_is_taken_out() {
        assert_eq!(payload(&[0x67, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3], 1), [0, 0, 1, 0, 0, 0, 0]);
        assert!(payload(&[0x67], 2).is_empty());
        assert_eq!(payload(&[1; 10_000], 1).len(), MAX_PAYLOAD_BYTES);
    }

    #[test]
    fn messages_are_told_by_their_numbers() {
        let mut video = Video::new(String::new());
        let mut bytes = vec![5, 255, 1];
        bytes.extend([0; 256]);
        bytes.extend([147, 1, 18, 4, 7, 0xb5, 0, 0x3c, 0, 1, 4, 0, 144, 4, 0, 0, 0, 0, 0x80]);
        supplement(&mut video, &bytes);
        assert_eq!(
            (video.colour.alternative_transfer, video.hdr10_plus, video.hdr10),
            (Some(18), true, true)
        );
        let mut other = Video::new(String::new());
        for lie in [&[137, 24, 1][..], &[255; 9], &[147, 0, 0x80], &[4, 3, 0xb5, 0, 0x31, 0x80]] {
            supplement(&mut other, lie);
        }
        assert_eq!(other, Video::new(String::new()));
    }
}
