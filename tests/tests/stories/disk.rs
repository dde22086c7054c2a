//! Disk failures as players see them: full, read-only, and a file truncated while it is served. No faster ring shows that the
//! daemon continues, logs it once, and uses the disk again when it recovers.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use skycache_tests::{Story, client, media};

const PATIENCE: Duration = Duration::from_secs(60);

/// A file system of its own at the story's cache; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// In memory: its size can be changed.
    fn in_memory(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let folder = at.to_str()?;
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", folder])
            .then(|| Self(at.to_path_buf()))
    }

    /// ext4 on a loop device: it can be made read-only under its writers, as the kernel does when it finds errors.
    fn ext4(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let image = at.with_extension("img");
        std::fs::File::create(&image).and_then(|file| file.set_len(48 << 20)).ok()?;
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
        let is_made = made.is_ok_and(|status| status.success());
        (is_made && mount(&["-o", "loop", image.to_str()?, at.to_str()?])).then(|| Self(at.to_path_buf()))
    }

    fn remount(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}"), self.0.to_str().unwrap()]), "remount {options}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str]) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn disk_is(story: &Story, state: &str) -> bool {
    story.status().is_some_and(|status| status["store"]["disk"] == state)
}

#[test]
fn a_full_disk_leaves_memory_and_is_used_again_when_there_is_room() {
    let mut story = Story::new();
    let Some(disk) = SmallDisk::in_memory(&story.cache(), "300k") else {
        eprintln!("SKIPPED: a tmpfs cannot be mounted here (root is needed)");
        return;
    };
    story.start_daemon();
    story.send_once();
    // What was used longest ago makes room on the disk; what finds none is in memory.
    story.until("most objects to be held", PATIENCE, |story| story.held() > 15);
    let compared = story.compare();
    println!("on a disk of 300 kB: {compared}");
    assert!(compared.wrong.is_empty() && compared.exact > 15, "{compared}");
    let log = story.daemon.as_ref().unwrap().log();
    assert!(log.matches("the disk cannot be written").count() <= 2, "said once for each time: {log}");
    let status = story.status().unwrap();
    assert!(status["store"]["bytes"].as_u64() < Some(300 << 10), "{:#}", status["store"]);

    disk.remount("size=50m");
    // Past the pause after which a disk is tried again.
    std::thread::sleep(Duration::from_secs(6));
    story.send_once();
    story.until_complete(PATIENCE);
    assert!(disk_is(&story, "fine"));
    let compared = story.compare();
    assert_eq!(compared.exact, media::files(&media::ladder()).len() as u64, "{compared}");
    story.daemon = None;
}

#[test]
fn a_disk_that_is_mounted_read_only_serves_what_it_has_and_what_comes_goes_to_memory() {
    let mut story = Story::new();
    let Some(disk) = SmallDisk::ext4(&story.cache()) else {
        eprintln!("SKIPPED: ext4 on a loop device cannot be mounted here (root and loop devices are needed)");
        return;
    };
    story.start_daemon();
    story.send_once();
    story.until_complete(PATIENCE);
    // As errors=remount-ro does.
    disk.remount("abort");
    let compared = story.compare();
    assert_eq!(compared.hits, media::files(&media::ladder()).len() as u64, "{compared}");
    let key = story.list()[0]["key"].as_str().unwrap().to_owned();
    assert!(story.skycached("purge").arg(&key).output().unwrap().status.success());
    story.start_headend(false);
    story.until("what was purged comes back, to memory", PATIENCE, |story| {
        story.list().iter().any(|it| it["key"] == key.as_str() && it["tier"] == "memory")
    });
    assert!(disk_is(&story, "read_only"));
    story.daemon = None;
}

#[test]
fn a_file_that_is_cut_short_while_it_is_served_ends_the_response_and_not_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let length = 40_usize << 20;
    let body: Vec<u8> =
        (0..length).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    std::fs::write(folder.path().join("large.bin"), &body).unwrap();
    let mut story = Story::of(folder.path()).at(200_000_000);
    story.headend_extra = "include_unreferenced = true\n".to_owned();
    story.start_daemon();
    story.send_once();
    story.until_complete(PATIENCE);
    let object = media::files(&story.cache().join("objects")).pop().unwrap().1;

    let path = Story::path_of("large.bin");
    let mut player = std::net::TcpStream::connect(story.http).unwrap();
    player.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(player, "GET {path} HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n").unwrap();
    let mut received = vec![0; 100_000];
    player.read_exact(&mut received).unwrap();
    std::fs::OpenOptions::new().write(true).open(&object).unwrap().set_len(1 << 20).unwrap();
    // A reset is as good an end as any.
    let _ = player.read_to_end(&mut received);
    let head = received.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let got = &received[head..];
    assert!(got.len() < length, "the whole object was in buffers; make it larger");
    assert!(body.starts_with(got), "a byte that was never in the object");
    assert!(story.status().is_some(), "{}", story.daemon.as_ref().unwrap().log());
    let again = client::get(story.http, &path, &[]).unwrap();
    assert_ne!(again.status, 200);
    assert!(story.status().unwrap()["store"]["evicted"]["vanished"].as_u64() > Some(0));
}
