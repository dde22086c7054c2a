//! BIOP messages inside modules: files, directories, and the IORs that lead to them (ISO/IEC 13818-6 clause 11; TR 101
//! 202 clause 4.7).

use std::sync::Arc;

use super::BIOP_DELIVERY_PARA_USE;
use super::message::TransactionId;
use crate::bytes::{Reader, WireError, Writer};

const MAGIC: &[u8; 4] = b"BIOP";
const TAG_BIOP: u32 = 0x4953_4f06;
const TAG_OBJECT_LOCATION: u32 = 0x4953_4f50;
const TAG_CONN_BINDER: u32 = 0x4953_4f40;

/// Kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `fil`.
    File,
    /// `dir`.
    Directory,
    /// `srg`: the root.
    Gateway,
    /// `str`, `ste` and any other kind; not used here.
    Other,
}

impl Kind {
    fn read(bytes: &[u8]) -> Self {
        match bytes {
            b"fil\0" | b"DSM::File\0" => Self::File,
            b"dir\0" | b"DSM::Directory\0" => Self::Directory,
            b"srg\0" | b"DSM::ServiceGateway\0" => Self::Gateway,
            _ => Self::Other,
        }
    }

    const fn as_bytes(self) -> [u8; 4] {
        match self {
            Self::File => *b"fil\0",
            Self::Directory => *b"dir\0",
            Self::Gateway => *b"srg\0",
            Self::Other => *b"str\0",
        }
    }
}

/// Location of an object: carousel, module, key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectLocation {
    /// carouselId.
    pub carousel_id: u32,
    /// moduleId.
    pub module_id: u16,
    /// objectKey, 1 to 4 bytes as a rule.
    pub key: Arc<[u8]>,
}

/// A reference to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ior {
    /// Its kind.
    pub kind: Kind,
    /// Its place; `None` if it is in another service.
    pub location: Option<ObjectLocation>,
    /// transactionId of the module's DII, by the Tap.
    pub transaction: Option<TransactionId>,
}

