//! User-to-network messages: DSI, DII, DDB (ISO/IEC 13818-6 clause 7; TR 101 202 clause 4.7).

use crate::bytes::{Reader, WireError, Writer};
use crate::ts::descriptor::find;
use crate::ts::psi::Oui;
use crate::ts::section::{Section, SectionHead};

/// table_id of DSI and DII.
pub const TABLE_CONTROL: u8 = 0x3b;
/// table_id of DDB.
pub const TABLE_DATA: u8 = 0x3c;
const DII: u16 = 0x1002;
const DDB: u16 = 0x1003;
const DSI: u16 = 0x1006;
/// specifierType of an OUI.
const SPECIFIER_OUI: u8 = 0x01;

/// Maximum bytes of a message: the capacity of a section.
pub const MAX_MESSAGE_BYTES: usize = 4084;
/// Bytes of DownloadDataBlock before its data, with its header.
const DDB_HEADER_BYTES: usize = 18;
/// Maximum bytes of a block.
pub const MAX_BLOCK_BYTES: usize = MAX_MESSAGE_BYTES - DDB_HEADER_BYTES;

/// transactionId (TR 101 202 clause 4.7.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub u32);

impl TransactionId {
    /// The transactionId of a message: `identification` is 0 for the DSI, otherwise unique for each DII of the PID (15
    /// bits); `updates` counts its changes.
    pub const fn new(identification: u16, updates: u32) -> Self {
        Self(2 << 30 | (updates & 0x3fff) << 16 | (identification as u32 & 0x7fff) << 1 | updates & 1)
    }

    /// Bits 1 to 15, on which references match; independent of changes of the message.
    pub const fn identification(self) -> u16 {
        (self.0 >> 1 & 0x7fff) as u16
    }
}

/// One module as its DII describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleInfo {
    /// moduleId.
    pub id: u16,
    /// moduleSize: bytes on the air.
    pub size: u32,
    /// moduleVersion.
    pub version: u8,
    /// Whether it is BIOP::ModuleInfo: the module of an object carousel.
    pub is_biop: bool,
    /// Descriptors of the data carousel, or of BIOP::ModuleInfo's user information.
    pub descriptors: Vec<u8>,
}

/// Descriptor tags of the data carousel's own space (EN 301 192 clause 10.2).
pub mod tag {
    /// `type_descriptor`: MIME type.
    pub const TYPE: u8 = 0x01;
    /// `name_descriptor`.
    pub const NAME: u8 = 0x02;
    /// `module_link_descriptor`.
    pub const MODULE_LINK: u8 = 0x04;
    /// `CRC32_descriptor`.
    pub const CRC32: u8 = 0x05;
    /// `compressed_module_descriptor`.
    pub const COMPRESSED_MODULE: u8 = 0x09;
    /// `caching_priority_descriptor`.
    pub const CACHING_PRIORITY: u8 = 0x71;
    /// `content_type_descriptor`.
    pub const CONTENT_TYPE: u8 = 0x72;
}

impl ModuleInfo {
    /// Decompressed size, if the module is compressed by zlib.
    pub fn original_size(&self) -> Option<u32> {
        let mut reader = Reader::new(find(&self.descriptors, tag::COMPRESSED_MODULE)?);
        let method = reader.u8("compression_method").ok()?;
        // The low nibble of the CMF byte: 8 is deflate (RFC 1950).
        (method & 0x0f == 8).then(|| reader.u32("original_size").ok()).flatten()
    }

    /// MPEG CRC of the module as sent.
    pub fn crc32(&self) -> Option<u32> {
        Reader::new(find(&self.descriptors, tag::CRC32)?).u32("CRC_32").ok()
    }

    /// Name of a data carousel's module.
    pub fn name(&self) -> Option<String> {
        let name = find(&self.descriptors, tag::NAME)?;
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// MIME type of a data carousel's module.
    pub fn content_type(&self) -> Option<String> {
        Some(String::from_utf8_lossy(find(&self.descriptors, tag::TYPE)?).into_owned())
    }

    /// Place in a chain of modules: 0 first, 1 between, 2 last; and the next module's id.
    pub fn link(&self) -> Option<(u8, u16)> {
        let mut reader = Reader::new(find(&self.descriptors, tag::MODULE_LINK)?);
        Some((reader.u8("position").ok()?, reader.u16("module_id").unwrap_or(0)))
    }
}

/// DownloadInfoIndication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadInfo {
    /// transactionId.
    pub transaction: TransactionId,
    /// downloadId: the carouselId of an object carousel.
    pub download_id: u32,
    /// blockSize.
    pub block_size: u16,
    /// Its modules.
    pub modules: Vec<ModuleInfo>,
}

