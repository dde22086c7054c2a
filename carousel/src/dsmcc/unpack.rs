//! Verification and decompression of complete modules.

use super::delivery::{CarouselDrop, Content, ModuleStorage};
use super::message::ModuleInfo;
use crate::limits::MAX_INFLATED_MODULE_BYTES;
use crate::ts::section::crc32;

/// Verifies a complete module and decompresses it.
pub(super) fn unpack<S: ModuleStorage>(
    info: &ModuleInfo,
    whole: S::Module,
) -> Result<Content<S::Module>, CarouselDrop> {
    let is_crc_right = |bytes: &[u8]| info.crc32().is_none_or(|crc| crc == crc32(bytes));
    let right = is_crc_right(whole.as_ref());
    let Some(original_size) = info.original_size() else {
        return if right { Ok(Content::Plain(whole)) } else { Err(CarouselDrop::ModuleCrc) };
    };
    let inflated = inflate(whole.as_ref(), original_size).ok_or(CarouselDrop::Inflate)?;
    // Textbooks differ on the scope of the CRC.
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
    // One byte beyond the expected size detects excess data.
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    fn zeros(length: u32) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        std::io::copy(&mut std::io::repeat(0).take(length.into()), &mut encoder).unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_module_that_is_longer_than_the_limit_is_not_inflated() {
        for (length, is_inflated) in
            [(MAX_INFLATED_MODULE_BYTES, true), (MAX_INFLATED_MODULE_BYTES + 1, false)]
        {
            assert_eq!(inflate(&zeros(length), length).is_some(), is_inflated, "{length}");
        }
    }

    #[test]
    fn a_module_is_inflated_to_the_length_that_it_says() {
        let bytes = zeros(1000);
        assert_eq!(inflate(&bytes, 1000), Some(vec![0; 1000]));
        for said in [0, 1, 999, 1001, 4000] {
            assert_eq!(inflate(&bytes, said), None, "{said}");
        }
        assert_eq!(inflate(&bytes[..bytes.len() - 5], 1000), None, "cut");
        assert_eq!(inflate(b"", 1000), None);
    }
}
