//! Tokens of manifests: lines of playlists, markup and text of XML, strings of JSON. Only URLs below a configured route are
//! changed.

use super::{Format, MAX_EXPANDED_BYTES, MAX_TOKEN_BYTES, MAX_VARIABLES};
use crate::http::own::TIME_PATH;
use crate::http::urls::UrlMap;

/// The tokens of a document, one after the other.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// XML: the element whose text follows. JSON: the key whose value follows.
    name: Vec<u8>,
    /// JSON: the previous string.
    last: Vec<u8>,
    /// HLS: variables of EXT-X-DEFINE that have been defined.
    variables: Vec<Variable>,
    /// XML: general entities that the document declares.
    entities: Vec<(String, String)>,
    /// XML: text of an element that is a reference, which ends with the next tag: text, sections and comments.
    pieces: Vec<Vec<u8>>,
    /// The next URL belongs to a pathway whose URLs are not mapped.
    stays: bool,
    /// Terminator of a token that is too long and is passed on unchanged.
    skipping: Option<&'static [u8]>,
}

/// A variable of a playlist.
#[derive(Debug)]
struct Variable {
    name: String,
    /// Its value as sent by the origin.
    value: String,
    /// Its value as sent to players, if it is mapped to the box.
    mapped: Option<String>,
}

impl Tokens {
    /// Moves complete tokens from `pending` to `out`, rewritten.
    pub(super) fn take(
        &mut self,
        format: Format,
        map: &UrlMap,
        pending: &mut Vec<u8>,
        out: &mut Vec<u8>,
        is_end: bool,
    ) {
        let mut at = 0;
        loop {
            let rest = &pending[at..];
            if rest.is_empty() {
                break;
            }
            if let Some(end) = self.skipping {
                let Some(found) = find(rest, end) else {
                    // The terminator may begin in the last bytes.
                    let keep = if is_end { 0 } else { end.len() - 1 };
                    let count = rest.len().saturating_sub(keep);
                    out.extend_from_slice(&rest[..count]);
                    at += count;
                    break;
                };
                // The terminator belongs to the next token if that begins with it.
                let is_start = end == b"<" || end == b"\n";
                let count = if is_start { found } else { found + end.len() };
                out.extend_from_slice(&rest[..count]);
                at += count;
                self.skipping = None;
                continue;
            }
            let (length, end) = match format {
                Format::Hls => (find(rest, b"\n").map(|at| at + 1), &b"\n"[..]),
                Format::Dash => xml_token(rest),
                Format::Json => json_token(rest),
            };
            match length {
                Some(length) => {
                    let token = &rest[..length];
                    match format {
                        Format::Hls => self.line(token, map, out),
                        Format::Dash => self.xml(token, map, out),
                        Format::Json => self.json(token, map, out),
                    }
                    at += length;
                }
                None if is_end => {
                    match format {
                        Format::Hls => self.line(rest, map, out),
                        _ => out.extend_from_slice(rest),
                    }
                    at = pending.len();
                }
                None if rest.len() > MAX_TOKEN_BYTES => {
                    self.end_text(map, out);
                    self.skipping = Some(end);
                }
                None => break,
            }
        }
        if is_end {
            self.end_text(map, out);
        }
        pending.drain(..at);
    }

    /// Rewrites one line of a playlist, including its end.
    fn line(&mut self, line: &[u8], map: &UrlMap, out: &mut Vec<u8>) {
        if line.starts_with(b"#EXT-X-STREAM-INF") {
            self.stays = attribute(line, b"PATHWAY-ID=").is_some_and(|it| map.leaves(it));
        }
        let is_of_pathway =
            line.starts_with(b"#EXT-X-MEDIA:") || line.starts_with(b"#EXT-X-I-FRAME-STREAM-INF");
        let is_left = is_of_pathway && attribute(line, b"PATHWAY-ID=").is_some_and(|it| map.leaves(it));
        let is_url = !line.starts_with(b"#") && !line.trim_ascii().is_empty();
        if is_left || (is_url && self.stays) {
            out.extend_from_slice(line);
        } else {
            let start = out.len();
            hls_line(line, map, &self.variables, out);
            if line.starts_with(b"#EXT-X-DEFINE:") && self.variables.len() < MAX_VARIABLES {
                self.variables.extend(Variable::defined(line, &out[start..]));
            }
        }
        self.stays &= !is_url;
    }

