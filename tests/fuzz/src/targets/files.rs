//! Files of others: packages, media, guides, configurations.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use carousel::time::WallTime;
use headend::package::{Options, Reader};

/// A folder in memory where the system has one; of this process alone.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = base.join(format!("skycache-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display()));
        folder
    })
}

/// A file with these bytes.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    path
}

/// Content of the folder under this path.
fn look(path: &Path) -> Option<headend::package::tree::FileOnDisk> {
    let root = headend::package::tree::Folder::root(folder(), &[]).ok()?;
    headend::package::tree::look(path, &root.bounds)
}

/// Media that manifests may refer to, one beside the other.
fn media() -> &'static HashMap<String, headend::package::tree::FileOnDisk> {
    static FILES: OnceLock<HashMap<String, headend::package::tree::FileOnDisk>> = OnceLock::new();
    FILES.get_or_init(|| {
        let segment = crate::seeds::files::segment(2, 64);
        let names = ["init.mp4", "s1.m4s", "s2.m4s", "s3.m4s", "a/1.m4s", "1.ts", "2.ts", "3.ts", "a b.m4s"];
        std::fs::create_dir_all(folder().join("a")).unwrap_or_else(|err| panic!("a folder: {err}"));
        let look = |name: &str| look(&file(name, &segment));
        names.iter().filter_map(|name| Some(((*name).to_owned(), look(name)?))).collect()
    })
}

pub(super) fn package(bytes: &[u8]) {
    let name = if bytes.trim_ascii_start().starts_with(b"<") { "m.mpd" } else { "m.m3u8" };
    let mut files: headend::package::tree::Files = media().clone().into_iter().collect();
    let path = file(name, bytes);
    let Some(found) = look(&path) else { return };
    files.insert(name.to_owned(), found);
    for is_following in [false, true] {
        let options = Options {
            base: "http://cdn.example/v/".to_owned(),
            now: Some(WallTime::from_unix_ms(1_795_219_200_000)),
            is_following,
            ..Options::default()
        };
        let Ok(mut reader) = Reader::new(folder(), options) else { return };
        if let Ok(inventory) = reader.read_files(&files, Vec::new()) {
            for path in inventory.objects.keys() {
                assert!(path.split('/').all(|it| it != ".."), "{path:?}");
            }
        }
    }
}

pub(super) fn media_facts(bytes: &[u8]) {
    if let Ok(facts) = headend::package::media::read(&file("media", bytes))
        && let Some(video) = facts.video
    {
        assert!(video.width > 0 && video.height > 0);
    }
}

pub(super) fn guide(bytes: &[u8]) {
    let path = file("guide", bytes);
    let services = |channel: &str| (channel.len() < 20).then(|| format!("s-{channel}"));
    if let Ok(read) = headend::catalog::guide::read(&path, "guide.example", &services) {
        let mut guide = read.guide;
        assert!(guide.tidy().is_empty(), "a guide is read tidy");
    }
}

pub(super) fn bucket_events(bytes: &[u8]) {
    assert!(headend::pull::try_read_event(bytes) > 0, "a message is an event or has a reason");
}

pub(super) fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(config) = skycache::config::Config::parse(text) {
        let written = config.to_toml().unwrap_or_else(|err| panic!("{err}: {text}"));
        assert!(skycache::config::Config::parse(&written).is_ok(), "{written}");
    }
    if let Ok(config) = headend::config::Config::parse(text, folder()) {
        let written = config.to_toml().unwrap_or_else(|err| panic!("{err}: {text}"));
        assert!(headend::config::Config::parse(&written, folder()).is_ok(), "{written}");
    }
    let _ = carousel::config::uncommented(text);
}