impl Ior {
    /// Reads an IOR.
    ///
    /// # Errors
    /// If a length exceeds its bounds.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let type_length = reader.u32("type_id_length")? as usize;
        let kind = Kind::read(reader.take(type_length, "type_id")?);
        // Aligned to four bytes with 0xFF.
        reader.take(type_length.next_multiple_of(4) - type_length, "alignment gap")?;
        let profiles = reader.u32("taggedProfiles_count")?;
        let mut ior = Self { kind, location: None, transaction: None };
        for _ in 0..profiles {
            let (tag, length) = (reader.u32("profileId_tag")?, reader.u32("profile_data_length")?);
            let profile = reader.take(length as usize, "profile")?;
            if tag == TAG_BIOP && ior.location.is_none() {
                ior.read_profile(profile)?;
            }
        }
        Ok(ior)
    }

    fn read_profile(&mut self, profile: &[u8]) -> Result<(), WireError> {
        let mut reader = Reader::new(profile);
        reader.u8("byte_order")?;
        let components = reader.u8("liteComponents_count")?;
        for _ in 0..components {
            let (tag, length) = (reader.u32("componentId_tag")?, reader.u8("component_data_length")?);
            let mut component = Reader::new(reader.take(usize::from(length), "component")?);
            match tag {
                TAG_OBJECT_LOCATION => {
                    let carousel_id = component.u32("carouselId")?;
                    let module_id = component.u16("moduleId")?;
                    component.u16("version")?;
                    let key = component.u8("objectKey_length")?;
                    let key = component.take(usize::from(key), "objectKey")?.into();
                    self.location = Some(ObjectLocation { carousel_id, module_id, key });
                }
                TAG_CONN_BINDER if component.u8("taps_count")? > 0 => {
                    component.u16("id")?;
                    let purpose = component.u16("use")?;
                    component.u16("association_tag")?;
                    let selector = component.u8("selector_length")?;
                    let mut selector = Reader::new(component.take(usize::from(selector), "selector")?);
                    if purpose == BIOP_DELIVERY_PARA_USE && selector.u16("selector_type")? == 1 {
                        self.transaction = Some(TransactionId(selector.u32("transactionId")?));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Appends the IOR of an object of a carousel.
    pub fn write(
        out: &mut Vec<u8>,
        kind: Kind,
        at: &ObjectLocation,
        tap: &super::message::BiopTap,
        transaction: TransactionId,
    ) {
        let key = at.key.len() as u8;
        Writer::new(out)
            .u32(4)
            .bytes(&kind.as_bytes())
            .u32(1)
            .u32(TAG_BIOP)
            .u32(2 + 5 + 9 + u32::from(key) + 5 + 18)
            .u8(0)
            .u8(2)
            .u32(TAG_OBJECT_LOCATION)
            .u8(9 + key)
            .u32(at.carousel_id)
            .u16(at.module_id)
            .u16(0x0100)
            .u8(key)
            .bytes(&at.key)
            .u32(TAG_CONN_BINDER)
            .u8(18)
            .u8(1)
            .u16(0)
            .u16(BIOP_DELIVERY_PARA_USE)
            .u16(tap.association_tag)
            .u8(10)
            .u16(1)
            .u32(transaction.0)
            .u32(tap.module_timeout_us);
    }
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The name, without its NUL.
    pub name: Vec<u8>,
    /// Reference to its object.
    pub ior: Ior,
    /// ContentSize of a file; 0 if not given.
    pub content_size: u64,
    /// Descriptors of objectInfo after it.
    pub descriptors: Vec<u8>,
}

/// Content of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A file: the range of its bytes in the module.
    File(std::ops::Range<usize>),
    /// A directory's or gateway's names.
    Directory(Vec<Binding>),
    /// Something else.
    Other,
}

/// One message of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BiopMessage {
    /// objectKey.
    pub key: Arc<[u8]>,
    /// Kind of the object.
    pub kind: Kind,
    /// Descriptors of objectInfo (after a file's ContentSize).
    pub descriptors: Vec<u8>,
    /// Its content.
    pub body: Body,
}

/// Iterates over the messages of a module. Ends at the first malformed one, after which the next cannot be located.
pub fn messages(module: &[u8]) -> impl Iterator<Item = Result<BiopMessage, WireError>> {
    let mut reader = Reader::new(module);
    let mut is_over = false;
    std::iter::from_fn(move || {
        // Modules may be padded after their last message.
        if is_over || reader.remaining() < 12 {
            return None;
        }
        let at = module.len() - reader.remaining();
        let message = read(&mut reader, at);
        is_over = message.is_err();
        Some(message)
    })
}

/// Whether a module holds BIOP messages.
pub fn is_biop(module: &[u8]) -> bool {
    module.starts_with(MAGIC)
}

fn read(reader: &mut Reader<'_>, at: usize) -> Result<BiopMessage, WireError> {
    if reader.take(4, "magic")? != MAGIC {
        return Err(WireError::Unsupported { what: "BIOP magic", value: at as u64 });
    }
    reader.u16("biop_version")?;
    let order = reader.u8("byte_order")?;
    if order != 0 {
        return Err(WireError::Unsupported { what: "byte_order", value: u64::from(order) });
    }
    reader.u8("message_type")?;
    let size = reader.u32("message_size")? as usize;
    let message = reader.take(size, "BIOP message")?;
    let body_at = at + 12;
    let mut reader = Reader::new(message);
    let key = reader.u8("objectKey_length")?;
    let key: Arc<[u8]> = reader.take(usize::from(key), "objectKey")?.into();
    let kind = reader.u32("objectKind_length")?;
    let kind = Kind::read(reader.take(kind as usize, "objectKind")?);
    let info = reader.u16("objectInfo_length")?;
    let mut info = Reader::new(reader.take(usize::from(info), "objectInfo")?);
    if kind == Kind::File && info.remaining() >= 8 {
        info.uint::<8>("ContentSize")?;
    }
    let descriptors = info.rest().to_vec();
    let contexts = reader.u8("serviceContextList_count")?;
    for _ in 0..contexts {
        reader.u32("context_id")?;
        let length = reader.u16("context_data_length")?;
        reader.take(usize::from(length), "context_data")?;
    }
    let length = reader.u32("messageBody_length")? as usize;
    let start = body_at + message.len() - reader.remaining();
    let mut reader = Reader::new(reader.take(length, "messageBody")?);
    let body = match kind {
        Kind::File => {
            let length = reader.u32("content_length")? as usize;
            reader.take(length, "content")?;
            Body::File(start + 4..start + 4 + length)
        }
        Kind::Directory | Kind::Gateway => Body::Directory(read_bindings(&mut reader)?),
        Kind::Other => Body::Other,
    };
    Ok(BiopMessage { key, kind, descriptors, body })
}

fn read_bindings(reader: &mut Reader<'_>) -> Result<Vec<Binding>, WireError> {
    let count = usize::from(reader.u16("bindings_count")?);
    let mut bindings = Vec::with_capacity(count.min(reader.remaining() / 40));
    for _ in 0..count {
        let components = reader.u8("nameComponents_count")?;
        let mut name = Vec::new();
        let mut kind = Kind::Other;
        for component in 0..components {
            let id = reader.u8("id_length")?;
            let id = reader.take(usize::from(id), "id")?;
            let length = reader.u8("kind_length")?;
            kind = Kind::read(reader.take(usize::from(length), "kind")?);
            if component > 0 {
                name.push(b'/');
            }
            name.extend_from_slice(id.strip_suffix(&[0]).unwrap_or(id));
        }
        reader.u8("bindingType")?;
        let mut ior = Ior::read(reader)?;
        if ior.kind == Kind::Other {
            ior.kind = kind;
        }
        let info = reader.u16("objectInfo_length")?;
        let mut info = Reader::new(reader.take(usize::from(info), "objectInfo")?);
        let mut content_size = 0;
        if ior.kind == Kind::File && info.remaining() >= 8 {
            content_size = info.uint::<8>("ContentSize")?;
        }
        bindings.push(Binding { name, ior, content_size, descriptors: info.rest().to_vec() });
    }
    Ok(bindings)
}

/// Appends a file's message without its content, which must follow.
pub fn write_file_head(out: &mut Vec<u8>, key: &[u8], length: u32, descriptors: &[u8]) {
    let start = write_head(out, key, Kind::File, |out| {
        Writer::new(out).uint::<8>(u64::from(length)).bytes(descriptors);
    });
    Writer::new(out).u8(0).u32(length + 4).u32(length);
    let size = (out.len() - start) as u32 + length;
    out[start - 4..start].copy_from_slice(&size.to_be_bytes());
}

/// Appends a directory's or gateway's message, with the bindings that `write` appends and counts.
///
/// # Errors
/// Those of `write`.
pub fn write_directory<E>(
    out: &mut Vec<u8>,
    key: &[u8],
    kind: Kind,
    write: impl FnOnce(&mut Vec<u8>) -> Result<u16, E>,
) -> Result<(), E> {
    let start = write_head(out, key, kind, |_| ());
    out.push(0);
    let body = out.len();
    out.extend_from_slice(&[0; 6]);
    let count = write(out)?;
    let length = (out.len() - body - 4) as u32;
    out[body..body + 4].copy_from_slice(&length.to_be_bytes());
    out[body + 4..body + 6].copy_from_slice(&count.to_be_bytes());
    let size = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&size.to_be_bytes());
    Ok(())
}

/// Appends one binding. `ior` is written already; `info` is objectInfo. Names are 1 to 254 bytes.
pub fn write_binding(out: &mut Vec<u8>, name: &[u8], kind: Kind, ior: &[u8], info: &[u8]) {
    // ncontext for directories, nobject for files.
    let binding_type = if kind == Kind::File { 1 } else { 2 };
    Writer::new(out)
        .u8(1)
        .u8(name.len() as u8 + 1)
        .bytes(name)
        .u8(0)
        .u8(4)
        .bytes(&kind.as_bytes())
        .u8(binding_type)
        .bytes(ior)
        .u16(info.len() as u16)
        .bytes(info);
}

/// Appends the head up to objectInfo; returns the position after message_size, which must be filled in later.
fn write_head(out: &mut Vec<u8>, key: &[u8], kind: Kind, info: impl FnOnce(&mut Vec<u8>)) -> usize {
    Writer::new(out).bytes(MAGIC).u16(0x0100).u8(0).u8(0).u32(0);
    let start = out.len();
    Writer::new(out).u8(key.len() as u8).bytes(key).u32(4).bytes(&kind.as_bytes()).u16(0);
    let info_at = out.len();
    info(out);
    let length = (out.len() - info_at) as u16;
    out[info_at - 2..info_at].copy_from_slice(&length.to_be_bytes());
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsmcc::message::BiopTap;
    use proptest::prelude::*;

    fn location(module_id: u16, key: u8) -> ObjectLocation {
        ObjectLocation { carousel_id: 7, module_id, key: Arc::new([key]) }
    }

    #[test]
    fn a_module_with_a_gateway_and_a_file() {
        let tap = BiopTap { association_tag: 0x0b, module_timeout_us: 5 };
        let mut module = Vec::new();
        write_directory(&mut module, &[1], Kind::Gateway, |out| {
            let mut ior = Vec::new();
            Ior::write(&mut ior, Kind::File, &location(2, 9), &tap, TransactionId::new(1, 0));
            write_binding(out, b"index.html", Kind::File, &ior, &[0, 0, 0, 0, 0, 0, 0, 5, 0x72, 1, b'x']);
            Ok::<_, WireError>(1)
        })
        .unwrap();
        write_file_head(&mut module, &[9], 5, &[0x72, 1, b'y']);
        module.extend_from_slice(b"hello");
        let all: Vec<_> = messages(&module).collect::<Result<_, _>>().unwrap();
        let Body::Directory(bindings) = &all[0].body else { panic!("no directory") };
        assert_eq!((all[0].kind, bindings[0].name.as_slice()), (Kind::Gateway, &b"index.html"[..]));
        assert_eq!((bindings[0].content_size, bindings[0].ior.location.clone()), (5, Some(location(2, 9))));
        assert_eq!(bindings[0].ior.transaction, Some(TransactionId::new(1, 0)));
        let Body::File(range) = &all[1].body else { panic!("no file") };
        assert_eq!(
            (&module[range.clone()], all[1].descriptors.as_slice()),
            (&b"hello"[..], &[0x72, 1, b'y'][..])
        );
    }

    proptest! {
        #[test]
        fn no_module_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..3) {
            let head = [&b"fil\0"[..], b"dir\0", b"str\0"][kind as usize];
            let mut module = b"BIOP\x01\0\0\0".to_vec();
            module.extend_from_slice(&(bytes.len() as u32 + 13).to_be_bytes());
            module.extend_from_slice(&[1, 1, 0, 0, 0, 4]);
            module.extend_from_slice(head);
            module.append(&mut bytes);
            for message in messages(&module) {
                if let Ok(BiopMessage { body: Body::File(range), .. }) = message {
                    prop_assert!(module.get(range).is_some());
                }
            }
        }
    }
}