    /// Bytes of the variables.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        let of = |it: &Variable| it.name.len() + it.value.len() + it.mapped.as_ref().map_or(0, String::len);
        let of_entity = |(name, value): &(String, String)| name.len() + value.len();
        let pieces: usize = self.pieces.iter().map(Vec::len).sum();
        self.variables.iter().map(of).sum::<usize>()
            + self.entities.iter().map(of_entity).sum::<usize>()
            + pieces
    }

    fn xml(&mut self, token: &[u8], map: &UrlMap, out: &mut Vec<u8>) {
        let is_markup = token.starts_with(b"<") && !token.starts_with(CDATA) && !token.starts_with(b"<!--");
        if !is_markup && REFERENCES.contains(&self.name.as_slice()) {
            let held: usize = self.pieces.iter().map(Vec::len).sum();
            if held + token.len() <= MAX_TOKEN_BYTES {
                self.pieces.push(token.to_vec());
                return;
            }
        }
        self.end_text(map, out);
        self.xml_piece(token, map, out);
    }

    /// Maps the text of an element that is a reference.
    fn end_text(&mut self, map: &UrlMap, out: &mut Vec<u8>) {
        let pieces = std::mem::take(&mut self.pieces);
        let is_comment = |piece: &&Vec<u8>| piece.starts_with(b"<!--");
        let parts =
            pieces.iter().filter(|piece| !is_comment(piece) && !piece.trim_ascii().is_empty()).count();
        if parts > 1
            && let Some(text) = self.joined(&pieces)
            && let Some(mapped) = self.mapped(&text, map)
        {
            out.extend_from_slice(escaped(&mapped).as_bytes());
            pieces.iter().filter(is_comment).for_each(|comment| out.extend_from_slice(comment));
            return;
        }
        for piece in &pieces {
            // Part of a URL is none.
            if parts > 1 { out.extend_from_slice(piece) } else { self.xml_piece(piece, map, out) }
        }
    }

    /// The characters of text, sections and comments.
    fn joined(&self, pieces: &[Vec<u8>]) -> Option<String> {
        let mut all = String::new();
        for piece in pieces {
            let piece = std::str::from_utf8(piece).ok()?;
            if let Some(inner) = piece.strip_prefix("<![CDATA[").and_then(|it| it.strip_suffix("]]>")) {
                all.push_str(inner);
            } else if !piece.starts_with("<!--") {
                all.push_str(&unescaped(piece, &self.entities)?);
            }
        }
        let all = all.trim();
        (!all.is_empty() && all.len() <= MAX_EXPANDED_BYTES).then(|| all.to_owned())
    }

    fn xml_piece(&mut self, token: &[u8], map: &UrlMap, out: &mut Vec<u8>) {
        if let Some(inner) = token.strip_prefix(CDATA).and_then(|it| it.strip_suffix(b"]]>")) {
            match self.xml_text(inner, map, false) {
                Some(mapped) if !mapped.contains("]]>") => {
                    out.extend_from_slice(b"<![CDATA[");
                    replace_trimmed(inner, mapped.as_bytes(), out);
                    out.extend_from_slice(b"]]>");
                }
                _ => out.extend_from_slice(token),
            }
        } else if token.starts_with(b"<") {
            match token.get(1) {
                Some(b'!' | b'?') => {
                    self.declare(token);
                    out.extend_from_slice(token);
                }
                Some(b'/') => {
                    self.name.clear();
                    out.extend_from_slice(token);
                }
                _ => {
                    let end = token[1..]
                        .iter()
                        .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))
                        .map_or(token.len(), |at| at + 1);
                    let name = &token[1..end];
                    self.name.clear();
                    self.name.extend_from_slice(name.rsplit(|&byte| byte == b':').next().unwrap_or(name));
                    self.stays = attribute(token, b"serviceLocation=").is_some_and(|it| map.leaves(it));
                    xml_tag(token, map, is_timing(&self.name, token), &self.entities, out);
                }
            }
        } else {
            match self.xml_text(token, map, true) {
                Some(mapped) => replace_trimmed(token, escaped(&mapped).as_bytes(), out),
                None => out.extend_from_slice(token),
            }
        }
    }

    /// The mapped text of an element, if it is a URL below a configured route.
    fn xml_text(&self, text: &[u8], map: &UrlMap, has_references: bool) -> Option<String> {
        let text = std::str::from_utf8(text).ok()?.trim();
        if text.is_empty() || text.len() > 8192 {
            return None;
        }
        let text = if has_references { unescaped(text, &self.entities)? } else { text.to_owned() };
        self.mapped(&text, map)
    }

    /// As [`Tokens::xml_text`], for the characters of the text.
    fn mapped(&self, text: &str, map: &UrlMap) -> Option<String> {
        if self.stays {
            return None;
        }
        if let Some(steering) = map.steering().filter(|_| self.name == b"ContentSteering") {
            return Some(steering.to_owned());
        }
        if REFERENCES.contains(&self.name.as_slice()) || self.name == b"replace" {
            map.map_reference(text.trim())
        } else {
            map.map(text.trim())
        }
    }

    /// Remembers the general entities that a document type declares (XML 1.0 section 4.2), if their values are plain text.
    fn declare(&mut self, markup: &[u8]) {
        let mut rest = markup;
        while let Some(at) = find(rest, b"<!ENTITY") {
            rest = &rest[at + b"<!ENTITY".len()..];
            let declared = std::str::from_utf8(rest).ok().and_then(|text| {
                let (name, value) = text.trim_start().split_once(|c: char| c.is_ascii_whitespace())?;
                let value = value.trim_start();
                let quote = value.chars().next().filter(|it| matches!(it, '"' | '\''))?;
                let (value, _) = value[1..].split_once(quote)?;
                let is_plain = !value.contains(['&', '%', '<']) && value.len() <= MAX_EXPANDED_BYTES;
                is_plain.then(|| (name.to_owned(), value.to_owned()))
            });
            // The first of several declarations holds.
            let is_new = |name: &str| self.entities.iter().all(|(known, _)| known != name);
            if let Some((name, value)) = declared
                && self.entities.len() < MAX_VARIABLES
                && is_new(&name)
            {
                self.entities.push((name, value));
            }
        }
    }

    fn json(&mut self, token: &[u8], map: &UrlMap, out: &mut Vec<u8>) {
        if !token.starts_with(b"\"") {
            if token.contains(&b':') {
                self.name = std::mem::take(&mut self.last);
            }
            if token.iter().any(|byte| matches!(byte, b'{' | b'}' | b',')) {
                self.last.clear();
                if !token.contains(&b':') {
                    self.name.clear();
                }
            }
            out.extend_from_slice(token);
            return;
        }
        let text = serde_json::from_slice::<String>(token).unwrap_or_default();
        let is_reference = self.name.ends_with(b"URI") || self.name == b"X-ASSET-LIST";
        let mapped = if is_reference { map.map_reference(&text) } else { map.map(&text) };
        match mapped.and_then(|it| serde_json::to_vec(&it).ok()) {
            Some(mapped) => out.extend_from_slice(&mapped),
            None => out.extend_from_slice(token),
        }
        self.last = text.into_bytes();
    }
}