/// Target of a DSI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gateway<'a> {
    /// Object carousel: the IOR of the service gateway.
    Object(&'a [u8]),
    /// Two-layer data carousel: its groups.
    Groups(Vec<Group>),
}

/// One group of a two-layer data carousel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// transactionId of its DII, which is the GroupId.
    pub transaction: TransactionId,
    /// GroupSize: bytes of its modules.
    pub size: u32,
    /// Receivers that it is for; empty: not stated.
    pub compatibility: Vec<Compatible>,
}

/// Kind of a compatibility entry (TS 102 006 clause 8.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompatibleKind {
    /// 0x01: hardware of the receiver.
    Hardware,
    /// 0x02: software in the receiver.
    Software,
}

/// One entry of a `compatibilityDescriptor` whose specifier is an OUI (ISO/IEC 13818-6 clause 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compatible {
    /// Hardware or software.
    pub kind: CompatibleKind,
    /// OUI of the maker.
    pub oui: Oui,
    /// Model, as the maker numbers them.
    pub model: u16,
    /// Version, as the maker numbers them.
    pub version: u16,
}

/// Reads the content of a `compatibilityDescriptor` after its length. Entries of other kinds or with other specifiers are
/// skipped.
fn read_compatibility(bytes: &[u8]) -> Result<Vec<Compatible>, WireError> {
    let mut reader = Reader::new(bytes);
    let mut all = Vec::new();
    // Senders without entries write a length of 0 instead of a count of 0.
    let count = if bytes.is_empty() { 0 } else { reader.u16("descriptorCount")? };
    for _ in 0..count {
        let kind = reader.u8("descriptorType")?;
        let length = usize::from(reader.u8("descriptorLength")?);
        let mut entry = Reader::new(reader.take(length, "compatibility descriptor")?);
        let kind = match kind {
            1 => CompatibleKind::Hardware,
            2 => CompatibleKind::Software,
            _ => continue,
        };
        if entry.u8("specifierType")? == SPECIFIER_OUI {
            let oui = Oui::new(entry.uint::<3>("specifierData")? as u32);
            all.push(Compatible { kind, oui, model: entry.u16("model")?, version: entry.u16("version")? });
        }
    }
    Ok(all)
}

/// Appends a `compatibilityDescriptor` with its length.
fn write_compatibility(out: &mut Vec<u8>, all: &[Compatible]) {
    if all.is_empty() {
        Writer::new(out).u16(0);
        return;
    }
    let mut entries = Vec::with_capacity(all.len() * 11);
    for it in all {
        let kind = match it.kind {
            CompatibleKind::Hardware => 1,
            CompatibleKind::Software => 2,
        };
        // Nine bytes follow the length; no subdescriptors.
        Writer::new(&mut entries)
            .u8(kind)
            .u8(9)
            .u8(SPECIFIER_OUI)
            .uint::<3>(u64::from(it.oui.get()))
            .u16(it.model)
            .u16(it.version)
            .u8(0);
    }
    Writer::new(out).u16(entries.len() as u16 + 2).u16(all.len() as u16).bytes(&entries);
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// DownloadServerInitiate.
    Initiate {
        /// transactionId.
        transaction: TransactionId,
        /// Service gateway that it leads to.
        gateway: Gateway<'a>,
    },
    /// DownloadInfoIndication.
    Info(DownloadInfo),
    /// DownloadDataBlock.
    Block(Block<'a>),
}

/// One block of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// downloadId.
    pub download_id: u32,
    /// moduleId.
    pub module_id: u16,
    /// moduleVersion.
    pub version: u8,
    /// blockNumber.
    pub number: u16,
    /// Its bytes.
    pub data: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the message of a section.
    ///
    /// # Errors
    /// For malformed messages, and for messages of another kind.
    #[inline]
    pub fn read(section: &Section<'a>) -> Result<Self, WireError> {
        let mut reader = section.reader();
        let (protocol, kind) = (reader.u8("protocolDiscriminator")?, reader.u8("dsmccType")?);
        if protocol != 0x11 || kind != 0x03 {
            return Err(WireError::Unsupported { what: "dsmccType", value: u64::from(kind) });
        }
        let (id, transaction) = (reader.u16("messageId")?, reader.u32("transactionId")?);
        reader.u8("reserved")?;
        let adaptation = usize::from(reader.u8("adaptationLength")?);
        let length = usize::from(reader.u16("messageLength")?);
        let mut reader = Reader::new(reader.take(length, "message")?);
        reader.take(adaptation, "adaptation header")?;
        match (section.table_id, id) {
            (TABLE_DATA, DDB) => {
                let (module_id, version) = (reader.u16("moduleId")?, reader.u8("moduleVersion")?);
                reader.u8("reserved")?;
                let number = reader.u16("blockNumber")?;
                Ok(Self::Block(Block {
                    download_id: transaction,
                    module_id,
                    version,
                    number,
                    data: reader.rest(),
                }))
            }
            (TABLE_CONTROL, DII) => read_info(TransactionId(transaction), reader).map(Self::Info),
            (TABLE_CONTROL, DSI) => {
                reader.take(20, "serverId")?;
                let compatibility = reader.u16("compatibilityDescriptorLength")?;
                reader.take(usize::from(compatibility), "compatibilityDescriptor")?;
                let private = reader.u16("privateDataLength")?;
                let private = reader.take(usize::from(private), "privateData")?;
                let gateway = read_gateway(private)?;
                Ok(Self::Initiate { transaction: TransactionId(transaction), gateway })
            }
            _ => Err(WireError::Unsupported { what: "messageId", value: u64::from(id) }),
        }
    }
}

