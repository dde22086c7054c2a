use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::package::{Options, TrackKind};

fn vectors() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/package/media/vectors"))
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(vectors().join(name)).unwrap()
}

/// Everything of a picture in one line.
fn line(video: &Video) -> String {
    let point = |value: Option<u8>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let Colour { primaries, transfer, matrix, is_full_range, .. } = video.colour;
    format!(
        "{} {}x{}{} sar {}:{} {} {} bit {}/{}/{} {} {}{}",
        video.codec,
        video.width,
        video.height,
        if video.is_interlaced { "i" } else { "p" },
        video.sample_aspect.0,
        video.sample_aspect.1,
        video.frame_rate.map_or_else(|| "-".to_owned(), |(frames, seconds)| format!("{frames}/{seconds}")),
        video.bit_depth,
        point(primaries),
        point(transfer),
        point(matrix),
        is_full_range.map_or("-", |is_full| if is_full { "full" } else { "limited" }),
        video.dynamic().as_str(),
        if video.hdr10 { " HDR10" } else { "" },
    )
}

fn sound(audio: &Audio) -> String {
    let number = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    format!(
        "{} {} ch {} Hz {}",
        audio.codec,
        number(audio.channels.map(u32::from)),
        number(audio.sample_rate_hz),
        audio.language.as_deref().unwrap_or("-")
    )
}

/// Facts by ffprobe of the same files, and of what it leaves out of init segments (frame rates, fields, levels) the
/// command line that made them.
const PICTURES: [(&str, &str); 14] = [
    ("h264-1080p25.mp4", "avc1.640028 1920x1080p sar 1:1 25/1 8 bit 1/1/1 limited SDR"),
    ("h264-576i25.mp4", "avc1.64001E 720x576i sar 64:45 25/1 8 bit 5/6/5 limited SDR"),
    ("h264-level-too-low.mp4", "avc1.64000B 640x360p sar 1:1 25/1 8 bit -/-/- - SDR"),
    ("h264-720p25-cenc.mp4", "avc1.64001F 1280x720p sar 1:1 25/1 8 bit -/-/- - SDR"),
    ("hevc-2160p50-pq.mp4", "hvc1.2.4.L153.90 3840x2160p sar 1:1 50/1 10 bit 9/16/9 limited PQ HDR10"),
    ("hevc-1080p50-hlg.mp4", "hev1.2.4.L123.90 1920x1080p sar 1:1 50/1 10 bit 9/18/9 limited HLG"),
    ("hevc-1080i25.mp4", "hvc1.1.6.L120.40 1920x1080i sar 1:1 25/1 8 bit 1/1/1 limited SDR"),
    ("av1-720p-pq.mp4", "av01.0.05M.10 1280x720p sar 1:1 - 10 bit 9/16/9 limited PQ"),
    ("av1-360p.mp4", "av01.0.01M.08 640x360p sar 1:1 - 8 bit 1/1/1 limited SDR"),
    ("vp9-360p.mp4", "vp09.02.21.10 640x360p sar 1:1 - 10 bit 1/1/1 limited SDR"),
    ("file.mp4", "avc1.64000C 320x180p sar 1:1 25/1 8 bit -/-/- - SDR"),
    ("h264-720p50-aac.ts", "avc1.42C020 1280x720p sar 1:1 50/1 8 bit 1/1/1 limited SDR"),
    ("hevc-1080p50-hlg-eac3.ts", "hvc1.2.4.L123.90 1920x1080p sar 1:1 50/1 10 bit 9/14/9 limited HLG"),
    ("hevc-2160p50-pq-ac3.ts", "hvc1.2.4.L153.90 3840x2160p sar 1:1 50/1 10 bit 9/16/9 limited PQ HDR10"),
];

#[test]
fn pictures_are_what_ffprobe_says() {
    for (name, expected) in PICTURES {
        let facts = read(&vectors().join(name)).unwrap();
        let video = facts.video.unwrap();
        assert_eq!(line(&video), expected, "{name}");
        assert_eq!(video.display_aspect(), (16, 9), "{name}");
        assert_eq!(facts.is_protected, name.contains("cenc"), "{name}");
    }
}

