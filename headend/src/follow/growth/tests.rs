use std::fs;
use std::io::Write as _;

use super::*;
use crate::package::Reader;
use crate::prepare::options;

const MS: u64 = 1_000_000;

/// A fragment of `length` bytes: `moof` and `mdat`.
fn fragment(length: usize, fill: u8) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 24, b'm', b'o', b'o', b'f'];
    out.resize(24, fill);
    out.extend_from_slice(&(length as u32 - 24).to_be_bytes());
    out.extend_from_slice(b"mdat");
    out.resize(length, fill);
    out
}

struct Folder {
    dir: tempfile::TempDir,
    config: Config,
    watch: Watch,
    known: Inventory,
    growth: Growth,
    now_ns: u64,
}

impl Folder {
    /// A live presentation with segment 1.
    fn new(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("v1.m4s"), fragment(100, 1)).unwrap();
        fs::write(dir.path().join("init.mp4"), [1; 100]).unwrap();
        let list = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:2,\nv1.m4s\n";
        fs::write(dir.path().join("live.m3u8"), list).unwrap();
        let text = format!(
            "[link]\nrate_bps = 8_000_000\n[[source]]\npath = {:?}\nbase = \"https://cdn.example.com/\"\n\
             reserved_bps = 4_000_000\nchunk_ms = 200\n{extra}\n",
            dir.path().display()
        );
        let config = Config::parse(&text, Path::new(".")).unwrap_or_else(|why| panic!("{why:?}"));
        let known = Reader::new(dir.path(), options(&config.sources[0])).unwrap().read().unwrap();
        let watch = Watch::start(dir.path(), &[]).unwrap();
        let mut growth = Growth::default();
        growth.learn(&known);
        Self { dir, config, watch, known, growth, now_ns: 0 }
    }

    fn open(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.dir.path().join(name)).unwrap()
    }

    /// Changes that a scan `ms` later reports, as words.
    fn look(&mut self, ms: u64) -> Vec<String> {
        self.now_ns += ms * MS;
        self.watch.look();
        let mut words = Vec::new();
        self.growth
            .look((&self.config, 0), &self.watch, &self.known, self.now_ns, |update| {
                words.push(match update {
                    Update::Piece { piece, .. } => {
                        assert_eq!(piece.like, "v1.m4s");
                        let (bytes, end) =
                            (&piece.piece.bytes, if piece.piece.is_last { " end" } else { "" });
                        format!("{} {}+{}{end}", piece.path, piece.piece.offset, bytes.len())
                    }
                    Update::Abandoned { path, .. } => format!("abandoned {path}"),
                    _ => unreachable!(),
                });
                Some(())
            })
            .unwrap();
        words
    }
}

#[test]
fn fragments_are_taken_as_they_are_written_and_the_rest_at_the_end() {
    for name in ["v2.m4s", "v2.m4s.tmp"] {
        let mut folder = Folder::new("");
        let mut file = folder.open(name);
        file.write_all(b"\0\0\0\x18styp0123456789abcdef").unwrap();
        assert_eq!(folder.look(10), [""; 0], "no fragment yet");
        file.write_all(&fragment(500, 1)[..100]).unwrap();
        assert_eq!(folder.look(10), [""; 0], "it is not whole");
        file.write_all(&fragment(500, 1)[100..]).unwrap();
        assert_eq!(folder.look(10), ["v2.m4s 0+524"]);
        file.write_all(&fragment(300, 2)).unwrap();
        assert_eq!(folder.look(100), [""; 0], "pieces are 200 ms long");
        file.write_all(&fragment(300, 2)).unwrap();
        assert_eq!(folder.look(100), ["v2.m4s 524+600"]);
        file.write_all(&fragment(200, 3)).unwrap();
        drop(file);
        if name != "v2.m4s" {
            fs::rename(folder.dir.path().join(name), folder.dir.path().join("v2.m4s")).unwrap();
        }
        assert_eq!(folder.look(1), ["v2.m4s 1124+200 end"]);
        assert_eq!(folder.look(1000), [""; 0]);
        let whole = fs::read(folder.dir.path().join("v2.m4s")).unwrap();
        assert!(folder.growth.has_sent("v2.m4s", || Some(Digest::of(&whole))));
        assert!(!folder.growth.has_sent("v2.m4s", || Some(Digest::of(b"rewritten"))));
        assert!(!folder.growth.has_sent("v3.m4s", || unreachable!("it is not read")));
    }
}

