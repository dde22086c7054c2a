//! Initial inputs, one module for each of targets. Everything is made by our own senders and writers, the same in every
//! run.

pub(crate) mod commands;
pub(crate) mod documents;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod packets;
pub(crate) mod receivers;
pub(crate) mod streams;

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|it| it.as_bytes().to_vec()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    // Writing to memory does not fail.
    let _ = std::io::Write::write_all(&mut gzip, bytes);
    gzip.finish().unwrap_or_default()
}

/// UTF-16 behind its byte order mark.
fn utf16(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}
