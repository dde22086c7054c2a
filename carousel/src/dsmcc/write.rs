//! Serialisation of the modules and messages of a [`Builder`].

use super::biop::{self, Ior, Kind, ObjectLocation};
use super::build::{Builder, Inside, Module};
use super::describe::{Description, Part};
use super::message::{self, BiopTap, Block, DownloadInfo, ModuleInfo, TransactionId, tag};
use super::profile::{Carried, ObjectNumber, ReadBody, Shape};
use super::tree::Child;
use crate::bytes::WireError;
use crate::ts::descriptor;

/// Compression must save at least one part in this number.
const WORTH: usize = 16;

/// A module that is being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    id: u16,
    version: u8,
    size: u32,
    /// The beginning of the module, or all of it.
    head: Vec<u8>,
    /// The rest: object, and offset in it.
    body: Option<(ObjectNumber, u64)>,
}

impl Reading {
    /// moduleId.
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// Bytes of it.
    pub const fn size(&self) -> u32 {
        self.size
    }
}

impl Builder {
    /// Bytes of a module with objects, before compression.
    pub(super) fn plain_size(&self, id: u16) -> u32 {
        let Some(Module { inside: Inside::Files(inside), .. }) = self.modules.get(&id) else {
            debug_assert!(false, "module {id} has no files");
            return 0;
        };
        let mut head = Vec::new();
        let bodies: u64 =
            inside.iter().map(|(number, file)| self.write_head(*number, *file, &mut head)).sum();
        (head.len() as u64 + bodies) as u32
    }

    /// Appends everything before a file's bytes; returns the number of those.
    pub(super) fn write_head(&self, number: ObjectNumber, file: usize, out: &mut Vec<u8>) -> u64 {
        let Some((placed, file)) =
            self.objects.get(&number).and_then(|placed| Some((placed, placed.files.get(file)?)))
        else {
            debug_assert!(false, "a module lists file {file} of object {number}, which is gone");
            return 0;
        };
        if self.profile.shape == Shape::Object {
            let mut descriptors = Vec::new();
            describe(&placed.object, file.part).write(&mut descriptors, &file.path);
            biop::write_file_head(out, &file.key.to_be_bytes(), file.length as u32, &descriptors);
        }
        file.length
    }

    /// All bytes of a module before compression.
    pub(super) fn whole<E>(&self, id: u16, read: &mut ReadBody<'_, E>) -> Result<Vec<u8>, E> {
        let mut out = Vec::new();
        let Some(module) = self.modules.get(&id) else { return Ok(out) };
        match &module.inside {
            Inside::Files(inside) => {
                for (number, file) in inside {
                    let length = self.write_head(*number, *file, &mut out) as usize;
                    let start = out.len();
                    out.resize(start + length, 0);
                    let offset =
                        self.objects.get(number).and_then(|it| it.files.get(*file)).map_or(0, |it| it.offset);
                    read(*number, offset, &mut out[start..])?;
                }
            }
            Inside::Directories(inside) => {
                for directory in inside {
                    self.write_directory(*directory, &mut out);
                }
            }
        }
        Ok(out)
    }

    fn write_directory(&self, directory: usize, out: &mut Vec<u8>) {
        let Some((_, key)) = self.tree.home(directory) else { return };
        let kind = if directory == 0 { Kind::Gateway } else { Kind::Directory };
        let Ok(()) =
            biop::write_directory::<std::convert::Infallible>(out, &key.to_be_bytes(), kind, |out| {
                let (mut count, mut ior, mut info) = (0, Vec::new(), Vec::new());
                for (name, child) in self.tree.children(directory) {
                    ior.clear();
                    info.clear();
                    let (kind, place) = match child {
                        Child::Directory(child) => (Kind::Directory, self.tree.home(*child)),
                        Child::File(number, file) => {
                            let placed = self.objects.get(number);
                            let Some((placed, file)) = placed.and_then(|it| Some((it, it.files.get(*file)?)))
                            else {
                                continue;
                            };
                            info.extend_from_slice(&file.length.to_be_bytes());
                            describe(&placed.object, file.part).write(&mut info, &file.path);
                            (Kind::File, Some((file.module, file.key)))
                        }
                    };
                    let Some((module, key)) = place else { continue };
                    self.write_ior(&mut ior, kind, module, key);
                    biop::write_binding(out, name.as_bytes(), kind, &ior, &info);
                    count += 1;
                }
                Ok(count)
            });
    }