#[test]
fn when_everything_was_taken_the_last_bytes_are_sent_again_as_the_last() {
    let mut folder = Folder::new("");
    let mut file = folder.open("v2.m4s");
    file.write_all(&fragment(5000, 1)).unwrap();
    assert_eq!(folder.look(10), ["v2.m4s 0+5000"]);
    drop(file);
    assert_eq!(folder.look(10), ["v2.m4s 3600+1400 end"]);
    let whole = fs::read(folder.dir.path().join("v2.m4s")).unwrap();
    assert!(folder.growth.has_sent("v2.m4s", || Some(Digest::of(&whole))), "what is repeated counts once");
}

#[test]
fn a_file_that_grows_beyond_what_receivers_take_is_abandoned() {
    let mut folder = Folder::new("");
    let mut file = folder.open("v2.m4s");
    file.write_all(&fragment(500, 1)).unwrap();
    assert_eq!(folder.look(10), ["v2.m4s 0+500"]);
    let rest = MAX_GROWING_BYTES - 500;
    file.write_all(&u32::try_from(rest).unwrap().to_be_bytes()).unwrap();
    file.write_all(b"mdat").unwrap();
    file.set_len(MAX_GROWING_BYTES).unwrap();
    assert_eq!(folder.look(200), [format!("v2.m4s 500+{rest}")]);
    file.write_all(&fragment(100, 2)).unwrap();
    assert_eq!(folder.look(200), ["abandoned v2.m4s"]);
}

#[test]
fn packets_of_a_transport_stream_are_pieces_too() {
    let mut folder = Folder::new("");
    folder.growth.patterns.insert(("t".into(), ".ts".into()), "v1.m4s".into());
    let mut file = folder.open("t7.ts");
    file.write_all(&[0x47; 188 * 5 + 10]).unwrap();
    assert_eq!(folder.look(10), ["t7.ts 0+940"]);
    file.write_all(&[0x47; 178]).unwrap();
    drop(file);
    assert_eq!(folder.look(10), ["t7.ts 940+188 end"]);
}

#[test]
fn other_files_are_left_to_the_manifest() {
    let mut folder = Folder::new("");
    let writers: Vec<File> = ["w2.m4s", "v1.m4s", "v2.mp4", "live.m3u8"]
        .map(|name| {
            let mut file = folder.open(name);
            file.write_all(&fragment(500, 1)).unwrap();
            file
        })
        .into();
    assert_eq!(folder.look(10), [""; 0]);
    drop(writers);
    // Written at once.
    fs::write(folder.dir.path().join("v2.m4s"), fragment(500, 1)).unwrap();
    assert_eq!(folder.look(10), [""; 0]);
    // No fragments.
    let mut file = folder.open("v3.m4s");
    file.write_all(&[7; 500]).unwrap();
    assert_eq!(folder.look(10), [""; 0]);
    assert_eq!(folder.growth.skipped, ["v3.m4s"]);
    drop(file);
    folder.look(10);
    assert!(folder.growth.skipped.is_empty());
}

#[test]
fn neither_a_fifo_nor_a_link_is_read_while_it_is_written() {
    let mut folder = Folder::new("");
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), fragment(500, 1)).unwrap();
    let at = |name: &str| folder.dir.path().join(name);
    std::os::unix::fs::symlink(outside.path().join("secret"), at("v2.m4s.tmp")).unwrap();
    std::os::unix::fs::symlink(at("v1.m4s"), at("v3.m4s.tmp")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("v4.m4s.tmp")).status().unwrap().success());
    // With a writer it has bytes, too.
    let mut writer = File::options().read(true).write(true).open(at("v4.m4s.tmp")).unwrap();
    writer.write_all(&fragment(500, 1)).unwrap();
    assert_eq!(folder.look(10), [""; 0]);
    assert!(folder.growth.growing.is_empty());
    folder.growth.skipped.sort();
    assert_eq!(folder.growth.skipped, ["v2.m4s", "v3.m4s", "v4.m4s"]);
    // A segment whose place a link takes is abandoned, and the link is not read.
    let mut file = folder.open("v5.m4s");
    file.write_all(&fragment(500, 1)).unwrap();
    assert_eq!(folder.look(10), ["v5.m4s 0+500"]);
    drop(file);
    let at = |name: &str| folder.dir.path().join(name);
    std::os::unix::fs::symlink(outside.path().join("secret"), at("link.tmp")).unwrap();
    fs::rename(at("link.tmp"), at("v5.m4s")).unwrap();
    assert_eq!(folder.look(10), ["abandoned v5.m4s"]);
}

