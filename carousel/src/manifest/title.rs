//! Title of a film in its own metadata: of a playlist, an MPD, or an initialization segment.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::{Format, attribute, kind_of};
use crate::limits;

limits! {
    /// Characters of a title in the metadata of a film.
    const MAX_TITLE_CHARS: usize = 200, "characters" {
        why: "A page shows one line of it.",
        full: "The rest of the title is left out.",
        free: "Holds for one title.",
        test: "titles_are_those_of_the_metadata",
    }
}

/// Text of `EXT-X-SESSION-DATA` with `com.apple.hls.title`, or of `ProgramInformation/Title`.
pub fn title_of_manifest(bytes: &[u8]) -> Option<String> {
    match kind_of(bytes)? {
        Format::Hls(text) => {
            let mut data = text.lines().filter_map(|line| line.strip_prefix("#EXT-X-SESSION-DATA:"));
            let of = data.find(|it| attribute(it, "DATA-ID") == Some("com.apple.hls.title"))?;
            presentable(attribute(of, "VALUE")?)
        }
        Format::Dash(text) => title_of_mpd(&text),
        Format::Steering(_) => None,
    }
}

/// URI of the first `EXT-X-MAP` of a playlist: the initialization segment, which may have a title.
pub fn map_of_playlist(bytes: &[u8]) -> Option<String> {
    let Format::Hls(text) = kind_of(bytes)? else { return None };
    let map = text.lines().find_map(|line| line.strip_prefix("#EXT-X-MAP:"))?;
    attribute(map, "URI").filter(|it| !it.is_empty()).map(str::to_owned)
}

