//! Posters: a picture as PNG (ISO/IEC 15948), one byte for each of R, G and B.

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use super::picture::{COLUMNS, Picture, ROWS};

/// Samples of a square's side.
const SIDE: usize = 8;

/// `picture` as a file.
pub(super) fn png(picture: &Picture) -> std::io::Result<Vec<u8>> {
    let mut rows = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in 0..ROWS {
        let mut line = vec![0]; // no filter
        for column in 0..COLUMNS {
            let colour = picture.at(column, row);
            (0..SIDE).for_each(|_| line.extend([colour.0, colour.1, colour.2]));
        }
        (0..SIDE).try_for_each(|_| rows.write_all(&line))?;
    }
    let mut head = Vec::new();
    for side in [COLUMNS * SIDE, ROWS * SIDE] {
        head.extend((side as u32).to_be_bytes());
    }
    head.extend([8, 2, 0, 0, 0]); // depth, truecolour
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, body) in [(b"IHDR", head), (b"IDAT", rows.finish()?), (b"IEND", Vec::new())] {
        file.extend((body.len() as u32).to_be_bytes());
        let mut sum = Crc::new();
        sum.update(kind);
        sum.update(&body);
        file.extend(kind);
        file.extend(body);
        file.extend(sum.sum().to_be_bytes());
    }
    Ok(file)
}