fn read_gateway(private: &[u8]) -> Result<Gateway<'_>, WireError> {
    // An IOR begins with the length of its type_id and `srg` (or its long form); a group list with a count and ids.
    if private.get(4..7) == Some(b"srg") || private.get(4..8) == Some(b"DSM:") {
        return Ok(Gateway::Object(private));
    }
    let mut reader = Reader::new(private);
    let count = reader.u16("NumberOfGroups")?;
    let mut groups = Vec::new();
    for _ in 0..count {
        let (transaction, size) = (TransactionId(reader.u32("GroupId")?), reader.u32("GroupSize")?);
        let length = reader.u16("GroupCompatibility")?;
        let compatibility = reader.take(usize::from(length), "GroupCompatibility")?;
        // The lengths around it are valid, so an error in it does not affect the rest.
        let compatibility = read_compatibility(compatibility).unwrap_or_default();
        groups.push(Group { transaction, size, compatibility });
        let info = reader.u16("GroupInfoLength")?;
        reader.take(usize::from(info), "GroupInfo")?;
    }
    Ok(Gateway::Groups(groups))
}

fn read_info(transaction: TransactionId, mut reader: Reader<'_>) -> Result<DownloadInfo, WireError> {
    let (download_id, block_size) = (reader.u32("downloadId")?, reader.u16("blockSize")?);
    reader.take(10, "windowSize to tCDownloadScenario")?;
    let compatibility = reader.u16("compatibilityDescriptorLength")?;
    reader.take(usize::from(compatibility), "compatibilityDescriptor")?;
    if block_size == 0 || usize::from(block_size) > MAX_BLOCK_BYTES {
        let clause = "TR 101 202 clause 4.7.5";
        return Err(WireError::Illegal { what: "blockSize", value: u64::from(block_size), clause });
    }
    let count = reader.u16("numberOfModules")?;
    let mut modules = Vec::with_capacity(usize::from(count).min(reader.remaining() / 8));
    for _ in 0..count {
        let (id, size, version) =
            (reader.u16("moduleId")?, reader.u32("moduleSize")?, reader.u8("moduleVersion")?);
        let length = reader.u8("moduleInfoLength")?;
        let info = reader.take(usize::from(length), "moduleInfo")?;
        let biop = biop_user_info(info);
        let descriptors = biop.unwrap_or(info).to_vec();
        modules.push(ModuleInfo { id, size, version, is_biop: biop.is_some(), descriptors });
    }
    Ok(DownloadInfo { transaction, download_id, block_size, modules })
}

/// User information of BIOP::ModuleInfo; `None` if the bytes are something else.
fn biop_user_info(info: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(info);
    reader.take(12, "timeouts").ok()?;
    let taps = reader.u8("taps_count").ok()?;
    if taps == 0 {
        return None;
    }
    for tap in 0..taps {
        reader.u16("id").ok()?;
        let purpose = reader.u16("use").ok()?;
        if tap == 0 && purpose != super::BIOP_OBJECT_USE {
            return None;
        }
        reader.u16("association_tag").ok()?;
        let selector = reader.u8("selector_length").ok()?;
        reader.take(usize::from(selector), "selector").ok()?;
    }
    let length = reader.u8("userInfoLength").ok()?;
    reader.take(usize::from(length), "userInfo").ok()
}

/// Appends a DSI section with this private data.
///
/// # Errors
/// If it does not fit a section.
pub fn write_dsi(out: &mut Vec<u8>, transaction: TransactionId, private: &[u8]) -> Result<(), WireError> {
    write_control(out, DSI, transaction, |out| {
        Writer::new(out).bytes(&[0xff; 20]).u16(0).u16(private.len() as u16).bytes(private);
        Ok(())
    })
}