fn title_of_mpd(text: &str) -> Option<String> {
    let mut reader = Reader::from_str(text);
    // Depth of the open elements, and of the program information.
    let (mut depth, mut information, mut title) = (0_usize, None, String::new());
    loop {
        match reader.read_event().ok()? {
            // Program information is before the periods (ISO/IEC 23009-1 clause 5.3.1.3).
            Event::Start(it) if it.local_name().as_ref() == "Period" => return None,
            Event::Start(it) => {
                depth += 1;
                if it.local_name().as_ref() == "ProgramInformation" {
                    information = Some(depth);
                }
            }
            Event::End(it) => {
                depth = depth.checked_sub(1)?;
                if it.local_name().as_ref() == "Title" && information == Some(depth) {
                    return presentable(&title);
                }
                information = information.filter(|it| *it <= depth);
                title.clear();
            }
            Event::Text(it) => title.push_str(&it.xml10_content()),
            Event::CData(it) => title.push_str(&it.xml10_content()),
            Event::GeneralRef(it) => match it.resolve_char_ref() {
                Ok(Some(c)) => title.push(c),
                Ok(None) => title.push_str(resolve_predefined_entity(&it)?),
                Err(_) => return None,
            },
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// Text of `©nam` in the user data of a movie (QuickTime File Format, "Metadata"), as MP4 files have it.
pub fn title_of_init_segment(bytes: &[u8]) -> Option<String> {
    let data = child(child(bytes, b"moov")?, b"udta")?;
    let meta = child(data, b"meta")?;
    // In QuickTime files it is not a full box, and its first child begins at once.
    let meta = if meta.get(4..8) == Some(b"hdlr") { meta } else { meta.get(4..)? };
    let value = child(child(child(meta, b"ilst")?, b"\xa9nam")?, b"data")?;
    // Type 1 is UTF-8, before a locale.
    let (kind, text) = value.split_first_chunk::<8>()?;
    (kind[..4] == [0, 0, 0, 1]).then(|| std::str::from_utf8(text).ok()).flatten().and_then(presentable)
}

/// Content of the first box of a kind (ISO/IEC 14496-12 clause 4.2).
fn child<'a>(mut bytes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    loop {
        let (head, _) = bytes.split_first_chunk::<8>()?;
        let (size, kind) = head.split_at(4);
        let size = usize::try_from(u32::from_be_bytes(size.try_into().ok()?)).ok()?;
        let content = bytes.get(8..size)?;
        if kind == wanted {
            return Some(content);
        }
        bytes = &bytes[size..];
    }
}

/// A title without control characters and blanks around it, of bounded length; `None` if nothing is left.
fn presentable(title: &str) -> Option<String> {
    let words = title.split(|it: char| it.is_whitespace() || it.is_control()).filter(|it| !it.is_empty());
    let title = words.collect::<Vec<_>>().join(" ");
    let title: String = title.chars().take(MAX_TITLE_CHARS).collect();
    (!title.is_empty()).then_some(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        title_of_manifest(text.as_bytes())
    }

    fn mp4_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(8 + content.len()).unwrap();
        [&size.to_be_bytes()[..], kind, content].concat()
    }

    /// An init segment with a title, as FFmpeg writes it.
    fn init(title: &str) -> Vec<u8> {
        let data = mp4_box(b"data", &[&[0, 0, 0, 1, 0, 0, 0, 0], title.as_bytes()].concat());
        let list = mp4_box(b"ilst", &mp4_box(b"\xa9nam", &data));
        let handler = mp4_box(b"hdlr", &[0; 25]);
        let meta = mp4_box(b"meta", &[&[0; 4][..], &handler, &list].concat());
        let movie = mp4_box(b"moov", &[mp4_box(b"mvhd", &[0; 100]), mp4_box(b"udta", &meta)].concat());
        [mp4_box(b"ftyp", b"iso5\0\0\0\0"), movie].concat()
    }

    #[test]
    fn titles_are_those_of_the_metadata() {
        let mpd = "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"><ProgramInformation>\n<Source>S</Source>\
                   <Title> Tom &amp; Jerry&#x2019;s\n day </Title></ProgramInformation><Period/></MPD>";
        assert_eq!(of(mpd).as_deref(), Some("Tom & Jerry’s day"));
        let other = "<MPD><Period><EventStream><Event><Title>No</Title></Event></EventStream></Period></MPD>";
        assert_eq!(of(other), None, "a title of something else");
        assert_eq!(of("<MPD><ProgramInformation><Title> \u{1} </Title></ProgramInformation></MPD>"), None);
        let master = "#EXTM3U\n#EXT-X-SESSION-DATA:DATA-ID=\"com.example.x\",VALUE=\"no\"\n\
                      #EXT-X-SESSION-DATA:DATA-ID=\"com.apple.hls.title\",VALUE=\"A, b\",LANGUAGE=\"en\"\nv.m3u8\n";
        assert_eq!(of(master).as_deref(), Some("A, b"));
        assert_eq!(of("#EXTM3U\n#EXTINF:4,A song\n1.m4s\n"), None);
        let long =
            format!("<MPD><ProgramInformation><Title>{}</Title></ProgramInformation></MPD>", "ä".repeat(300));
        assert_eq!(of(&long).map(|it| it.chars().count()), Some(MAX_TITLE_CHARS));
    }

    #[test]
    fn titles_of_init_segments_are_read_and_broken_ones_have_none() {
        let whole = init("Das Boot");
        assert_eq!(title_of_init_segment(&whole).as_deref(), Some("Das Boot"));
        for cut in 0..whole.len() {
            assert_eq!(title_of_init_segment(&whole[..cut]), None, "{cut}");
        }
        for at in 0..whole.len() {
            let mut altered = whole.clone();
            altered[at] ^= 0xff;
            let _ = title_of_init_segment(&altered);
        }
        let playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"v/init.mp4\",BYTERANGE=\"9@0\"\n#EXTINF:4,\n1.m4s\n";
        assert_eq!(map_of_playlist(playlist).as_deref(), Some("v/init.mp4"));
        assert_eq!(map_of_playlist(b"#EXTM3U\n#EXTINF:4,\n1.ts\n"), None);
    }
}