impl Variable {
    /// The variable that a tag defines, if it fits the limits of URLs; `sent`: the tag as sent to players.
    fn defined(tag: &[u8], sent: &[u8]) -> Option<Self> {
        let text = |tag, name| std::str::from_utf8(attribute(tag, name)?).ok();
        let (name, value) = (text(tag, b"NAME=")?, text(tag, b"VALUE=")?);
        let mapped = text(sent, b"VALUE=").filter(|it| *it != value);
        if name.len().max(value.len()).max(mapped.map_or(0, str::len)) > MAX_EXPANDED_BYTES {
            return None;
        }
        Some(Self { name: name.to_owned(), value: value.to_owned(), mapped: mapped.map(str::to_owned) })
    }
}

/// Elements whose text is a reference.
const REFERENCES: [&[u8]; 8] = [
    b"BaseURL",
    b"Location",
    b"PatchLocation",
    b"ContentSteering",
    b"Laurl",
    b"laurl",
    b"ImportedMPD",
    b"add",
];
/// Beginning of a section of text without markup.
const CDATA: &[u8] = b"<![CDATA[";

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|it| it == what)
}

/// Replaces `text` except for leading and trailing white space.
fn replace_trimmed(text: &[u8], by: &[u8], out: &mut Vec<u8>) {
    let start = text.len() - text.trim_ascii_start().len();
    out.extend_from_slice(&text[..start]);
    out.extend_from_slice(by);
    out.extend_from_slice(&text[text.trim_ascii_end().len().max(start)..]);
}