#[test]
fn what_is_cut_replaced_removed_or_stalls_is_abandoned() {
    type Fault = fn(&mut Folder) -> u64;
    let faults: [Fault; 4] = [
        |folder| {
            File::create(folder.dir.path().join("v2.m4s")).unwrap();
            let mut file = folder.open("v2.m4s");
            file.write_all(&[1; 10]).unwrap();
            std::mem::forget(file);
            10
        },
        |folder| {
            fs::write(folder.dir.path().join("v2.m4s.tmp"), fragment(900, 3)).unwrap();
            fs::rename(folder.dir.path().join("v2.m4s.tmp"), folder.dir.path().join("v2.m4s")).unwrap();
            10
        },
        |folder| {
            fs::remove_file(folder.dir.path().join("v2.m4s")).unwrap();
            10
        },
        |_| STALLED_NS / MS,
    ];
    for fault in faults {
        let mut folder = Folder::new("");
        let mut file = folder.open("v2.m4s");
        file.write_all(&fragment(500, 1)).unwrap();
        assert_eq!(folder.look(10), ["v2.m4s 0+500"]);
        let ms = fault(&mut folder);
        assert_eq!(folder.look(ms), ["abandoned v2.m4s"]);
        assert!(folder.growth.growing.is_empty());
        drop(file);
    }
}

#[test]
fn segments_beyond_the_limit_wait_until_they_are_finished() {
    let mut folder = Folder::new("");
    let mut files: Vec<File> = (0..MAX_FILES + 1)
        .map(|at| {
            let mut file = folder.open(&format!("v{}.m4s", at + 2));
            file.write_all(&fragment(100, 1)).unwrap();
            file
        })
        .collect();
    assert_eq!(folder.look(10).len(), MAX_FILES);
    assert_eq!(folder.look(300).len(), 0);
    // A place becomes free.
    for _ in 0..2 {
        files.pop();
    }
    folder.look(10);
    assert!(folder.growth.growing.len() <= MAX_FILES);
    drop(files);
    folder.look(10);
    assert!(folder.growth.growing.is_empty());
}

#[test]
fn digests_of_sent_segments_are_bounded() {
    let mut growth = Growth::default();
    for at in 0..=MAX_SENT {
        growth.remember(at.to_string(), Digest::of(b"a"));
    }
    assert_eq!(growth.sent.len(), MAX_SENT);
    assert!(
        !growth.has_sent("0", || Some(Digest::of(b"a"))) && growth.has_sent("1", || Some(Digest::of(b"a")))
    );
}

#[test]
fn the_last_piece_of_route_brings_the_repair_symbols_of_the_whole() {
    let fec = "protocol = \"route\"\nclass = \"high\"\n[fec.high]\ncode = \"raptorq\"\noverhead_percent = 20";
    let mut folder = Folder::new(fec);
    let mut file = folder.open("v2.m4s");
    file.write_all(&fragment(50_000, 1)).unwrap();
    let mut repaired = Vec::new();
    for _ in 0..2 {
        folder.watch.look();
        let (config, watch, known) = (&folder.config, &folder.watch, &folder.known);
        folder
            .growth
            .look((config, 0), watch, known, 0, |update| {
                let Update::Piece { piece, .. } = update else { unreachable!() };
                repaired.push((piece.piece.repair.is_some(), piece.whole_repair.is_some()));
                Some(())
            })
            .unwrap();
        file = File::open(folder.dir.path().join("v1.m4s")).unwrap();
    }
    drop(file);
    assert_eq!(repaired, [(false, false), (false, true)]);
}
