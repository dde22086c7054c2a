//! Parser of HLS playlists (RFC 8216, draft-pantos-hls-rfc8216bis) for their references. Lenient: unknown tags are skipped,
//! attributes may be in any order; only faults that make the playlist unusable for players are errors.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;

use super::manifest_error::{LineError, PlaylistError};
use super::{Role, TrackKind, media};

carousel::limits! {
    /// Lines of a playlist.
    pub(super) const MAX_LINES: usize = 4_000_000, "lines" {
        why: "Two for each of a million segments, and as many others.",
        full: "The playlist is an error.",
        free: "Holds for one playlist.",
        test: "a_playlist_has_a_bounded_number_of_lines",
    }
}

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
    /// EXT-X-DEFINE: variables that media playlists may import.
    pub(super) variables: HashMap<String, String>,
}

/// External sources of a playlist's variables (rfc8216bis section 4.4.2.3).
#[derive(Debug, Clone, Copy)]
pub(super) struct ParseContext<'a> {
    /// The multivariant playlist's variables, for IMPORT. `None`: no multivariant playlist refers to it.
    pub(super) imports: Option<&'a HashMap<String, String>>,
    /// The query of the playlist's own URI, for QUERYPARAM.
    pub(super) query: &'a str,
    /// No playlist refers to it: players may open it with an unknown query.
    pub(super) has_any_query: bool,
}

impl ParseContext<'_> {
    /// No context.
    pub(super) const NONE: Self = Self { imports: None, query: "", has_any_query: false };
}

/// A media playlist in a multivariant one.
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
    /// Playlists of interstitials (X-ASSET-URI) and their lists (X-ASSET-LIST): line and URI.
    pub(super) assets: Vec<Asset>,
    pub(super) duration_s: f64,
    /// EXT-X-TARGETDURATION.
    pub(super) target_s: f64,
    /// Media sequence number after that of the last segment.
    pub(super) end_sequence: u64,
    /// EXT-X-ENDLIST, or PLAYLIST-TYPE:VOD.
    pub(super) ended: bool,
    /// EXT-X-INDEPENDENT-SEGMENTS.
    pub(super) is_independent: bool,
}

/// Asset of an interstitial (rfc8216bis appendix D).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asset {
    pub(super) line: usize,
    pub(super) uri: String,
    /// A JSON list of playlists, not a playlist.
    pub(super) is_list: bool,
}

/// A reference of a media playlist.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reference {
    pub(super) line: usize,
    pub(super) uri: String,
    pub(super) role: Role,
    /// Optional: preload hints, gaps, and parts whose segment is available.
    pub(super) may_be_missing: bool,
    /// A part of a segment, which need not begin with a random access point.
    pub(super) is_part: bool,
    /// The complete file is encrypted (METHOD=AES-128).
    pub(super) is_encrypted: bool,
    /// EXT-X-MAP applies: the segment is of boxes.
    pub(super) has_map: bool,
    /// EXT-X-BYTERANGE: length and offset.
    pub(super) range: Option<(u64, u64)>,
}

/// Parses a playlist.
pub(super) fn parse(text: &str, around: ParseContext<'_>) -> Result<Playlist, PlaylistError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text.lines().map(str::trim).enumerate().map(|(at, line)| (at + 1, line));
    match lines.by_ref().find(|(_, line)| !line.is_empty()) {
        Some((_, line)) if line.starts_with("#EXTM3U") => {}
        Some(_) => return Err(PlaylistError::NotAPlaylist),
        None => return Err(PlaylistError::Empty),
    }
    let mut reading = Reading { around: Some(around), ..Reading::default() };
    for (number, line) in lines {
        if number > MAX_LINES {
            return Err(PlaylistError::TooLong);
        }
        reading.line(number, line)?;
    }
    reading.finish()
}

#[derive(Default)]
struct Reading<'a> {
    around: Option<ParseContext<'a>>,
    variables: HashMap<String, String>,
    multivariant: Multivariant,
    media: Media,
    is_multivariant: bool,
    is_media: bool,
    variant: Option<Offer>,
    segment_s: Option<f64>,
    gap: bool,
    is_encrypted: bool,
    has_map: bool,
    /// Default offset of the next byte range, by URI.
    range_end: HashMap<String, u64>,
    range: Option<(u64, Option<u64>)>,
}