/// The length of the first token, if it is complete, and its terminator.
fn xml_token(rest: &[u8]) -> (Option<usize>, &'static [u8]) {
    let up_to = |end: &'static [u8]| (find(rest, end).map(|at| at + end.len()), end);
    if !rest.starts_with(b"<") {
        return (find(rest, b"<"), b"<");
    }
    if rest.starts_with(b"<!--") {
        return up_to(b"-->");
    }
    if rest.starts_with(CDATA) {
        return up_to(b"]]>");
    }
    if rest.starts_with(b"<?") {
        return up_to(b"?>");
    }
    // Too short to distinguish it from a tag.
    if rest.len() < CDATA.len() && (CDATA.starts_with(rest) || b"<!--".starts_with(rest)) {
        return (None, b">");
    }
    let mut quote = None;
    for (at, &byte) in rest.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return (Some(at + 1), b">"),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    (None, b">")
}

/// Whether a tag is a `UTCTiming` by HTTP (ISO/IEC 23009-1 clause 5.8.4.11): with `xs:dateTime`, ISO 8601, or the `Date` of a HEAD.
fn is_timing(name: &[u8], token: &[u8]) -> bool {
    const SCHEMES: [&[u8]; 3] =
        [b"urn:mpeg:dash:utc:http-xsdate:", b"urn:mpeg:dash:utc:http-iso:", b"urn:mpeg:dash:utc:http-head:"];
    name == b"UTCTiming" && SCHEMES.iter().any(|scheme| find(token, scheme).is_some())
}

