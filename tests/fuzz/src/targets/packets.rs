//! Packets, captures and names.

use carousel::alc::Packet;
use carousel::capture::{Datagrams, Records};
use carousel::fec::{EncodingId, Oti, Partition, PayloadId};
use carousel::flute::FdtAssembler;
use carousel::ip::{FragmentAssembler, LinkType, parse_ip, unwrap_link};
use carousel::lct::ext::{self, Extensions, Naci};
use carousel::lct::{LctHeader, Toi};
use carousel::mabr::ChunkName;
use carousel::name::{ObjectKey, resolve};
use carousel::query::{IgnoreQuery, IgnoredQuery, candidates, range_of_name};
use carousel::route::FileTemplate;
use carousel::time::{Instant, WallTime, duration_from_xml, duration_to_xml};

use crate::input::Input;

/// Codes that have a Payload ID or OTI of their own.
const CODES: [u8; 9] = [0, 1, 2, 5, 6, 128, 129, 130, 7];

pub(super) fn alc(bytes: &[u8]) {
    let Ok((header, _)) = LctHeader::split(bytes) else { return };
    let mut again = Vec::new();
    if header.write(&mut again).is_ok()
        && let Ok((read, rest)) = LctHeader::split(&again)
    {
        assert!(rest.is_empty(), "a written header is read whole");
        assert_eq!((read.tsi, read.toi, read.codepoint), (header.tsi, header.toi, header.codepoint));
        assert_eq!(read.extensions, header.extensions);
    }
    for extension in Extensions::new(header.extensions).flatten() {
        let _ = ext::Fdt::parse(extension.body);
        let _ = ext::Time::parse(extension.body);
        let _ = Naci::parse(extension.body);
        let _ = ext::parse_tol(extension);
    }
    let Ok(packet) = Packet::parse(bytes) else { return };
    for code in CODES {
        let id = EncodingId(code);
        if let Some(body) = packet.fti
            && let Ok(oti) = Oti::parse_fti(id, body)
        {
            let mut again = Vec::new();
            if oti.write_fti(&mut again).is_ok()
                && let Some(Ok(extension)) = Extensions::new(&again).next()
            {
                let read = Oti::parse_fti(id, extension.body);
                assert_eq!(read.as_ref().map(|it| it.transfer_length), Ok(oti.transfer_length));
            }
            if let Ok(partition) = Partition::new(&oti) {
                let range = partition.byte_range(partition.symbols.saturating_sub(1));
                assert!(range.end <= oti.transfer_length, "{oti:?} {range:?}");
            }
        }
        for m in [0, 8, 16, 255] {
            let _ = PayloadId::split(id, m, packet.body);
        }
    }
    if packet.lct.toi == Some(Toi::FDT) {
        let _ = FdtAssembler::default().push(Instant::from_nanos(1), &packet);
    }
}

pub(super) fn ip(bytes: &[u8]) {
    if let Ok(records) = Records::new(bytes) {
        let mut datagrams = Datagrams::new(records);
        while datagrams.next_datagram().is_some() {}
    }
    for link in [LinkType::ETHERNET, LinkType(101), LinkType(113), LinkType(276), LinkType(0)] {
        if let Ok(packet) = unwrap_link(link, bytes) {
            let _ = parse_ip(packet);
        }
    }
    let mut fragments = FragmentAssembler::default();
    let mut input = Input::new(bytes);
    while let Some((_, packet)) = input.record() {
        if let Ok(datagram) = fragments.datagram(packet) {
            assert!(datagram.payload.len() <= 65_535);
        }
    }
}

pub(super) fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    let _ = resolve(first, second);
    let keys = [
        ObjectKey::from_name(second, Some(first)),
        ObjectKey::from_name(first, None),
        ObjectKey::from_request_path(first),
        ObjectKey::from_kept(first),
    ];
    for key in keys.into_iter().flatten() {
        let kept = ObjectKey::from_kept(key.as_str());
        assert_eq!(kept.as_ref(), Ok(&key), "a key is a kept key");
        let path = key.as_str().split(['?', '#']).next().unwrap_or_default();
        assert!(path.split('/').all(|it| it != ".." && it != "."), "{key:?}");
        assert!(!key.as_str().bytes().any(|it| it <= b' ' || it == 0x7f), "{key:?}");
        let _ = candidates(&key);
        let _ = key.variant(3);
    }
    let rule = IgnoredQuery::from_field(first);
    if let Some(field) = rule.to_field() {
        assert_eq!(IgnoredQuery::from_field(&field), rule, "{field}");
    }
    let _ = rule.strip(second);
    let names = IgnoreQuery::Names(second.split(',').map(str::to_owned).collect());
    let _ = IgnoreQuery::rule(Some(&names), None).strip(first);
    let _ = range_of_name(first);
    if let Some(chunk) = ChunkName::split(first) {
        assert!(first.starts_with(chunk.object));
    }
    if let Some(template) = FileTemplate::parse(first) {
        let _ = template.name(Toi(u128::MAX));
    }
    if let Some(time) = WallTime::from_xml(first) {
        assert_eq!(WallTime::from_xml(&time.to_xml()), Some(time), "{first}");
    }
    if let Some(duration) = duration_from_xml(first) {
        let _ = duration_to_xml(duration);
    }
}
