//! Pictures as packaged media: fragmented MP4 (ISO/IEC 14496-12, 14496-15) and HLS playlists (RFC 8216).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::date;
use super::picture::{self, Coder, Picture};

/// Pictures a second.
pub(super) const RATE: u32 = 25;
/// Duration of a segment.
pub(super) const SEGMENT_S: u64 = 2;
/// Pictures of a segment.
pub(super) const PICTURES: u64 = RATE as u64 * SEGMENT_S;
/// Segments that the playlist of the channel lists.
const WINDOW: u64 = 6;
/// Segments that the folder of the channel keeps: players and repair may be behind the playlist.
const KEPT: u64 = 12;

/// A box of its type and parts.
fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = 8 + parts.iter().map(|it| it.len()).sum::<usize>();
    let mut all = (length as u32).to_be_bytes().to_vec();
    all.extend(kind);
    parts.iter().for_each(|it| all.extend(*it));
    all
}

/// Numbers of 32 bits.
fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|it| it.to_be_bytes()).collect()
}

/// A matrix that changes nothing.
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// The initialization segment.
fn init() -> Vec<u8> {
    let (width, height) = (picture::SIZE.0 as u32, picture::SIZE.1 as u32);
    let unit = |unit: Vec<u8>| [(unit.len() as u16).to_be_bytes().to_vec(), unit].concat();
    let avcc = boxed(
        b"avcC",
        &[
            &[1],
            &picture::PROFILE,
            &[0xff, 0xe1],
            &unit(picture::sequence()),
            &[1],
            &unit(picture::parameters()),
        ],
    );
    let sized = [(width as u16).to_be_bytes(), (height as u16).to_be_bytes()].concat();
    let avc1 = boxed(
        b"avc1",
        &[
            &[0, 0, 0, 0, 0, 0, 0, 1],
            &[0; 16],
            &sized,
            &words(&[0x48_0000, 0x48_0000, 0]),
            &[0, 1],
            &[0; 32],
            &[0, 24, 0xff, 0xff],
            &avcc,
        ],
    );
    let stbl = boxed(
        b"stbl",
        &[
            &boxed(b"stsd", &[&words(&[0, 1]), &avc1]),
            &boxed(b"stts", &[&words(&[0, 0])]),
            &boxed(b"stsc", &[&words(&[0, 0])]),
            &boxed(b"stsz", &[&words(&[0, 0, 0])]),
            &boxed(b"stco", &[&words(&[0, 0])]),
        ],
    );
    let dinf = boxed(b"dinf", &[&boxed(b"dref", &[&words(&[0, 1]), &boxed(b"url ", &[&words(&[1])])])]);
    let minf = boxed(b"minf", &[&boxed(b"vmhd", &[&words(&[1, 0, 0])]), &dinf, &stbl]);
    let mdia = boxed(
        b"mdia",
        &[
            &boxed(b"mdhd", &[&words(&[0, 0, 0, RATE, 0]), &[0x55, 0xc4, 0, 0]]), // und
            &boxed(b"hdlr", &[&words(&[0, 0]), b"vide", &[0; 12], b"video\0"]),
            &minf,
        ],
    );
    let tkhd = boxed(
        b"tkhd",
        &[&words(&[7, 0, 0, 1, 0, 0, 0, 0, 0, 0]), &words(&MATRIX), &words(&[width << 16, height << 16])],
    );
    let mvhd = boxed(
        b"mvhd",
        &[
            &words(&[0, 0, 0, RATE, 0, 0x1_0000, 0x0100_0000, 0, 0]),
            &words(&MATRIX),
            &words(&[0, 0, 0, 0, 0, 0, 2]),
        ],
    );
    let mvex = boxed(b"mvex", &[&boxed(b"trex", &[&words(&[0, 1, 1, 1, 0, 0])])]);
    let moov = boxed(b"moov", &[&mvhd, &boxed(b"trak", &[&tkhd, &mdia]), &mvex]);
    [boxed(b"ftyp", &[b"iso6", &words(&[0]), b"iso6cmfcavc1"]), moov].concat()
}

