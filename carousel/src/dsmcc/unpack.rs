//! Verification and decompression of complete modules.

use super::delivery::{CarouselDrop, ModuleStorage};
use super::message::ModuleInfo;
use crate::limits::{MAX_INFLATED_BYTES, MAX_INFLATED_MODULE_BYTES, most_inflated};
use crate::ts::section::crc32;

/// Bytes inflated at a time.
const PIECE_BYTES: usize = 16 << 10;

/// Verifies a complete module and decompresses it, from storage into storage.
pub(super) fn unpack<S: ModuleStorage>(
    info: &ModuleInfo,
    whole: S::Module,
    storage: &mut S,
) -> Result<S::Module, CarouselDrop> {
    let is_crc_right = |bytes: &[u8]| info.crc32().is_none_or(|crc| crc == crc32(bytes));
    let right = is_crc_right(whole.as_ref());
    let Some(original_size) = info.original_size() else {
        return if right { Ok(whole) } else { Err(CarouselDrop::ModuleCrc) };
    };
    let inflated = inflate(whole.as_ref(), original_size, storage)?;
    // Textbooks differ on the scope of the CRC.
    if right || is_crc_right(inflated.as_ref()) { Ok(inflated) } else { Err(CarouselDrop::ModuleCrc) }
}

/// Decompresses exactly `original_size` bytes.
fn inflate<S: ModuleStorage>(
    bytes: &[u8],
    original_size: u32,
    storage: &mut S,
) -> Result<S::Module, CarouselDrop> {
    let most = most_inflated(bytes.len(), MAX_INFLATED_BYTES).min(MAX_INFLATED_MODULE_BYTES.into());
    if u64::from(original_size) > most {
        return Err(CarouselDrop::Inflate);
    }
    let mut buf = storage.open_inflated(original_size).ok_or(CarouselDrop::NoRoom)?;
    let mut decoder = flate2::Decompress::new(true);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let rest = usize::try_from(read).ok().and_then(|read| bytes.get(read..)).unwrap_or_default();
        let status = decoder
            .decompress(rest, &mut piece, flate2::FlushDecompress::None)
            .map_err(|_| CarouselDrop::Inflate)?;
        let length = decoder.total_out() - written;
        if decoder.total_out() > u64::from(original_size) {
            return Err(CarouselDrop::Inflate);
        }
        storage.write(&mut buf, written as u32, &piece[..length as usize]);
        if status == flate2::Status::StreamEnd {
            let is_complete = decoder.total_out() == u64::from(original_size);
            return is_complete
                .then(|| storage.close(buf).ok_or(CarouselDrop::NoRoom))
                .ok_or(CarouselDrop::Inflate)?;
        }
        if (decoder.total_in(), decoder.total_out()) == (read, written) {
            return Err(CarouselDrop::Inflate);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::super::delivery::{InMemory, SoleFile};
    use super::super::describe::Description;
    use super::*;
    use crate::limits::MAX_INFLATE_RATIO;

    fn zeros(length: u32) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        std::io::copy(&mut std::io::repeat(0).take(length.into()), &mut encoder).unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    }

    fn inflated(bytes: &[u8], original_size: u32) -> Result<Vec<u8>, CarouselDrop> {
        inflate(bytes, original_size, &mut InMemory)
    }

    /// Text that shrinks to a sixteenth.
    fn text(length: u32) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        let lines =
            (0_u32..).flat_map(|line| format!("{:>64}\n", line.wrapping_mul(2_654_435_761)).into_bytes());
        encoder.write_all(&lines.take(length as usize).collect::<Vec<u8>>()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_module_that_is_longer_than_the_limit_is_not_inflated() {
        for (length, is_inflated) in
            [(MAX_INFLATED_MODULE_BYTES, true), (MAX_INFLATED_MODULE_BYTES + 1, false)]
        {
            assert_eq!(inflated(&text(length), length).is_ok(), is_inflated, "{length}");
        }
    }

    /// Storage that counts what is asked of it.
    #[derive(Default)]
    struct Counting {
        room: bool,
        opened: u64,
        longest_write: usize,
    }

    impl ModuleStorage for Counting {
        type Buf = Vec<u8>;
        type Module = Vec<u8>;

        fn open(&mut self, bytes: u32, _: Option<SoleFile<'_>>) -> Option<Vec<u8>> {
            self.opened += u64::from(bytes);
            self.room.then(|| vec![0; bytes as usize])
        }

        fn write(&mut self, buf: &mut Vec<u8>, offset: u32, bytes: &[u8]) {
            self.longest_write = self.longest_write.max(bytes.len());
            buf[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }

        fn close(&mut self, buf: Vec<u8>) -> Option<Vec<u8>> {
            Some(buf)
        }

        fn wants(&mut self, _: &str, _: &Description) -> bool {
            true
        }
    }

    #[test]
    fn a_module_is_inflated_in_pieces_into_storage_that_its_ratio_allows() {
        let at_limit = MAX_INFLATED_BYTES as u32;
        let (most, bomb) = (zeros(at_limit), zeros(at_limit + 1));
        assert!((bomb.len() as u64) * MAX_INFLATE_RATIO < MAX_INFLATED_BYTES, "the ratio alone is stricter");
        let mut storage = Counting { room: true, ..Counting::default() };
        assert_eq!(inflate(&most, at_limit, &mut storage).map(|it| it.len()), Ok(at_limit as usize));
        assert_eq!((storage.opened, storage.longest_write), (MAX_INFLATED_BYTES, PIECE_BYTES));
        assert_eq!(inflate(&bomb, at_limit + 1, &mut storage), Err(CarouselDrop::Inflate));
        assert_eq!(storage.opened, MAX_INFLATED_BYTES, "nothing was opened for the bomb");
        assert_eq!(inflate(&most, at_limit, &mut Counting::default()), Err(CarouselDrop::NoRoom));
    }

    #[test]
    fn a_module_is_inflated_to_the_length_that_it_says() {
        let bytes = zeros(1000);
        assert_eq!(inflated(&bytes, 1000), Ok(vec![0; 1000]));
        for said in [0, 1, 999, 1001, 4000] {
            assert_eq!(inflated(&bytes, said), Err(CarouselDrop::Inflate), "{said}");
        }
        assert_eq!(inflated(&bytes[..bytes.len() - 5], 1000), Err(CarouselDrop::Inflate), "cut");
        assert_eq!(inflated(b"", 1000), Err(CarouselDrop::Inflate));
    }
}