/// Rewrites the attributes of a start tag. `is_timing`: URLs of the time at a route's origin become the box's.
fn xml_tag(token: &[u8], map: &UrlMap, is_timing: bool, entities: &[(String, String)], out: &mut Vec<u8>) {
    const REFERENCES: [&str; 10] = [
        "media",
        "initialization",
        "index",
        "bitstreamSwitching",
        "sourceURL",
        "href",
        "laurl",
        "licenseUrl",
        "Url",
        "proxyServerURL",
    ];
    let mut rest = token;
    while let Some(open) = rest.iter().position(|byte| matches!(byte, b'"' | b'\'')) {
        let Some(length) = rest[open + 1..].iter().position(|&byte| byte == rest[open]) else { break };
        let (before, value) = (&rest[..=open], &rest[open + 1..open + 1 + length]);
        out.extend_from_slice(before);
        let name = before[..before.len() - 1].trim_ascii_end();
        let name = name.strip_suffix(b"=").unwrap_or(name).trim_ascii_end();
        let name = name.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
        let name = std::str::from_utf8(name).unwrap_or_default();
        let local = name.rsplit(':').next().unwrap_or_default();
        let text = if name.starts_with("xmlns") { None } else { std::str::from_utf8(value).ok() };
        let text = text.filter(|it| it.len() <= 8192).and_then(|it| unescaped(it, entities));
        let one = |reference: &str| {
            if is_timing && local == "value" && map.is_of_origin(reference) {
                return Some(TIME_PATH.to_owned());
            }
            if REFERENCES.contains(&local) { map.map_reference(reference) } else { map.map(reference) }
        };
        let mapped = text.and_then(|text| {
            // `UTCTiming` may have several in one value. Shaka Player 5.2.12, RxPlayer 4.5.0 and mpd-parser 1.4.0 request such a list as
            // one URL, so the box's own clock is alone.
            let parts: Vec<(&str, Option<String>)> = text.split(' ').map(|part| (part, one(part))).collect();
            if parts.iter().any(|(_, mapped)| mapped.as_deref() == Some(TIME_PATH)) {
                return Some(TIME_PATH.to_owned());
            }
            let any = parts.iter().any(|(_, mapped)| mapped.is_some());
            let parts = parts.into_iter().map(|(part, mapped)| mapped.unwrap_or_else(|| part.to_owned()));
            any.then(|| parts.collect::<Vec<_>>().join(" "))
        });
        match mapped {
            Some(mapped) => out.extend_from_slice(escaped(&mapped).as_bytes()),
            None => out.extend_from_slice(value),
        }
        out.push(rest[open]);
        rest = &rest[open + length + 2..];
    }
    out.extend_from_slice(rest);
}

/// Resolves character references, the five entities of XML, and those declared; `None`: the text has another entity, or becomes longer
/// than a URL may be.
fn unescaped(text: &str, entities: &[(String, String)]) -> Option<String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let (name, after) = rest[at + 1..].split_once(';')?;
        if let Some((_, value)) = entities.iter().find(|(known, _)| known == name) {
            out.push_str(value);
            rest = after;
            if out.len() > MAX_EXPANDED_BYTES {
                return None;
            }
            continue;
        }
        let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => match name.strip_prefix('#')? {
                hex if hex.starts_with(['x', 'X']) => code(&hex[1..], 16)?,
                decimal => code(decimal, 10)?,
            },
        });
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

fn escaped(text: &str) -> String {
    // For values in single quotes too. RxPlayer 4.4 reads no decimal references.
    carousel::xml::escape(text).replace('\'', "&apos;")
}

/// A string, or the text between two strings.
fn json_token(rest: &[u8]) -> (Option<usize>, &'static [u8]) {
    if !rest.starts_with(b"\"") {
        return (find(rest, b"\""), b"\"");
    }
    let mut is_escaped = false;
    for (at, &byte) in rest.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return (Some(at + 1), b"\""),
            _ => {}
        }
    }
    (None, b"\"")
}

/// The quoted value after `name` (including `=`) in a tag.
fn attribute<'a>(tag: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut at = 0;
    loop {
        let found = at + find(&tag[at..], name)?;
        let (before, rest) = (found.checked_sub(1).map(|it| tag[it]), &tag[found + name.len()..]);
        at = found + name.len();
        let is_whole = before.is_none_or(|it| matches!(it, b',' | b':') || it.is_ascii_whitespace());
        if let Some(quote) = rest.first().filter(|it| is_whole && matches!(it, b'"' | b'\'')) {
            let length = rest[1..].iter().position(|it| it == quote)?;
            return Some(&rest[1..1 + length]);
        }
    }
}

/// Rewrites one line of a playlist, including its end.
fn hls_line(line: &[u8], map: &UrlMap, variables: &[Variable], out: &mut Vec<u8>) {
    let mark = if line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let text = &line[mark..];
    if text.starts_with(b"#") {
        out.extend_from_slice(&line[..mark]);
        if text.starts_with(b"#EXT") {
            hls_tag(text, map, variables, out);
        } else {
            out.extend_from_slice(text);
        }
        return;
    }
    let mapped = std::str::from_utf8(text.trim_ascii()).ok().and_then(|it| hls_reference(it, map, variables));
    match mapped {
        Some(mapped) => {
            out.extend_from_slice(&line[..mark]);
            replace_trimmed(text, mapped.as_bytes(), out);
        }
        None => out.extend_from_slice(line),
    }
}