/// ServiceGatewayInfo: the private data of an object carousel's DSI.
pub fn service_gateway_info(ior: &[u8]) -> Vec<u8> {
    let mut out = ior.to_vec();
    // No download taps, no service contexts, no user information.
    out.extend_from_slice(&[0, 0, 0, 0]);
    out
}

/// GroupInfoIndication: the private data of a two-layer data carousel's DSI (EN 301 192 clause 10.1.2).
pub fn group_info_indication(groups: &[Group]) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out).u16(groups.len() as u16);
    for group in groups {
        Writer::new(&mut out).u32(group.transaction.0).u32(group.size);
        write_compatibility(&mut out, &group.compatibility);
        Writer::new(&mut out).u16(0);
    }
    Writer::new(&mut out).u16(0);
    out
}

/// Tap and timeout of the modules in the DII of an object carousel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BiopTap {
    /// association_tag of the stream that carries the blocks.
    pub association_tag: u16,
    /// moduleTimeOut in microseconds, which TR 101 202 requires.
    pub module_timeout_us: u32,
}

/// Appends a DII section. With `biop`, modules are those of an object carousel.
///
/// # Errors
/// If it does not fit a section: too many modules, or too long descriptors.
pub fn write_dii(out: &mut Vec<u8>, info: &DownloadInfo, biop: Option<BiopTap>) -> Result<(), WireError> {
    write_control(out, DII, info.transaction, |out| {
        Writer::new(out).u32(info.download_id).u16(info.block_size).bytes(&[0; 10]).u16(0);
        Writer::new(out).u16(info.modules.len() as u16);
        for module in &info.modules {
            Writer::new(out).u16(module.id).u32(module.size).u8(module.version);
            let mut head = Vec::new();
            if let Some(tap) = biop {
                let timeout = tap.module_timeout_us;
                Writer::new(&mut head)
                    .u32(timeout)
                    .u32(timeout)
                    .u32(0)
                    .u8(1)
                    .u16(0)
                    .u16(super::BIOP_OBJECT_USE)
                    .u16(tap.association_tag)
                    .u8(0)
                    .u8(module.descriptors.len() as u8);
            }
            let length =
                u8::try_from(head.len() + module.descriptors.len()).map_err(|_| WireError::Illegal {
                    what: "moduleInfoLength",
                    value: module.descriptors.len() as u64,
                    clause: "TR 101 202 clause 4.7.5",
                })?;
            Writer::new(out).u8(length).bytes(&head).bytes(&module.descriptors);
        }
        Writer::new(out).u16(0);
        Ok(())
    })
}

fn write_control(
    out: &mut Vec<u8>,
    id: u16,
    transaction: TransactionId,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let head = SectionHead {
        table_id: TABLE_CONTROL,
        private: false,
        extension: transaction.0 as u16,
        version: 0,
        number: 0,
        last_number: 0,
    };
    head.write(out, |out| {
        Writer::new(out).u8(0x11).u8(3).u16(id).u32(transaction.0).u8(0xff).u8(0);
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        write(out)?;
        let length = (out.len() - start - 2) as u16;
        out[start..start + 2].copy_from_slice(&length.to_be_bytes());
        Ok(())
    })
}