#[test]
fn sounds_and_texts_are_what_ffprobe_says() {
    for (name, expected) in [
        ("audio-aac.mp4", "mp4a.40.2 6 ch 48000 Hz deu"),
        ("audio-ac3.mp4", "ac-3 6 ch 48000 Hz deu"),
        ("audio-eac3.mp4", "ec-3 6 ch 48000 Hz deu"),
        ("audio-opus.mp4", "Opus 2 ch 48000 Hz deu"),
        ("audio-flac.mp4", "fLaC 2 ch 48000 Hz deu"),
        ("audio-mp3.mp4", "mp4a.6B 2 ch 48000 Hz deu"),
        ("h264-720p25-cenc.mp4", "mp4a.40.2 2 ch 48000 Hz -"),
        ("file.mp4", "mp4a.40.2 1 ch 48000 Hz -"),
        ("h264-720p50-aac.ts", "mp4a.40.2 2 ch 48000 Hz fra"),
        ("hevc-1080p50-hlg-eac3.ts", "ec-3 6 ch 48000 Hz ita"),
        ("hevc-2160p50-pq-ac3.ts", "ac-3 2 ch 48000 Hz -"),
        ("mp2.ts", "mp4a.40.33 2 ch 44100 Hz eng"),
    ] {
        let facts = read(&vectors().join(name)).unwrap();
        assert_eq!(facts.audio.iter().map(sound).collect::<Vec<_>>(), [expected], "{name}");
    }
    for (name, codec) in [("text-stpp.mp4", "stpp"), ("text-tx3g.mp4", "tx3g")] {
        let facts = read(&vectors().join(name)).unwrap();
        assert_eq!(
            (facts.subtitles, facts.video, facts.audio),
            (vec![codec.to_owned()], None, vec![]),
            "{name}"
        );
    }
}

/// The same bytes with another name for a box, so that it is not found.
fn without(name: &str, kind: &[u8; 4]) -> Vec<u8> {
    let mut bytes = bytes_of(name);
    let at = bytes.windows(4).position(|four| four == kind).unwrap();
    bytes[at..at + 4].copy_from_slice(b"free");
    bytes
}

#[test]
fn parameter_sets_say_the_same_as_the_boxes_beside_them() {
    for (name, expected) in PICTURES.into_iter().filter(|(name, _)| name.ends_with(".mp4")) {
        for kind in [b"colr", b"pasp"] {
            let has_box = bytes_of(name).windows(4).any(|four| four == kind);
            if !has_box || name.starts_with("vp9") {
                continue;
            }
            let video = facts(&without(name, kind)).unwrap().video.unwrap();
            assert_eq!(line(&video), expected, "{name} without {}", String::from_utf8_lossy(kind));
        }
    }
}

#[test]
fn without_a_parameter_set_the_entry_gives_the_size() {
    let video = facts(&without("hevc-2160p50-pq.mp4", b"hvcC")).unwrap().video.unwrap();
    assert_eq!(line(&video), "hvc1 3840x2160p sar 1:1 - 8 bit 9/16/9 limited PQ");
    let mut bytes = bytes_of("h264-1080p25.mp4");
    let at = bytes.windows(4).position(|four| four == b"avcC").unwrap();
    bytes[at + 9] &= 0xe0; // numOfSequenceParameterSets
    let video = facts(&bytes).unwrap().video.unwrap();
    assert_eq!(line(&video), "avc1.640028 1920x1080p sar 1:1 - 8 bit 1/1/1 limited SDR");
}

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(kind);
    out.extend_from_slice(body);
    out
}

/// An init segment of one video track with this sample entry.
fn movie(entry: &[u8; 4], inner: &[Vec<u8>]) -> Vec<u8> {
    let mut visual = vec![0; 78];
    visual[24..28].copy_from_slice(&[0x0f, 0x00, 0x08, 0x70]);
    visual.extend(inner.concat());
    let table = boxed(b"stbl", &boxed(b"stsd", &[&[0; 8][..], &boxed(entry, &visual)].concat()));
    let handler = boxed(b"hdlr", &[&[0; 8][..], b"vide", &[0; 13]].concat());
    let media = boxed(b"mdia", &[handler, boxed(b"minf", &table)].concat());
    boxed(b"moov", &boxed(b"trak", &media))
}