/// Maps a reference of a playlist. Its variables are substituted where the players' values would not lead to the box
/// (rfc8216bis section 4.3).
fn hls_reference(text: &str, map: &UrlMap, variables: &[Variable]) -> Option<String> {
    // The URL with the origin's values, and with the players' values.
    let (mut meant, mut sent, mut rest) = (String::new(), String::new(), text);
    let mut is_mapped = false;
    while let Some((before, name, after)) = rest
        .split_once("{$")
        .and_then(|(before, it)| it.split_once('}').map(|(name, after)| (before, name, after)))
    {
        let Some(variable) = variables.iter().find(|it| it.name == name) else {
            return map.map_reference(text);
        };
        if meant.len().max(sent.len()) > MAX_EXPANDED_BYTES {
            return map.map_reference(text);
        }
        is_mapped |= variable.mapped.is_some();
        meant.extend([before, &variable.value]);
        sent.extend([before, variable.mapped.as_deref().unwrap_or(&variable.value)]);
        rest = after;
    }
    let has_variables = rest.len() < text.len();
    if has_variables && meant.len().max(sent.len()) + rest.len() > MAX_EXPANDED_BYTES {
        return map.map_reference(text);
    }
    meant.push_str(rest);
    sent.push_str(rest);
    let mapped = map.map_reference(&meant);
    if !is_mapped {
        return mapped;
    }
    // A mapped value may be the beginning of a URL that is not mapped.
    Some(mapped.unwrap_or(meant)).filter(|it| *it != sent)
}

/// Rewrites text outside quotes in a tag: some packagers write attributes without quotes.
fn hls_unquoted(text: &[u8], map: &UrlMap, out: &mut Vec<u8>) {
    for (at, part) in text.split(|&byte| byte == b',').enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let name_at = part.iter().position(|&byte| byte == b'=').filter(|&at| part[..at].ends_with(b"URI"));
        let mapped = name_at.and_then(|at| {
            let value = &part[at + 1..];
            Some((at, value, map.map_reference(std::str::from_utf8(value.trim_ascii()).ok()?)?))
        });
        match mapped {
            Some((at, value, mapped)) => {
                out.extend_from_slice(&part[..=at]);
                replace_trimmed(value, mapped.as_bytes(), out);
            }
            None => out.extend_from_slice(part),
        }
    }
}

/// Rewrites the attributes of a tag.
fn hls_tag(tag: &[u8], map: &UrlMap, variables: &[Variable], out: &mut Vec<u8>) {
    let mut rest = tag;
    while let Some(open) = rest.iter().position(|&byte| byte == b'"') {
        let Some(length) = rest[open + 1..].iter().position(|&byte| byte == b'"') else { break };
        let (before, value) = (&rest[..=open], &rest[open + 1..open + 1 + length]);
        hls_unquoted(before, map, out);
        let name = before[..before.len() - 1].strip_suffix(b"=").unwrap_or_default();
        let name = name.rsplit(|byte| matches!(byte, b',' | b':' | b' ')).next().unwrap_or_default();
        let mapped = std::str::from_utf8(value).ok().and_then(|value| match name {
            b"SERVER-URI" if tag.starts_with(b"#EXT-X-CONTENT-STEERING") => {
                map.steering().map(str::to_owned).or_else(|| hls_reference(value, map, variables))
            }
            b"VALUE" if tag.starts_with(b"#EXT-X-DEFINE") => map.map_folder(value),
            b"X-ASSET-LIST" => hls_reference(value, map, variables),
            name if name.ends_with(b"URI") || name.ends_with(b"URL") => hls_reference(value, map, variables),
            _ => map.map(value),
        });
        out.extend_from_slice(mapped.as_deref().map_or(value, str::as_bytes));
        out.push(b'"');
        rest = &rest[open + length + 2..];
    }
    hls_unquoted(rest, map, out);
}