/// Appends a DDB section; `fill` writes the block's `length` bytes. `blocks` are those of the module.
///
/// # Errors
/// Those of `fill`, and a block that is too long.
#[inline]
pub fn write_ddb<E: From<WireError>>(
    out: &mut Vec<u8>,
    block: &Block<'_>,
    length: usize,
    blocks: u32,
    fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let head = SectionHead {
        table_id: TABLE_DATA,
        private: false,
        extension: block.module_id,
        version: block.version,
        // 8 bits for 16: receivers order by blockNumber.
        number: block.number as u8,
        last_number: blocks.clamp(1, 256).wrapping_sub(1) as u8,
    };
    let mut failed = None;
    let start = out.len();
    head.write(out, |out| {
        Writer::new(out).u8(0x11).u8(3).u16(DDB).u32(block.download_id).u8(0xff).u8(0).u16(length as u16 + 6);
        Writer::new(out).u16(block.module_id).u8(block.version).u8(0xff).u16(block.number);
        let at = out.len();
        out.resize(at + length, 0);
        failed = fill(&mut out[at..]).err();
        Ok(())
    })?;
    failed.map_or(Ok(()), |err| {
        out.truncate(start);
        Err(err)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::descriptor;
    use proptest::prelude::*;

    #[test]
    fn transaction_ids_match_on_bits_1_to_15_and_toggle_bit_0() {
        let (before, after) = (TransactionId::new(7, 4), TransactionId::new(7, 5));
        assert_eq!(before.identification(), after.identification());
        assert_eq!((before.0, after.0), (0x8004_000e, 0x8005_000f));
        assert_eq!(TransactionId::new(0, 0).0, 0x8000_0000);
    }

    #[test]
    fn messages_go_both_ways() {
        let mut descriptors = Vec::new();
        descriptor::write(&mut descriptors, tag::COMPRESSED_MODULE, &[0x78, 0, 0, 0x10, 0]).unwrap();
        let module = ModuleInfo { id: 9, size: 5000, version: 3, is_biop: true, descriptors };
        let info = DownloadInfo {
            transaction: TransactionId::new(1, 0),
            download_id: 7,
            block_size: 4066,
            modules: vec![module],
        };
        let mut out = Vec::new();
        let tap = BiopTap { association_tag: 0x0b, module_timeout_us: 1_000_000 };
        write_dii(&mut out, &info, Some(tap)).unwrap();
        let section = Section::parse(&out).unwrap();
        assert_eq!((section.extension, section.bytes[1] & 0xf0), (2, 0xb0));
        let Ok(Message::Info(read)) = Message::read(&section) else { panic!("no DII") };
        assert_eq!((read.modules[0].original_size(), &read), (Some(4096), &info));

        out.clear();
        let block = Block { download_id: 7, module_id: 9, version: 35, number: 300, data: &[] };
        write_ddb(&mut out, &block, 3, 301, |out| {
            out.copy_from_slice(b"abc");
            Ok::<_, WireError>(())
        })
        .unwrap();
        let section = Section::parse(&out).unwrap();
        assert_eq!((section.number, section.last_number, section.version), (44, 255, 3));
        assert_eq!(Message::read(&section), Ok(Message::Block(Block { data: b"abc", ..block })));

        out.clear();
        let device = |kind, model| Compatible { kind, oui: Oui::new(0x150a), model, version: 2 };
        let compatibility =
            vec![device(CompatibleKind::Hardware, 7), device(CompatibleKind::Software, 0xffff)];
        let group = |number, compatibility| Group {
            transaction: TransactionId::new(number, 0),
            size: 77,
            compatibility,
        };
        let groups = [group(1, compatibility), group(2, Vec::new())];
        write_dsi(&mut out, TransactionId::new(0, 1), &group_info_indication(&groups)).unwrap();
        let section = Section::parse(&out).unwrap();
        let gateway = Gateway::Groups(groups.to_vec());
        assert_eq!(
            Message::read(&section),
            Ok(Message::Initiate { transaction: TransactionId::new(0, 1), gateway })
        );
    }

    #[test]
    fn a_compatibility_descriptor_has_the_bytes_of_the_standard_and_other_entries_are_skipped() {
        let bytes = [
            0, 3, // Three entries.
            1, 9, 1, 0x00, 0x15, 0x0a, 0x00, 0x07, 0x00, 0x02, 0, // Hardware.
            2, 13, 1, 0x00, 0x15, 0x0a, 0x00, 0x01, 0x01, 0x00, 1, 0x40, 2, 9,
            9, // Software with a subdescriptor.
            0x40, 2, 8, 8, // Of the maker's own kind.
        ];
        let all = read_compatibility(&bytes).unwrap();
        let of = |kind, model, version| Compatible { kind, oui: Oui::new(0x150a), model, version };
        assert_eq!(all, [of(CompatibleKind::Hardware, 7, 2), of(CompatibleKind::Software, 1, 0x100)]);
        let mut out = Vec::new();
        write_compatibility(&mut out, &all[..1]);
        assert_eq!(out, [&[0, 13, 0, 1], &bytes[2..13]].concat());
        assert!(read_compatibility(&bytes[..20]).is_err());
    }

    proptest! {
        #[test]
        fn no_message_panics(body in proptest::collection::vec(any::<u8>(), 0..200), id in 0_u16..8, table in 0x3b_u8..0x3d) {
            let mut out = Vec::new();
            let head = SectionHead { table_id: table, private: false, extension: 0, version: 0, number: 0, last_number: 0 };
            head.write(&mut out, |out| {
                Writer::new(out).u8(0x11).u8(3).u16(0x1000 + id).u32(0).u8(0xff).u8(0).u16(body.len() as u16).bytes(&body);
                Ok(())
            }).unwrap();
            let _ = Message::read(&Section::parse(&out).unwrap());
        }
    }
}