/// `hvcC` of a vector, as a box.
fn hevc_configuration() -> Vec<u8> {
    let bytes = bytes_of("hevc-2160p50-pq.mp4");
    let at = bytes.windows(4).position(|four| four == b"hvcC").unwrap();
    let length = u32::from_be_bytes(*bytes[at - 4..].first_chunk().unwrap());
    bytes[at - 4..at - 4 + length as usize].to_vec()
}

#[test]
fn dolby_vision_has_names_of_its_own_where_nothing_else_plays_it() {
    // Profile 5, level 6, with RPU and base layer
    let record = [&[1, 0, 0x0a, 0x35, 0][..], &[0; 19]].concat();
    let video =
        facts(&movie(b"dvh1", &[hevc_configuration(), boxed(b"dvcC", &record)])).unwrap().video.unwrap();
    assert_eq!((video.codec.as_str(), video.dolby_vision), ("dvh1.05.06", Some(5)));
    // Profile 8, level 6, over HDR10
    let record = [&[1, 0, 0x10, 0x35, 0x10][..], &[0; 19]].concat();
    let video =
        facts(&movie(b"hvc1", &[hevc_configuration(), boxed(b"dvvC", &record)])).unwrap().video.unwrap();
    assert_eq!((video.codec.as_str(), video.dolby_vision), ("hvc1.2.4.L153.90", Some(8)));
}

#[test]
fn boxes_win_over_parameter_sets_and_hlg_with_mastering_metadata_is_no_hdr10() {
    let hlg = boxed(b"colr", b"nclx\0\x09\0\x12\0\x09\0");
    let wide = boxed(b"pasp", &[0, 0, 0, 4, 0, 0, 0, 3]);
    let mastering = boxed(b"mdcv", &[0; 24]);
    let video = facts(&movie(b"hvc1", &[hevc_configuration(), hlg, wide, mastering])).unwrap().video.unwrap();
    assert_eq!(line(&video), "hvc1.2.4.L153.90 3840x2160p sar 4:3 50/1 10 bit 9/18/9 limited HLG");
}

#[test]
fn a_codec_that_is_not_known_keeps_its_name_and_size() {
    let video = facts(&movie(b"vvc1", &[])).unwrap().video.unwrap();
    assert_eq!((video.codec.as_str(), video.width, video.height), ("vvc1", 3840, 2160));
}

#[test]
fn the_description_is_found_behind_the_media() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("late.mp4");
    let mut head = boxed(b"ftyp", b"isom\0\0\0\0");
    let length = 6_u64 << 20;
    head.extend([0, 0, 0, 1, b'm', b'd', b'a', b't']);
    head.extend(length.to_be_bytes());
    head.resize(16 + length as usize, 0);
    head.extend(bytes_of("h264-1080p25.mp4"));
    std::fs::write(&file, head).unwrap();
    assert_eq!(line(&read(&file).unwrap().video.unwrap()), PICTURES[0].1);
}

#[test]
fn media_are_read_up_to_a_bound() {
    let (dir, init) = (tempfile::tempdir().unwrap(), bytes_of("h264-1080p25.mp4"));
    let file = dir.path().join("x.mp4");
    // The `moov` behind `leading` boxes, of which one is too long to be read.
    let behind = |leading: usize| {
        let mut bytes = [0, 0, 0, 1, b'm', b'd', b'a', b't'].to_vec();
        bytes.extend(MAX_READ_BYTES.to_be_bytes());
        bytes.resize(MAX_READ_BYTES as usize, 0);
        bytes.extend(boxed(b"free", b"").repeat(leading - 1));
        bytes.extend(boxed(b"moov", boxes::find(&init, b"moov").unwrap()));
        std::fs::write(&file, bytes).unwrap();
        read(&file).map(|facts| facts.video.is_some())
    };
    assert!(behind(MAX_LEADING_BOXES - 1).unwrap());
    assert!(behind(MAX_LEADING_BOXES).is_err());
    // The programme behind `packets` packets without one.
    let after = |packets: usize| {
        let mut bytes = carousel::ts::null_packet().repeat(packets);
        bytes.extend(bytes_of("h264-720p50-aac.ts"));
        std::fs::write(&file, bytes).unwrap();
        read(&file)
    };
    assert!(after(1000).is_ok());
    assert!(matches!(after(MAX_READ_BYTES as usize / 188 + 1), Err(Unreadable::NoProgram)));
    let tracks = |others: usize| {
        let all = boxed(b"trak", b"").repeat(others);
        let movie = boxed(b"moov", &[&all, boxes::find(&init, b"moov").unwrap()].concat());
        mp4::read(&movie).unwrap().video.is_some()
    };
    assert!(tracks(mp4::MAX_TRACKS - 1) && !tracks(mp4::MAX_TRACKS));
}

