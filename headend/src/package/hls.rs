//! HLS playlists (RFC 8216, draft-pantos-hls-rfc8216bis): what they refer to. Lenient: unknown tags are passed over,
//! attributes may come in any order; only what makes the list unusable is an error.

use std::collections::HashMap;

use super::{Role, TrackKind};

/// Lines read; two for each of a million segments.
const MAX_LINES: usize = 4_000_000;

/// A parsed playlist.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Playlist {
    Multivariant(Multivariant),
    Media(Media),
}

/// A multivariant playlist.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Multivariant {
    /// Variants, renditions and I-frame playlists.
    pub(super) offers: Vec<Offer>,
    /// Session keys and session data: line and URI.
    pub(super) others: Vec<(usize, String)>,
}

/// One media playlist as a multivariant one offers it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Offer {
    pub(super) line: usize,
    pub(super) uri: String,
    pub(super) kind: Option<TrackKind>,
    pub(super) bandwidth_bps: u64,
    pub(super) codecs: String,
    pub(super) resolution: Option<(u32, u32)>,
    pub(super) language: String,
}

/// A media playlist.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Media {
    pub(super) references: Vec<Reference>,
    pub(super) duration_s: f64,
    /// EXT-X-ENDLIST, or PLAYLIST-TYPE:VOD.
    pub(super) ended: bool,
}

/// Something that a media playlist refers to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reference {
    pub(super) line: usize,
    pub(super) uri: String,
    pub(super) role: Role,
    /// Preload hints and gaps promise nothing.
    pub(super) may_be_missing: bool,
}

/// Reads a playlist.
pub(super) fn parse(text: &str) -> Result<Playlist, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text.lines().map(str::trim).enumerate().map(|(at, line)| (at + 1, line));
    match lines.by_ref().find(|(_, line)| !line.is_empty()) {
        Some((_, line)) if line.starts_with("#EXTM3U") => {}
        Some(_) => return Err("line 1 is not #EXTM3U".to_owned()),
        None => return Err("the playlist is empty".to_owned()),
    }
    let mut reading = Reading::default();
    for (number, line) in lines {
        if number > MAX_LINES {
            return Err(format!("more than {MAX_LINES} lines"));
        }
        reading.line(number, line)?;
    }
    reading.finish()
}

#[derive(Default)]
struct Reading {
    variables: HashMap<String, String>,
    multivariant: Multivariant,
    media: Media,
    is_multivariant: bool,
    is_media: bool,
    variant: Option<Offer>,
    segment_s: Option<f64>,
    gap: bool,
}