impl Reading<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<(), PlaylistError> {
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
                self.variant = Some(self.offer(number, value)?);
            }
            "#EXT-X-I-FRAME-STREAM-INF" | "#EXT-X-MEDIA" | "#EXT-X-IMAGE-STREAM-INF" => {
                self.rendition(number, tag, value)?;
            }
            "#EXT-X-SESSION-KEY" | "#EXT-X-SESSION-DATA" => self.other(number, value, "URI")?,
            "#EXT-X-CONTENT-STEERING" => self.other(number, value, "SERVER-URI")?,
            "#EXT-X-DEFINE" => {
                let (name, value) = self.define(number, value)?;
                self.variables.insert(name, value);
            }
            "#EXTINF" => {
                self.is_media = true;
                let seconds = duration_s(value);
                self.segment_s =
                    Some(seconds.ok_or_else(|| LineError::Duration(line.to_owned()).at(number))?);
            }
            "#EXT-X-TARGETDURATION" => {
                self.is_media = true;
                self.media.target_s = value.trim().parse().unwrap_or(0.0);
            }
            "#EXT-X-MEDIA-SEQUENCE" => {
                self.is_media = true;
                self.media.end_sequence = value.trim().parse().unwrap_or(0);
            }
            "#EXT-X-ENDLIST" => {
                self.is_media = true;
                self.media.ended = true;
            }
            "#EXT-X-PLAYLIST-TYPE" => self.media.ended |= value.trim() == "VOD",
            "#EXT-X-INDEPENDENT-SEGMENTS" => self.media.is_independent = true,
            "#EXT-X-GAP" => self.gap = true,
            "#EXT-X-BYTERANGE" => self.range = byte_range(value),
            "#EXT-X-MAP" => {
                self.has_map = true;
                let range = attribute(value, "BYTERANGE").and_then(|it| byte_range(&it));
                self.refer(number, value, Role::Init, false, range)?;
            }
            "#EXT-X-KEY" => {
                self.is_encrypted = attribute(value, "METHOD").as_deref() == Some("AES-128");
                self.refer(number, value, Role::Key, false, None)?;
            }
            "#EXT-X-PART" => {
                let is_gap = attribute(value, "GAP").as_deref() == Some("YES");
                let range = attribute(value, "BYTERANGE").and_then(|it| byte_range(&it));
                self.part(number, value, is_gap, range)?;
            }
            "#EXT-X-PRELOAD-HINT" => self.part(number, value, true, None)?,
            "#EXT-X-DATERANGE" => self.assets(number, value)?,
            _ => {}
        }
        Ok(())
    }

    /// Adds a playlist of I-frames or images, or a rendition with its own playlist.
    fn rendition(&mut self, number: usize, tag: &str, value: &str) -> Result<(), PlaylistError> {
        self.is_multivariant = true;
        let mut offer = self.offer(number, value)?;
        offer.kind = Some(match (tag, attribute(value, "TYPE").as_deref()) {
            ("#EXT-X-I-FRAME-STREAM-INF", _) => TrackKind::IFrames,
            (_, Some("AUDIO")) => TrackKind::Audio,
            (_, Some("VIDEO")) => TrackKind::Video,
            (_, Some("SUBTITLES")) => TrackKind::Subtitles,
            _ => TrackKind::Other,
        });
        if let Some(uri) = attribute(value, "URI") {
            offer.uri = self.expand(number, &uri)?;
            self.multivariant.offers.push(offer);
        }
        Ok(())
    }

    /// Adds another reference of a multivariant playlist, by the attribute `name`.
    fn other(&mut self, number: usize, value: &str, name: &str) -> Result<(), PlaylistError> {
        self.is_multivariant = true;
        if let Some(uri) = attribute(value, name) {
            let uri = self.expand(number, &uri)?;
            self.multivariant.others.push((number, uri));
        }
        Ok(())
    }

    /// Assets of an interstitial.
    fn assets(&mut self, number: usize, value: &str) -> Result<(), PlaylistError> {
        for (name, is_list) in [("X-ASSET-URI", false), ("X-ASSET-LIST", true)] {
            if let Some(uri) = attribute(value, name) {
                let uri = self.expand(number, &uri)?;
                self.media.assets.push(Asset { line: number, uri, is_list });
            }
        }
        Ok(())
    }

    fn uri(&mut self, number: usize, line: &str) -> Result<(), PlaylistError> {
        let uri = self.expand(number, line)?;
        if let Some(mut offer) = self.variant.take() {
            offer.uri = uri;
            self.multivariant.offers.push(offer);
        } else if let Some(seconds) = self.segment_s.take() {
            self.media.duration_s += seconds;
            self.media.end_sequence = self.media.end_sequence.saturating_add(1);
            let may_be_missing = std::mem::take(&mut self.gap);
            // The parts of a complete segment may have been removed.
            let parts = self.media.references.iter_mut().rev().take_while(|it| it.is_part);
            parts.for_each(|part| part.may_be_missing = true);
            let range = self.range.take();
            self.push(number, uri, Role::Segment, may_be_missing, range);
        } else {
            return Err(LineError::StrayUri(line.to_owned()).at(number));
        }
        Ok(())
    }

    fn push(
        &mut self,
        line: usize,
        uri: String,
        role: Role,
        may_be_missing: bool,
        range: Option<(u64, Option<u64>)>,
    ) {
        let range = range.map(|(length, offset)| {
            let end = self.range_end.entry(uri.clone()).or_default();
            let offset = offset.unwrap_or(*end);
            *end = offset.saturating_add(length);
            (length, offset)
        });
        let (is_encrypted, has_map) = (self.is_encrypted && role != Role::Key, self.has_map);
        let reference =
            Reference { line, uri, role, may_be_missing, is_part: false, is_encrypted, has_map, range };
        self.media.references.push(reference);
    }

    /// One variable of EXT-X-DEFINE.
    fn define(&self, number: usize, list: &str) -> Result<(String, String), PlaylistError> {
        let around = self.around.unwrap_or(ParseContext::NONE);
        if let Some(name) = attribute(list, "NAME") {
            let value = attribute(list, "VALUE");
            return value
                .map(|value| (name.clone(), value))
                .ok_or_else(|| LineError::NoValue(name).at(number));
        }
        if let Some(name) = attribute(list, "IMPORT") {
            let Some(imports) = around.imports else {
                return Err(LineError::NoMultivariant(name).at(number));
            };
            return match imports.get(&name) {
                Some(value) => Ok((name, value.clone())),
                None => Err(LineError::NotDefined(name).at(number)),
            };
        }
        if let Some(name) = attribute(list, "QUERYPARAM") {
            let of = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let mut pairs = around.query.split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.find(|(key, _)| of(key) == name).map(|(_, value)| of(value));
            // Players may open the playlist with a query whose value is unknown here; use a placeholder.
            let value = value.or_else(|| around.has_any_query.then(|| "any".to_owned()));
            return match value.filter(|value| !value.is_empty()) {
                Some(value) => Ok((name, value)),
                None => Err(LineError::NoParameter(name).at(number)),
            };
        }
        Err(LineError::Define.at(number))
    }

    fn finish(mut self) -> Result<Playlist, PlaylistError> {
        if self.is_multivariant && self.is_media {
            return Err(PlaylistError::Mixed);
        }
        if self.variant.is_some() || self.segment_s.is_some() {
            return Err(PlaylistError::CutOff);
        }
        if self.is_multivariant {
            for offer in &mut self.multivariant.offers {
                if offer.kind.is_none() {
                    let only_audio = !offer.codecs.is_empty()
                        && offer.resolution.is_none()
                        && offer.codecs.split(',').all(media::is_audio);
                    offer.kind = Some(if only_audio { TrackKind::Audio } else { TrackKind::Video });
                }
            }
            self.multivariant.variables = self.variables;
            return Ok(Playlist::Multivariant(self.multivariant));
        }
        if !self.is_media {
            return Err(PlaylistError::NothingListed);
        }
        Ok(Playlist::Media(self.media))
    }

    fn refer(
        &mut self,
        number: usize,
        value: &str,
        role: Role,
        may_be_missing: bool,
        range: Option<(u64, Option<u64>)>,
    ) -> Result<(), PlaylistError> {
        self.is_media = true;
        if let Some(uri) = attribute(value, "URI") {
            let uri = self.expand(number, &uri)?;
            self.push(number, uri, role, may_be_missing, range);
        }
        Ok(())
    }

    /// Adds a partial segment, or a hint.
    fn part(
        &mut self,
        number: usize,
        value: &str,
        may_be_missing: bool,
        range: Option<(u64, Option<u64>)>,
    ) -> Result<(), PlaylistError> {
        self.refer(number, value, Role::Segment, may_be_missing, range)?;
        self.media.references.last_mut().into_iter().for_each(|it| it.is_part = true);
        Ok(())
    }

    fn offer(&self, line: usize, value: &str) -> Result<Offer, PlaylistError> {
        let value = &self.expand(line, value)?;
        let text = |name| attribute(value, name).unwrap_or_default();
        let size = |text: String| {
            let (width, height) = text.split_once('x')?;
            Some((width.parse().ok()?, height.parse().ok()?))
        };
        Ok(Offer {
            line,
            uri: String::new(),
            kind: None,
            bandwidth_bps: text("BANDWIDTH").parse().unwrap_or(0),
            codecs: text("CODECS"),
            resolution: size(text("RESOLUTION")),
            language: text("LANGUAGE"),
        })
    }

    /// Replaces `{$name}` (EXT-X-DEFINE). An undefined variable is an error (rfc8216bis section 4.3), as in players.
    fn expand(&self, number: usize, text: &str) -> Result<String, PlaylistError> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{$") {
            let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            match after.split_once('}') {
                Some((variable, tail)) if !variable.is_empty() && variable.chars().all(name) => {
                    let value = self.variables.get(variable);
                    out.push_str(before);
                    let no_value = || LineError::NoVariable(variable.to_owned()).at(number);
                    out.push_str(value.ok_or_else(no_value)?);
                    rest = tail;
                }
                _ => {
                    out.push_str(before);
                    out.push_str("{$");
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// `duration[,title]`.
fn duration_s(value: &str) -> Option<f64> {
    let seconds = value.split(',').next().unwrap_or_default().trim();
    seconds.parse::<f64>().ok().filter(|s| s.is_finite()).map(|s| s.max(0.0))
}

/// `length[@offset]`.
fn byte_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (length, offset) = match value.trim().split_once('@') {
        Some((length, offset)) => (length, Some(offset.trim().parse().ok()?)),
        None => (value, None),
    };
    Some((length.trim().parse().ok()?, offset))
}

fn attribute(list: &str, name: &str) -> Option<String> {
    carousel::manifest::attribute(list, name).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_media_sequence_number_is_the_last() {
        let text = format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{}\n#EXTINF:2,\na\n#EXTINF:2,\nb\n", u64::MAX);
        let Ok(Playlist::Media(media)) = parse(&text, ParseContext::NONE) else { panic!("a playlist") };
        assert_eq!((media.end_sequence, media.references.len()), (u64::MAX, 2));
    }

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
        let Ok(Playlist::Media(media)) = parse(text, ParseContext::NONE) else { panic!("media") };
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
            assert!(parse(bad, ParseContext::NONE).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn variables_come_from_the_master_the_query_and_the_list() {
        let text = "#EXTM3U\n#EXT-X-DEFINE:IMPORT=\"asset\"\n#EXT-X-DEFINE:QUERYPARAM=\"t\"\n#EXT-X-DEFINE:NAME=\"n\",VALUE=\"x y\"\n\
            #EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"{$asset}/i.mp4?t={$t}\"\n#EXTINF:2,\n{$n}{$1.m4s\n#EXT-X-ENDLIST\n";
        let imports = HashMap::from([("asset".to_owned(), "film-17".to_owned())]);
        let around = |query| ParseContext { imports: Some(&imports), query, has_any_query: false };
        let Ok(Playlist::Media(media)) = parse(text, around("a=b&t=k%20l")) else { panic!("media") };
        let uris: Vec<&str> = media.references.iter().map(|it| it.uri.as_str()).collect();
        assert_eq!(uris, ["film-17/i.mp4?t=k l", "x y{$1.m4s"]);
        assert!(parse(text, around("")).unwrap_err().to_string().contains("no query parameter t"));
        let without_asset = HashMap::new();
        let around = ParseContext { imports: Some(&without_asset), query: "t=1", has_any_query: false };
        assert!(parse(text, around).unwrap_err().to_string().contains("does not define the variable asset"));
        assert!(
            parse(text, ParseContext::NONE).unwrap_err().to_string().contains("no multivariant playlist")
        );
        let without_value = "#EXTM3U\n#EXTINF:2,\n{$v}.ts\n";
        assert!(
            parse(without_value, ParseContext::NONE)
                .unwrap_err()
                .to_string()
                .contains("variable v has no value")
        );
    }

    #[test]
    fn parts_ranges_and_interstitials() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n\
            #EXT-X-DATERANGE:ID=\"a\",X-ASSET-URI=\"ad/m.m3u8\",X-RESUME-OFFSET=0\n#EXT-X-DATERANGE:ID=\"b\",X-ASSET-LIST=\"l.json\"\n\
            #EXT-X-PART:DURATION=1,URI=\"p1\"\n#EXTINF:2,\n#EXT-X-BYTERANGE:10@5\nf.mp4\n#EXTINF:2,\n#EXT-X-BYTERANGE:20\nf.mp4\n\
            #EXT-X-PART:DURATION=1,URI=\"p3\"\n#EXT-X-PART:DURATION=1,URI=\"p4\",GAP=YES\n";
        let Ok(Playlist::Media(media)) = parse(text, ParseContext::NONE) else { panic!("media") };
        let all: Vec<_> =
            media.references.iter().map(|it| (it.uri.as_str(), it.may_be_missing, it.range)).collect();
        assert_eq!(
            all,
            [
                ("p1", true, None),
                ("f.mp4", false, Some((10, 5))),
                ("f.mp4", false, Some((20, 15))),
                ("p3", false, None),
                ("p4", true, None)
            ]
        );
        assert_eq!((media.end_sequence, media.assets.len(), media.assets[1].is_list), (9, 2, true));
    }

    #[test]
    fn the_oracle_reads_the_same_uris() {
        let text = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"English\",LANGUAGE=\"en\",URI=\"audio.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1280000,CODECS=\"avc1.4d401f,mp4a.40.2\",RESOLUTION=1280x720,AUDIO=\"a\"\nv1.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=65000,CODECS=\"mp4a.40.5\"\nv2.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=96000,CODECS=\"ac-4.02.01.00\"\nv3.m3u8\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=86000,URI=\"i.m3u8\"\n";
        let Ok(Playlist::Multivariant(ours)) = parse(text, ParseContext::NONE) else {
            panic!("multivariant")
        };
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
        assert_eq!(
            kinds,
            [TrackKind::Audio, TrackKind::Video, TrackKind::Audio, TrackKind::Audio, TrackKind::IFrames]
        );
        assert_eq!(ours.offers[1].resolution, Some((1280, 720)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(#EXTM3U\n)?([ -~\n]{0,200}|(#EXT(INF|-X-MAP|-X-KEY|-X-STREAM-INF):[ -~]{0,30}\n){0,8})") {
            let _ = parse(&text, ParseContext::NONE);
        }
    }

    #[test]
    fn a_playlist_has_a_bounded_number_of_lines() {
        let of = |lines: usize| {
            let rest = "\n".repeat(lines - 3);
            parse(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n{rest}#"), ParseContext::NONE)
        };
        assert!(of(MAX_LINES).is_ok());
        assert!(of(MAX_LINES + 1).unwrap_err().to_string().contains("lines"));
    }
}