#[test]
fn what_says_nothing_says_why() {
    let cmaf = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/media/cmaf"));
    assert!(matches!(read(&cmaf.join("0-001.m4s")), Err(Unreadable::NoInit)));
    assert!(matches!(read(&cmaf.join("manifest.mpd")), Err(Unreadable::Unknown)));
    assert!(matches!(read(&cmaf.join("none")), Err(Unreadable::Io(_))));
    assert!(matches!(facts(&carousel::ts::null_packet().repeat(9)), Err(Unreadable::NoProgram)));
    assert!(matches!(facts(&[]), Err(Unreadable::Unknown)));
}

#[test]
fn scrambled_packets_are_protected_and_say_nothing_else() {
    let mut bytes = bytes_of("h264-720p50-aac.ts");
    for packet in bytes.chunks_exact_mut(188).filter(|packet| packet[1] & 0x1f == 1 && packet[2] < 2) {
        packet[3] |= 0x80;
    }
    let facts = facts(&bytes).unwrap();
    assert!(facts.is_protected && facts.video.is_none(), "{facts:?}");
}

#[test]
fn rungs_of_a_package_by_their_init_segments() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/media/cmaf"));
    let inventory = crate::package::read(&root, &Options::default()).unwrap();
    let mut rungs = inventory.presentations.iter().flat_map(|it| &it.rungs);
    let best = rungs.clone().find(|rung| rung.resolution == Some((640, 360))).unwrap();
    let video = facts_of(&inventory, best).unwrap().video.unwrap();
    assert_eq!((video.width, video.height, video.display_aspect()), (640, 360, (16, 9)));
    assert_eq!((video.dynamic(), video.definition()), (Dynamic::Sdr, Definition::Sd));
    for rung in rungs.clone().filter(|rung| rung.kind == TrackKind::Video) {
        let video = facts_of(&inventory, rung).unwrap().video.unwrap();
        assert_eq!(Some((video.width, video.height)), rung.resolution);
        assert!(
            rung.codecs.split(',').any(|codec| codec.eq_ignore_ascii_case(&video.codec)),
            "{}",
            rung.codecs
        );
    }
    let sound = rungs.find(|rung| rung.kind == TrackKind::Audio).unwrap();
    assert_eq!(facts_of(&inventory, sound).unwrap().audio[0].codec, "mp4a.40.2");
}

fn every_vector() -> Vec<Vec<u8>> {
    let mut names: Vec<_> =
        std::fs::read_dir(vectors()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it != "md"))
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_change_of_a_vector_panics(which in any::<prop::sample::Index>(),
                                    changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
                                    end in any::<prop::sample::Index>(), is_cut in any::<bool>()) {
        let all = every_vector();
        let mut bytes = which.get(&all).clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if is_cut {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(Facts { video: Some(video), .. }) = facts(&bytes) {
            let _ = (video.display_aspect(), video.definition(), video.dynamic());
        }
    }

    #[test]
    fn no_parameter_set_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = avc::streamed(&[&[0, 0, 1, 0x67][..], &bytes].concat());
        let _ = avc::configured("avc1", &bytes);
        let _ = hevc::streamed(&[&[0, 0, 1, 0x42, 1, 1][..], &bytes].concat());
        let _ = hevc::configured("hvc1", &bytes);
        let _ = av1::configured("av01", &[&[0x81, 0, 0, 0, 0x0a, 60][..], &bytes].concat());
        let _ = (audio::adts(&bytes), audio::mpeg_audio(&bytes), audio::ac3(&bytes));
        let _ = audio::elementary_stream(&mut Audio::new("mp4a"), &bytes);
        let _ = audio::eac3_box(&mut Audio::new("ec-3"), &bytes);
        let _ = facts(&bytes);
    }
}