impl Reading {
    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        if !line.starts_with('#') {
            return self.uri(number, line);
        }
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXT-X-STREAM-INF" => {
                self.is_multivariant = true;
                self.variant = Some(self.offer(number, value));
            }
            "#EXT-X-I-FRAME-STREAM-INF" | "#EXT-X-MEDIA" | "#EXT-X-IMAGE-STREAM-INF" => {
                self.is_multivariant = true;
                let mut offer = self.offer(number, value);
                offer.kind = Some(match (tag, attribute(value, "TYPE").as_deref()) {
                    ("#EXT-X-I-FRAME-STREAM-INF", _) => TrackKind::IFrames,
                    (_, Some("AUDIO")) => TrackKind::Audio,
                    (_, Some("VIDEO")) => TrackKind::Video,
                    (_, Some("SUBTITLES")) => TrackKind::Subtitles,
                    _ => TrackKind::Other,
                });
                if let Some(uri) = attribute(value, "URI") {
                    offer.uri = self.expand(&uri);
                    self.multivariant.offers.push(offer);
                }
            }
            "#EXT-X-SESSION-KEY" | "#EXT-X-SESSION-DATA" | "#EXT-X-CONTENT-STEERING" => {
                self.is_multivariant = true;
                if let Some(uri) = attribute(value, "URI") {
                    let uri = self.expand(&uri);
                    self.multivariant.others.push((number, uri));
                }
            }
            "#EXT-X-DEFINE" => {
                if let (Some(name), Some(value)) = (attribute(value, "NAME"), attribute(value, "VALUE")) {
                    self.variables.insert(name, value);
                }
            }
            "#EXTINF" => {
                self.is_media = true;
                let seconds = value.split(',').next().unwrap_or_default().trim();
                let seconds = seconds.parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0);
                self.segment_s =
                    Some(seconds.ok_or_else(|| format!("line {number}: {line:?} has no duration"))?);
            }
            "#EXT-X-TARGETDURATION" | "#EXT-X-MEDIA-SEQUENCE" => self.is_media = true,
            "#EXT-X-ENDLIST" => {
                self.is_media = true;
                self.media.ended = true;
            }
            "#EXT-X-PLAYLIST-TYPE" => self.media.ended |= value.trim() == "VOD",
            "#EXT-X-GAP" => self.gap = true,
            "#EXT-X-MAP" => self.refer(number, value, Role::Init, false),
            "#EXT-X-KEY" => self.refer(number, value, Role::Key, false),
            "#EXT-X-PART" => self.refer(number, value, Role::Segment, false),
            "#EXT-X-PRELOAD-HINT" => self.refer(number, value, Role::Segment, true),
            _ => {}
        }
        Ok(())
    }

    fn uri(&mut self, number: usize, line: &str) -> Result<(), String> {
        let uri = self.expand(line);
        if let Some(mut offer) = self.variant.take() {
            offer.uri = uri;
            self.multivariant.offers.push(offer);
        } else if let Some(seconds) = self.segment_s.take() {
            self.media.duration_s += seconds;
            let may_be_missing = std::mem::take(&mut self.gap);
            self.media.references.push(Reference { line: number, uri, role: Role::Segment, may_be_missing });
        } else {
            return Err(format!("line {number}: {line:?} follows neither #EXTINF nor #EXT-X-STREAM-INF"));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Playlist, String> {
        if self.is_multivariant && self.is_media {
            return Err("tags of multivariant and of media playlists are mixed".to_owned());
        }
        if self.variant.is_some() || self.segment_s.is_some() {
            return Err("the playlist ends where a URI should follow: it is cut off, or still being written"
                .to_owned());
        }
        if self.is_multivariant {
            for offer in &mut self.multivariant.offers {
                if offer.kind.is_none() {
                    // Variants whose codecs are all of audio are audio.
                    let audio = ["mp4a", "ac-3", "ec-3", "opus", "flac", "fLaC"];
                    let only_audio = !offer.codecs.is_empty()
                        && offer.resolution.is_none()
                        && offer
                            .codecs
                            .split(',')
                            .all(|codec| audio.iter().any(|name| codec.trim().starts_with(name)));
                    offer.kind = Some(if only_audio { TrackKind::Audio } else { TrackKind::Video });
                }
            }
            return Ok(Playlist::Multivariant(self.multivariant));
        }
        if !self.is_media {
            return Err("neither segments nor variants".to_owned());
        }
        Ok(Playlist::Media(self.media))
    }

    fn refer(&mut self, number: usize, value: &str, role: Role, may_be_missing: bool) {
        self.is_media = true;
        if let Some(uri) = attribute(value, "URI") {
            let uri = self.expand(&uri);
            self.media.references.push(Reference { line: number, uri, role, may_be_missing });
        }
    }

    fn offer(&self, line: usize, value: &str) -> Offer {
        let text = |name| attribute(value, name).unwrap_or_default();
        let size = |text: String| {
            let (width, height) = text.split_once('x')?;
            Some((width.parse().ok()?, height.parse().ok()?))
        };
        Offer {
            line,
            uri: String::new(),
            kind: None,
            bandwidth_bps: text("BANDWIDTH").parse().unwrap_or(0),
            codecs: text("CODECS"),
            resolution: size(text("RESOLUTION")),
            language: text("LANGUAGE"),
        }
    }

    /// Replaces `{$name}` (EXT-X-DEFINE).
    fn expand(&self, text: &str) -> String {
        if self.variables.is_empty() || !text.contains("{$") {
            return text.to_owned();
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{$") {
            out.push_str(before);
            let Some((name, tail)) = after.split_once('}') else {
                rest = after;
                break;
            };
            out.push_str(self.variables.get(name).map_or("", String::as_str));
            rest = tail;
        }
        out.push_str(rest);
        out
    }
}

/// The value of `name` in an attribute list (RFC 8216 section 4.2); quotes are taken off.
fn attribute(list: &str, name: &str) -> Option<String> {
    let mut rest = list;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, tail) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, tail) = quoted.split_once('"').unwrap_or((quoted, ""));
                (value, tail.trim_start_matches([' ', ',']))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim().trim_start_matches(',') == name {
            return Some(value.trim().to_owned());
        }
        rest = tail;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_with_commas_in_quotes() {
        let list = r#"BANDWIDTH=100,CODECS="avc1.64001e,mp4a.40.2",RESOLUTION=640x360,NAME="a=b""#;
        assert_eq!(attribute(list, "CODECS").unwrap(), "avc1.64001e,mp4a.40.2");
        assert_eq!(attribute(list, "RESOLUTION").unwrap(), "640x360");
        assert_eq!(attribute(list, "NAME").unwrap(), "a=b");
        assert_eq!(attribute(list, "WIDTH"), None);
    }

    #[test]
    fn a_media_playlist_with_everything() {
        let text = "\u{feff}#EXTM3U\r\n#EXT-X-VERSION:7\r\n#EXT-X-DEFINE:NAME=\"t\",VALUE=\"tok\"\r\n#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"700@0\"\r\n\
            #EXT-X-KEY:METHOD=AES-128,URI=\"k.key\"\r\n#EXTINF:2.0,title, with comma\r\n#EXT-X-BYTERANGE:100@700\r\n{$t}/a.m4s\r\n# comment\r\n\
            #EXTINF:1.5,\r\nb.m4s\r\n#EXT-X-GAP\r\n#EXTINF:2,\r\ngone.m4s\r\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"next.m4s\"\r\n#EXT-X-ENDLIST\r\n";
        let Ok(Playlist::Media(media)) = parse(text) else { panic!("media") };
        let uris: Vec<_> =
            media.references.iter().map(|r| (r.uri.as_str(), r.role, r.may_be_missing)).collect();
        assert_eq!(
            uris,
            [
                ("init.mp4", Role::Init, false),
                ("k.key", Role::Key, false),
                ("tok/a.m4s", Role::Segment, false),
                ("b.m4s", Role::Segment, false),
                ("gone.m4s", Role::Segment, true),
                ("next.m4s", Role::Segment, true)
            ]
        );
        assert!(media.ended && (media.duration_s - 5.5).abs() < 1e-9);
    }

    #[test]
    fn what_is_cut_off_or_no_playlist_is_an_error() {
        for bad in [
            "",
            "#EXTINF:2,\na.ts",
            "#EXTM3U\n#EXTINF:2,\n",
            "#EXTM3U\na.ts",
            "#EXTM3U\n",
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n",
            "#EXTM3U\n#EXTINF:x,\na.ts",
            "#EXTM3U\n#EXTINF:1,\na.ts\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb.m3u8",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_oracle_reads_the_same_uris() {
        let text = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"English\",LANGUAGE=\"en\",URI=\"audio.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1280000,CODECS=\"avc1.4d401f,mp4a.40.2\",RESOLUTION=1280x720,AUDIO=\"a\"\nv1.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=65000,CODECS=\"mp4a.40.5\"\nv2.m3u8\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=86000,URI=\"i.m3u8\"\n";
        let Ok(Playlist::Multivariant(ours)) = parse(text) else { panic!("multivariant") };
        let theirs = m3u8_rs::parse_master_playlist_res(text.as_bytes()).unwrap();
        let mut expected: Vec<String> = theirs
            .variants
            .iter()
            .map(|v| v.uri.clone())
            .chain(theirs.alternatives.iter().filter_map(|a| a.uri.clone()))
            .collect();
        let mut got: Vec<String> = ours.offers.iter().map(|offer| offer.uri.clone()).collect();
        expected.sort();
        got.sort();
        assert_eq!(got, expected);
        let kinds: Vec<_> = ours.offers.iter().map(|offer| offer.kind.unwrap()).collect();
        assert_eq!(kinds, [TrackKind::Audio, TrackKind::Video, TrackKind::Audio, TrackKind::IFrames]);
        assert_eq!(ours.offers[1].resolution, Some((1280, 720)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(#EXTM3U\n)?([ -~\n]{0,200}|(#EXT(INF|-X-MAP|-X-KEY|-X-STREAM-INF):[ -~]{0,30}\n){0,8})") {
            let _ = parse(&text);
        }
    }
}