    fn write_ior(&self, out: &mut Vec<u8>, kind: Kind, module: u16, key: u16) {
        let at = ObjectLocation {
            carousel_id: self.profile.carousel_id,
            module_id: module,
            key: key.to_be_bytes().as_slice().into(),
        };
        // References never change: they match on the identification alone.
        let transaction = TransactionId::new(self.group_of(module) + 1, 0);
        Ior::write(out, kind, &at, &self.tap(), transaction);
    }

    const fn tap(&self) -> BiopTap {
        BiopTap { association_tag: self.profile.association_tag, module_timeout_us: self.profile.timeout_us }
    }

    /// Appends the DSI's section.
    ///
    /// # Errors
    /// If the groups of a data carousel do not fit: some 5,000 modules do.
    pub fn write_initiate(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let private = match self.profile.shape {
            Shape::Object => {
                let mut ior = Vec::new();
                let (module, key) = self.tree.home(0).unwrap_or((1, 0));
                self.write_ior(&mut ior, Kind::Gateway, module, key);
                message::service_gateway_info(&ior)
            }
            Shape::Data => {
                let groups: Vec<_> = self
                    .infos()
                    .map(|group| {
                        let info = self.info(group)?;
                        let size = info.modules.iter().map(|module| module.size).sum();
                        let compatibility = self.profile.compatibility.clone();
                        Ok(message::Group { transaction: info.transaction, size, compatibility })
                    })
                    .collect::<Result<_, WireError>>()?;
                message::group_info_indication(&groups)
            }
        };
        message::write_dsi(out, TransactionId::new(0, self.initiate_updates), &private)
    }

    /// Numbers of the DIIs, which [`Builder::write_info`] takes.
    pub fn infos(&self) -> impl Iterator<Item = u16> {
        self.groups.keys().copied()
    }

    /// Appends the section of a DII.
    ///
    /// # Errors
    /// Never for what [`Builder::add`] has taken.
    pub fn write_info(&self, group: u16, out: &mut Vec<u8>) -> Result<(), WireError> {
        let biop = (self.profile.shape == Shape::Object).then(|| self.tap());
        message::write_dii(out, &self.info(group)?, biop)
    }

    /// The transactionId of a DII.
    pub fn transaction(&self, group: u16) -> TransactionId {
        let updates = self.groups.get(&group).map_or(0, |it| it.updates);
        TransactionId::new(group + 1, updates)
    }

    fn info(&self, group: u16) -> Result<DownloadInfo, WireError> {
        let first = group * self.modules_per_info() + 1;
        let last = first.saturating_add(self.modules_per_info() - 1);
        let modules = self.modules.range(first..=last).map(|(&id, module)| {
            let mut descriptors = Vec::new();
            let link = self.link(module);
            let object = match &module.inside {
                Inside::Files(inside) if self.profile.shape == Shape::Data => {
                    inside.first().and_then(|(number, _)| self.objects.get(number))
                }
                _ => None,
            };
            match object {
                Some(placed) => {
                    let is_first = link.is_none_or(|(position, _)| position == 0);
                    descriptors = module_descriptors(&placed.object, is_first, link, module.original_size)?;
                }
                None => write_compressed(&mut descriptors, module.original_size)?,
            }
            Ok(ModuleInfo {
                id,
                size: module.size,
                version: module.version,
                is_biop: self.profile.shape == Shape::Object,
                descriptors,
            })
        });
        Ok(DownloadInfo {
            transaction: self.transaction(group),
            download_id: self.profile.carousel_id,
            block_size: self.profile.block_bytes,
            modules: modules.collect::<Result<_, WireError>>()?,
        })
    }

    /// Place in the chain of a data carousel's object that has several modules.
    fn link(&self, module: &Module) -> Option<(u8, u16)> {
        let Inside::Files(inside) = &module.inside else { return None };
        let (number, at) = inside.first()?;
        let files = &self.objects.get(number)?.files;
        if self.profile.shape == Shape::Object || files.len() < 2 {
            return None;
        }
        match files.get(at + 1) {
            Some(next) => Some((u8::from(*at > 0), next.module)),
            None => Some((2, 0)),
        }
    }

