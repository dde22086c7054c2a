//! Player of titles on demand on a television: the page, as a broadcast-independent application that an XML AIT announces
//! (TS 102 809 clause 5.4). TS 103 770 has nothing else for a ProgramURL.

use carousel::xml::{self, Element, XML_NAMESPACE};

use super::Client;

const AIT: &str = "urn:dvb:mhp:2009";
const SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// MIME type of an XML AIT.
pub(super) const TYPE: &str = "application/vnd.dvb.ait+xml";
/// The organisation of applications that have none registered, and a number of ours there.
const ORGANISATION: &str = "1";
const APPLICATION: &str = "1";

/// The AIT whose application is the page at the box, with a title to play if one is named.
pub(super) fn ait(client: &Client, title: Option<&str>) -> Vec<u8> {
    let new = |name: &str| Element::new(AIT, name);
    let host = client.base().rsplit("//").next().unwrap_or_default();
    let location = title.map_or_else(String::new, |id| {
        let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        format!("#play={id}")
    });
    let version = new("mhpVersion")
        .text_child("profile", "0")
        .text_child("versionMajor", "1")
        .text_child("versionMinor", "3")
        .text_child("versionMicro", "1");
    let descriptor = new("applicationDescriptor")
        .child(new("type").text_child("OtherApp", "application/vnd.hbbtv.xhtml+xml"))
        .text_child("controlCode", "AUTOSTART")
        .text_child("visibility", "VISIBLE_ALL")
        .text_child("serviceBound", "false")
        .text_child("priority", "1")
        .text_child("version", "01")
        .child(version);
    let transport = new("applicationTransport")
        .attr_ns(SCHEMA_INSTANCE, "type", "HTTPTransportType")
        .text_child("URLBase", client.url("/"));
    let application = new("Application")
        .child(new("appName").attr("Language", "eng").with_text("Skycache"))
        .child(
            new("applicationIdentifier").text_child("orgId", ORGANISATION).text_child("appId", APPLICATION),
        )
        .child(descriptor)
        .child(transport)
        .text_child("applicationLocation", format!("index.html{location}"));
    let root = new("ServiceDiscovery").attr_ns(XML_NAMESPACE, "lang", "en").child(
        new("ApplicationDiscovery").attr("DomainName", host).child(new("ApplicationList").child(application)),
    );
    xml::write(&root, &[(SCHEMA_INSTANCE, "xsi")]).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_is_the_page_of_this_box() {
        let client = Client::of(Some("box:8080"), false).unwrap();
        let bytes = ait(&client, Some("tag:a,2026:b&c"));
        let root = xml::parse(&bytes).unwrap();
        assert_eq!((root.name.as_str(), root.namespace.as_str()), ("ServiceDiscovery", AIT));
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("<URLBase>http://box:8080/</URLBase>"), "{text}");
        assert!(text.contains("index.html#play=tag%3Aa%2C2026%3Ab%26c"), "{text}");
    }
}
