//! Replacement of the locators in a service list or content guide. Elements, attributes, order, namespaces and comments are
//! passed through unchanged, including those that this library does not know.

use quick_xml::events::{BytesText, Event};
use quick_xml::reader::Reader;

use crate::limits::{MAX_LONG_XML_BYTES, MAX_XML_DEPTH};
use crate::xml::XmlError;

/// Elements whose text is a locator, by local name.
const LOCATORS: [&str; 9] = [
    "URI",
    "MediaUri",
    "IdentifierBasedDeliveryParameters",
    "ProgramURL",
    "AuxiliaryURL",
    "AuxiliaryURI",
    "PlaylistEntry",
    "RTSPURL",
    "SourceMediaLocator",
];

/// Rewrites the locators of a document. `change` gets the path of element names to a locator, and the locator; `None`
/// keeps it.
///
/// # Errors
/// Larger than a list may be, not well-formed, nested too deep, or with a document type declaration.
pub fn relocate(
    bytes: &[u8],
    mut change: impl FnMut(&[String], &str) -> Option<String>,
) -> Result<Vec<u8>, XmlError> {
    if bytes.len() > MAX_LONG_XML_BYTES {
        return Err(XmlError::TooLarge("document larger than 64 MiB"));
    }
    let malformed = |offset: u64, why: String| XmlError::Malformed { offset, why };
    let text = std::str::from_utf8(bytes)
        .map_err(|err| malformed(err.valid_up_to() as u64, "not UTF-8".to_owned()))?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut writer = quick_xml::Writer::new(Vec::with_capacity(bytes.len() + bytes.len() / 8));
    let mut open: Vec<String> = Vec::new();
    // The text collected so far, if the innermost element is a locator.
    let mut locator: Option<String> = None;
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event().map_err(|err| malformed(at, err.to_string()))?;
        let mut write =
            |event: Event<'_>| writer.write_event(event).map_err(|err| malformed(at, err.to_string()));
        match (&event, &mut locator) {
            (Event::Eof, _) => break,
            (Event::DocType(_), _) => {
                return Err(malformed(at, "document type declarations are refused".to_owned()));
            }
            (Event::Start(start), _) => {
                if open.len() >= MAX_XML_DEPTH {
                    return Err(XmlError::TooLarge("elements nested more than 64 deep"));
                }
                let name = start.local_name().as_ref().to_owned();
                // An element with child elements is not a locator.
                if let Some(before) = locator.take() {
                    write(Event::Text(BytesText::new(&before)))?;
                }
                locator = LOCATORS.contains(&name.as_str()).then(String::new);
                open.push(name);
                write(event)?;
            }
            (Event::Text(text), Some(locator)) => locator.push_str(&text.xml10_content()),
            (Event::CData(text), Some(locator)) => locator.push_str(&text.xml10_content()),
            (Event::GeneralRef(reference), Some(locator)) => {
                let resolved = match reference.resolve_char_ref() {
                    Ok(Some(c)) => c.to_string(),
                    Ok(None) => quick_xml::escape::resolve_predefined_entity(reference)
                        .ok_or_else(|| malformed(at, format!("unknown entity &{};", &**reference)))?
                        .to_owned(),
                    Err(err) => return Err(malformed(at, err.to_string())),
                };
                locator.push_str(&resolved);
            }
            (Event::End(_), _) => {
                if let Some(locator) = locator.take() {
                    let changed = change(&open, locator.trim());
                    write(Event::Text(BytesText::new(changed.as_deref().unwrap_or(&locator))))?;
                }
                open.pop().ok_or_else(|| malformed(at, "end tag without a start".to_owned()))?;
                write(event)?;
            }
            _ => write(event)?,
        }
    }
    if let Some(unclosed) = open.last() {
        return Err(malformed(bytes.len() as u64, format!("ends inside <{unclosed}>")));
    }
    Ok(writer.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dvbi::ServiceList;
    use proptest::prelude::*;

    #[test]
    fn only_locators_change() {
        let text = "<?xml version=\"1.0\"?>\n<l:ServiceList xmlns:l='urn:x' xmlns:o=\"urn:o\"><!-- kept -->\
            <l:Name>http://dvb.gw/not</l:Name><o:Foreign a='http://dvb.gw/not'>&lt;x/&gt;</o:Foreign>\
            <D contentType='t'><URI> http://dvb.gw/a?b=1&amp;c=<![CDATA[<2>]]>&#65; </URI></D><URI/><URI><b/></URI></l:ServiceList>";
        let mut seen = Vec::new();
        let out = relocate(text.as_bytes(), |open, locator| {
            seen.push(open.join("/"));
            locator.strip_prefix("http://dvb.gw/").map(|rest| format!("http://box:8080/{rest}"))
        });
        let out = String::from_utf8(out.unwrap()).unwrap();
        let wanted = text.replace(
            " http://dvb.gw/a?b=1&amp;c=<![CDATA[<2>]]>&#65; ",
            "http://box:8080/a?b=1&amp;c=&lt;2&gt;A",
        );
        assert_eq!(out, wanted);
        assert_eq!(seen[0], "ServiceList/D/URI");
    }

    #[test]
    fn lists_stay_the_same_list() {
        let list = crate::dvbi::list_read::tests::everything();
        let text = list.to_xml(crate::dvbi::Edition::R6);
        assert_eq!(relocate(text.as_bytes(), |_, _| None).unwrap(), text.as_bytes());
        let moved =
            relocate(text.as_bytes(), |_, uri| Some(uri.replace("http://dvb.gw", "http://box"))).unwrap();
        let (moved, _) = ServiceList::parse(&moved).unwrap();
        assert_eq!(moved.services[0].instances[0].delivery.locator().unwrap().0, "http://box/x/a.mpd");
        assert_eq!(moved.guide_sources[0].schedule, "http://box/x/schedule");
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let deep = "<a>".repeat(MAX_XML_DEPTH + 1);
        for bad in ["<a>", "<a></b>", "<!DOCTYPE a><a/>", "<URI>&boom;</URI>", "</a>", deep.as_str()] {
            assert!(relocate(bad.as_bytes(), |_, _| None).is_err(), "{bad}");
        }
        assert!(relocate(b"<a>\xff</a>", |_, _| None).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "([ -~]|</?URI>|<!\\[CDATA\\[|\\]\\]>|&#?[a-z0-9]{0,4};){0,60}") {
            let _ = relocate(text.as_bytes(), |_, _| Some("<&>".to_owned()));
        }
    }
}