    /// Starts to send a module. Small and compressed ones are read now, long ones when their blocks are written.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read_module<E>(&self, id: u16, read: &mut ReadBody<'_, E>) -> Result<Option<Reading>, E> {
        let Some(module) = self.modules.get(&id) else { return Ok(None) };
        let (version, size) = (module.version, module.size);
        if let (Inside::Files(inside), None) = (&module.inside, module.original_size)
            && let [(number, file)] = inside.as_slice()
        {
            let mut head = Vec::new();
            self.write_head(*number, *file, &mut head);
            let offset =
                self.objects.get(number).and_then(|it| it.files.get(*file)).map_or(0, |it| it.offset);
            return Ok(Some(Reading { id, version, size, head, body: Some((*number, offset)) }));
        }
        let mut head = self.whole(id, read)?;
        if module.original_size.is_some() {
            head = compressed(&head).unwrap_or(head);
        }
        // A different size means that the object has changed since it was described.
        Ok((head.len() == size as usize).then_some(Reading { id, version, size, head, body: None }))
    }

    /// Appends the section of one block.
    ///
    /// # Errors
    /// Those of `read`.
    #[inline]
    pub fn write_block<E: From<WireError>>(
        &self,
        reading: &Reading,
        number: u16,
        out: &mut Vec<u8>,
        mut read: impl FnMut(ObjectNumber, u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let offset = u32::from(number) * u32::from(self.profile.block_bytes);
        let length = reading.size.saturating_sub(offset).min(u32::from(self.profile.block_bytes)) as usize;
        let block = Block {
            download_id: self.profile.carousel_id,
            module_id: reading.id,
            version: reading.version,
            number,
            data: &[],
        };
        let blocks = reading.size.div_ceil(u32::from(self.profile.block_bytes));
        message::write_ddb(out, &block, length, blocks, |out| {
            let offset = offset as usize;
            let from_head = reading.head.get(offset..).unwrap_or_default();
            let count = from_head.len().min(out.len());
            out[..count].copy_from_slice(&from_head[..count]);
            match reading.body {
                Some((object, start)) if count < out.len() => {
                    let at = start + (offset + count - reading.head.len()) as u64;
                    read(object, at, &mut out[count..])
                }
                _ => Ok(()),
            }
        })
    }
}

fn describe(object: &Carried, part: Option<Part>) -> Description {
    Description {
        uri: Some(object.uri.clone()),
        content_type: object.content_type.clone(),
        digest: Some(object.digest),
        max_age_s: object.max_age_s,
        part,
    }
}

fn write_compressed(out: &mut Vec<u8>, original_size: Option<u32>) -> Result<(), WireError> {
    let Some(size) = original_size else { return Ok(()) };
    let [a, b, c, d] = size.to_be_bytes();
    descriptor::write(out, tag::COMPRESSED_MODULE, &[ZLIB_METHOD, a, b, c, d])
}

/// Descriptors of a data carousel's module: only the first of a chain is named and described.
///
/// # Errors
/// If the name or the type does not fit.
pub(super) fn module_descriptors(
    object: &Carried,
    is_first: bool,
    link: Option<(u8, u16)>,
    original_size: Option<u32>,
) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    if is_first {
        descriptor::write(&mut out, tag::NAME, object.uri.as_bytes())?;
        if let Some(content_type) = &object.content_type {
            descriptor::write(&mut out, tag::TYPE, content_type.as_bytes())?;
        }
    }
    if let Some((position, next)) = link {
        let [high, low] = next.to_be_bytes();
        descriptor::write(&mut out, tag::MODULE_LINK, &[position, high, low])?;
    }
    write_compressed(&mut out, original_size)?;
    if is_first {
        let own = Description { uri: None, content_type: None, ..describe(object, None) };
        own.write(&mut out, "");
    }
    Ok(out)
}

/// CMF byte of a zlib stream with a window of 32 KiB.
const ZLIB_METHOD: u8 = 0x78;

/// A zlib stream, if that saves enough. The same bytes always give the same stream.
pub(super) fn compressed(bytes: &[u8]) -> Option<Vec<u8>> {
    use std::io::Write as _;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().filter(|out| out.len() + bytes.len() / WORTH < bytes.len())
}
