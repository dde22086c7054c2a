//! Verification and decompression of complete modules.

use super::delivery::{CarouselDrop, Content, ModuleStorage};
use super::message::ModuleInfo;
use crate::limits::MAX_INFLATED_MODULE_BYTES;
use crate::ts::section::crc32;

/// Checks a whole module and undoes its compression.
pub(super) fn unpack<S: ModuleStorage>(
    info: &ModuleInfo,
    whole: S::Whole,
) -> Result<Content<S::Whole>, CarouselDrop> {
    let is_crc_right = |bytes: &[u8]| info.crc32().is_none_or(|crc| crc == crc32(bytes));
    let right = is_crc_right(whole.as_ref());
    let Some(original_size) = info.original_size() else {
        return if right { Ok(Content::Plain(whole)) } else { Err(CarouselDrop::ModuleCrc) };
    };
    let inflated = inflate(whole.as_ref(), original_size).ok_or(CarouselDrop::Inflate)?;
    // The CRC's scope is told differently by different books.
    if right || is_crc_right(&inflated) {
        Ok(Content::Inflated(inflated))
    } else {
        Err(CarouselDrop::ModuleCrc)
    }
}

fn inflate(bytes: &[u8], original_size: u32) -> Option<Vec<u8>> {
    if original_size > MAX_INFLATED_MODULE_BYTES {
        return None;
    }
    let mut out = Vec::with_capacity((original_size as usize).min(bytes.len().saturating_mul(1032)));
    let mut decoder = flate2::Decompress::new(true);
    // A byte more than there should be shows what is too long.
    out.reserve_exact(1);
    loop {
        let before = (decoder.total_in(), decoder.total_out());
        let rest = bytes.get(usize::try_from(before.0).ok()?..)?;
        let status = decoder.decompress_vec(rest, &mut out, flate2::FlushDecompress::Finish).ok()?;
        if status == flate2::Status::StreamEnd {
            return (out.len() == original_size as usize).then_some(out);
        }
        if out.len() > original_size as usize || (decoder.total_in(), decoder.total_out()) == before {
            return None;
        }
        if out.len() == out.capacity() {
            out.reserve_exact((original_size as usize + 1).saturating_sub(out.len()).max(1));
        }
    }
}
