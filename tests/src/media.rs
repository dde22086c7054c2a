//! Media for stories: the committed ladder, or any folder.

use std::path::{Path, PathBuf};

/// URL of the ladder's folder.
pub const BASE: &str = "https://cdn.example.com/vod/film/";

/// The committed ladder: three video rungs and audio, HLS and DASH over the same segments.
pub fn ladder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("media/cmaf")
}

/// Every file under `folder` with its path relative to it, in order.
///
/// # Panics
/// If the folder cannot be read.
pub fn files(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("folder of media") {
            let path = entry.expect("entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(relative) = path.strip_prefix(folder) {
                all.push((relative.to_string_lossy().into_owned(), path));
            }
        }
    }
    all.sort();
    all
}

/// As [`files`]; none where there is no such folder yet.
pub fn files_if_any(folder: &Path) -> Vec<(String, PathBuf)> {
    if folder.is_dir() { files(folder) } else { Vec::new() }
}

/// A folder with `count` small objects of `bytes` bytes each, and a playlist that names them.
///
/// # Panics
/// If it cannot be written.
pub fn many(folder: &Path, count: usize, bytes: usize) {
    let mut rng = linksim::Rng::new(bytes as u64);
    let mut playlist =
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
    for number in 0..count {
        let name = format!("s{number:05}.ts");
        let body: Vec<u8> = (0..bytes).map(|_| rng.next_u64() as u8).collect();
        std::fs::write(folder.join(&name), body).expect("segment");
        playlist += &format!("#EXTINF:1,\n{name}\n");
    }
    std::fs::write(folder.join("index.m3u8"), playlist + "#EXT-X-ENDLIST\n").expect("playlist");
}