/// A media segment of coded pictures, the first of which is an IDR picture. `first` is the number of the first one.
fn segment(number: u64, first: u64, pictures: &[Vec<u8>]) -> Vec<u8> {
    let entries: Vec<u8> = pictures.iter().flat_map(|it| (it.len() as u32).to_be_bytes()).collect();
    let moof = |offset: u32| {
        let trun = boxed(
            b"trun",
            &[
                // data-offset, first-sample-flags, sizes; the first depends on no other
                &words(&[0x0205, pictures.len() as u32, offset, 0x0200_0000]),
                &entries,
            ],
        );
        let traf = boxed(
            b"traf",
            &[
                // default-base-is-moof; duration 1, and flags of what depends on others
                &boxed(b"tfhd", &[&words(&[0x2_0028, 1, 1, 0x0101_0000])]),
                &boxed(b"tfdt", &[&words(&[0x0100_0000]), &first.to_be_bytes()]),
                &trun,
            ],
        );
        boxed(b"moof", &[&boxed(b"mfhd", &[&words(&[0, number as u32])]), &traf])
    };
    let offset = moof(0).len() as u32 + 8;
    let styp = boxed(b"styp", &[b"msdh", &words(&[0]), b"msdhmsix"]);
    [styp, moof(offset), boxed(b"mdat", &[&pictures.concat()])].concat()
}

/// Writes under a name that packagers see only when the file is complete.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(".tmp");
    fs::write(&hidden, bytes)?;
    fs::rename(hidden, path)
}

fn master(bandwidth: u64) -> String {
    let [profile, constraints, level] = picture::PROFILE;
    let (width, height) = picture::SIZE;
    format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},\
         RESOLUTION={width}x{height},FRAME-RATE={RATE}.000,CODECS=\"avc1.{profile:02X}{constraints:02X}{level:02X}\"\nvideo.m3u8\n"
    )
}

fn playlist(kind: &str) -> String {
    format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{SEGMENT_S}\n{kind}#EXT-X-MAP:URI=\"init.mp4\"\n"
    )
}

/// Packages a film of `seconds` into `folder`, from the pictures that `draw` makes by their number.
pub(super) fn film(folder: &Path, seconds: u64, draw: impl Fn(u64) -> Picture) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    write(&folder.join("init.mp4"), &init())?;
    let mut coder = Coder::default();
    let mut list = playlist("#EXT-X-PLAYLIST-TYPE:VOD\n");
    let mut longest = 0;
    for number in 0..seconds / SEGMENT_S {
        let first = number * PICTURES;
        let pictures: Vec<Vec<u8>> =
            (first..first + PICTURES).map(|it| coder.code(&draw(it), it == first)).collect();
        let bytes = segment(number + 1, first, &pictures);
        longest = longest.max(bytes.len() as u64);
        let name = format!("{number:03}.m4s");
        write(&folder.join(&name), &bytes)?;
        let _ = write!(list, "#EXTINF:{SEGMENT_S}.000,\n{name}\n");
    }
    list.push_str("#EXT-X-ENDLIST\n");
    write(&folder.join("video.m3u8"), list.as_bytes())?;
    write(&folder.join("master.m3u8"), master(longest * 8 / SEGMENT_S).as_bytes())
}

/// Packager of the channel.
#[derive(Debug)]
pub(super) struct Channel {
    folder: PathBuf,
    coder: Coder,
    /// Segments so far.
    number: u64,
}

impl Channel {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        write(&folder.join("init.mp4"), &init())?;
        write(&folder.join("master.m3u8"), master(200_000).as_bytes())?;
        Ok(Self { folder: folder.to_path_buf(), coder: Coder::default(), number: 0 })
    }

    /// Adds the segment of the two seconds that began at `unix_s`, and names it in the playlist; `draw` makes its pictures.
    pub(super) fn add(&mut self, unix_s: u64, draw: impl Fn(u64) -> Picture) -> io::Result<()> {
        let first = self.number * PICTURES;
        let pictures: Vec<Vec<u8>> = (0..PICTURES).map(|it| self.coder.code(&draw(it), it == 0)).collect();
        write(&self.folder.join(name(self.number)), &segment(self.number + 1, first, &pictures))?;
        self.number += 1;
        let oldest = self.number.saturating_sub(WINDOW);
        let mut list = playlist(&format!("#EXT-X-MEDIA-SEQUENCE:{oldest}\n"));
        let begin_s = unix_s.saturating_sub((self.number - 1 - oldest) * SEGMENT_S);
        let _ = writeln!(list, "#EXT-X-PROGRAM-DATE-TIME:{}", date(begin_s));
        for number in oldest..self.number {
            let _ = write!(list, "#EXTINF:{SEGMENT_S}.000,\n{}\n", name(number));
        }
        write(&self.folder.join("video.m3u8"), list.as_bytes())?;
        if let Some(gone) = self.number.checked_sub(KEPT + 1) {
            fs::remove_file(self.folder.join(name(gone)))?;
        }
        Ok(())
    }
}

fn name(number: u64) -> String {
    format!("{number}.m4s")
}
