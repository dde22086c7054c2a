//! The EFI partition: its images, which of them the loader starts, and every change to them.
//!
//! FAT has no journal: a power cut may keep any part of the changes since the last `sync`. Each step that needs an earlier one on
//! the disk syncs first.

use std::cmp::Ordering;
use std::io::{self, Read, Seek};
use std::path::PathBuf;

use carousel::digest::Digest;

use super::name::{ImageName, Slot, Tries};
use super::slot_error::SlotError;
use super::{pe, version};

/// Bootable images.
pub(super) const LINUX: &str = "EFI/Linux";
/// Our files that the loader must not see.
pub(super) const OWN: &str = "EFI/skycache";
/// Tries of an armed image. The firmware's boot order lists the loader one time more than this.
pub(super) const TRIES: u32 = 3;

/// A file that is read.
pub(super) trait Readable: Read + Seek {}
impl<T: Read + Seek> Readable for T {}

/// Operations on a file system.
pub(super) trait Files {
    /// Names in a folder; none if it does not exist.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    fn open(&self, path: &str) -> io::Result<Box<dyn Readable + '_>>;
    fn write(&mut self, path: &str, from: &mut dyn Read) -> io::Result<()>;
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&mut self, path: &str) -> io::Result<()>;
    /// Returns when all earlier changes are on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// A mounted EFI partition.
#[derive(Debug)]
pub(super) struct Folder(pub PathBuf);

impl Files for Folder {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        match std::fs::read_dir(self.0.join(folder)) {
            Ok(entries) => {
                entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(err) => Err(err),
        }
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Readable + '_>> {
        Ok(Box::new(std::fs::File::open(self.0.join(path))?))
    }

    fn write(&mut self, path: &str, from: &mut dyn Read) -> io::Result<()> {
        let path = self.0.join(path);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let mut file = std::fs::File::create(path)?;
        io::copy(from, &mut file)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(path))
    }

    fn sync(&mut self) -> io::Result<()> {
        // Entries of folders and the table of clusters: vfat writes both with the file system alone, and std has no syncfs.
        let status = std::process::Command::new("sync").arg("--file-system").arg(&self.0).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("sync: {status}"))) }
    }
}

/// SHA-256 of the rest of a reader, as digits.
pub(super) fn digest(from: &mut dyn Read) -> io::Result<String> {
    let mut hasher = Digest::hasher();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finish().to_hex());
        }
        hasher.update(&buffer[..read]);
    }
}

/// Images on an EFI partition.
#[derive(Debug)]
pub(super) struct Esp<F> {
    pub(super) files: F,
}

impl<F: Files> Esp<F> {
    pub(super) const fn new(files: F) -> Self {
        Self { files }
    }

    /// Images in the loader's order: startable before others, later versions before earlier ones.
    ///
    /// # Errors
    /// As for every method: a file that cannot be read or written, with its path.
    pub(super) fn images(&self) -> Result<Vec<ImageName>, SlotError> {
        let names = self.files.list(LINUX).map_err(|err| failed(LINUX, err))?;
        let mut images: Vec<ImageName> = names.iter().filter_map(|name| ImageName::parse(name)).collect();
        images.sort_by(order);
        Ok(images)
    }

    /// The slot of the next start, as far as it can be predicted.
    ///
    /// # Errors
    /// As [`Esp::images`].
    pub(super) fn primary(&self) -> Result<Option<Slot>, SlotError> {
        Ok(self.images()?.first().map(|it| it.slot))
    }

    /// RAUC's `get-state`: whether a slot would be started.
    ///
    /// # Errors
    /// As [`Esp::images`].
    pub(super) fn is_good(&self, slot: Slot) -> Result<bool, SlotError> {
        Ok(self.images()?.iter().any(|it| it.slot == slot && it.is_startable()))
    }

    fn rename(&mut self, from: &ImageName, to: &ImageName) -> Result<(), SlotError> {
        if from == to {
            return Ok(());
        }
        let (from, to) = (format!("{LINUX}/{from}"), format!("{LINUX}/{to}"));
        self.files.rename(&from, &to).map_err(|err| failed(&from, err))
    }

    fn remove(&mut self, path: &str) -> Result<(), SlotError> {
        self.files.remove(path).map_err(|err| failed(path, err))
    }

    fn sync(&mut self) -> Result<(), SlotError> {
        self.files.sync().map_err(|err| failed("the EFI partition", err))
    }

    /// Prevents starts of the slot's images while there is another image, until one is armed. RAUC calls it before it writes
    /// the slot. Images that have failed keep their count, which identifies them.
    ///
    /// # Errors
    /// As [`Esp::images`].
    pub(super) fn disarm(&mut self, slot: Slot) -> Result<(), SlotError> {
        for image in self.images()?.iter().filter(|it| it.slot == slot && it.is_startable()) {
            self.rename(image, &image.with(Some(Tries { left: 0, done: 0 })))?;
        }
        self.sync()
    }

    /// Rejects a slot for an operator: it counts as failed, so that the same image is not installed again.
    ///
    /// # Errors
    /// Also if the other slot cannot be started.
    pub(super) fn reject(&mut self, slot: Slot) -> Result<(), SlotError> {
        if !self.is_good(slot.other())? {
            return Err(SlotError::NoFallback(slot.other()));
        }
        for image in self.images()?.iter().filter(|it| it.slot == slot) {
            let done = image.tries.map_or(1, |it| it.done.max(1));
            self.rename(image, &image.with(Some(Tries { left: 0, done })))?;
        }
        self.sync()
    }

    /// Whether this image failed before: it is not tried again until it changes.
    ///
    /// # Errors
    /// As [`Esp::images`].
    pub(super) fn has_failed(&self, sha256: &str) -> Result<bool, SlotError> {
        for image in self.images()?.iter().filter(|it| it.has_failed()) {
            let path = format!("{LINUX}/{image}");
            if self.digest_of(&path)? == sha256 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn digest_of(&self, path: &str) -> Result<String, SlotError> {
        let mut file = self.files.open(path).map_err(|err| failed(path, err))?;
        digest(&mut *file).map_err(|err| failed(path, err))
    }

    fn verify(&self, path: &str, sha256: &str) -> Result<(), SlotError> {
        match self.digest_of(path)? {
            found if found == sha256 => Ok(()),
            found => Err(SlotError::Digest { path: path.to_owned(), found, expected: sha256.to_owned() }),
        }
    }

    fn staged(&self) -> Result<Vec<String>, SlotError> {
        let names = self.files.list(OWN).map_err(|err| failed(OWN, err))?;
        Ok(names.into_iter().filter(|name| name.starts_with("staged_")).collect())
    }

    /// Writes a kernel image to the partition under a name that is not bootable, and reads it back.
    ///
    /// # Errors
    /// Also if the bytes read back differ.
    pub(super) fn stage(
        &mut self,
        version: &str,
        sha256: &str,
        from: &mut dyn Read,
    ) -> Result<(), SlotError> {
        for name in self.staged()? {
            self.remove(&format!("{OWN}/{name}"))?;
        }
        self.sync()?;
        let path = format!("{OWN}/staged_{version}_{sha256}");
        self.files.write(&path, from).map_err(|err| failed(&path, err))?;
        self.sync()?;
        self.verify(&path, sha256)
    }

    /// Makes the slot the next one: the staged image gets its bootable name, with tries. RAUC calls it when the slot is
    /// written. `tree`: UUID of the slot's hash tree as it is on the disk, 32 digits.
    ///
    /// # Errors
    /// Also if the staged image is damaged or does not belong to what is in the slot.
    pub(super) fn arm(&mut self, slot: Slot, tree: &str) -> Result<(), SlotError> {
        if let Some(name) = self.staged()?.first() {
            let path = format!("{OWN}/{name}");
            let parts: Vec<&str> = name.split('_').collect();
            let [_, version, sha256] = parts[..] else {
                return Err(SlotError::Content(path, "not a name of a staged image".to_owned()));
            };
            self.verify(&path, sha256)?;
            let mut file = self.files.open(&path).map_err(|err| failed(&path, err))?;
            let image = pe::read(&mut file).map_err(|err| SlotError::Content(path.clone(), err))?;
            drop(file);
            if image.version != version {
                let what = format!("its IMAGE_VERSION is {}", image.version);
                return Err(SlotError::Content(path, what));
            }
            if tree.len() != 32 || !image.root_hash.starts_with(tree) {
                let what = format!("slot {slot} has the hash tree {tree}, which is another image's");
                return Err(SlotError::Content(path, what));
            }
            // Older images of the slot do not belong to its content; one may have the new image's name.
            for old in self.images()?.iter().filter(|it| it.slot == slot) {
                self.remove(&format!("{LINUX}/{old}"))?;
            }
            self.sync()?;
            let tries = Some(Tries { left: TRIES, done: 0 });
            let armed = ImageName { version: version.to_owned(), slot, tries };
            self.files.rename(&path, &format!("{LINUX}/{armed}")).map_err(|err| failed(&path, err))?;
            self.sync()?;
        }
        if !self.is_good(slot)? {
            return Err(SlotError::NotStartable(slot));
        }
        if self.primary()? != Some(slot) {
            // The other slot's image is later, and would be started first.
            self.disarm(slot.other())?;
        }
        Ok(())
    }

    /// Marks the image that the loader reports to have started as healthy, and no other.
    ///
    /// # Errors
    /// Also if the loader started another image than the running one.
    pub(super) fn bless(&mut self, selected: &str, running: Slot) -> Result<ImageName, SlotError> {
        let foreign =
            || SlotError::Loader(format!("the loader started {selected:?}, which is not an image of ours"));
        let selected = ImageName::parse(selected).ok_or_else(foreign)?;
        if selected.slot != running {
            return Err(SlotError::Loader(format!("the loader started {selected}, but slot {running} runs")));
        }
        let blessed = selected.with(None);
        let mut same: Vec<ImageName> =
            self.images()?.into_iter().filter(|it| it.is_same_image(&selected)).collect();
        if !same.contains(&blessed) {
            let Some(image) = same.pop() else {
                return Err(SlotError::Loader(format!("{selected} is not on the EFI partition any more")));
            };
            self.rename(&image, &blessed)?;
            self.sync()?;
        }
        // A power cut in a rename can leave both names, of the same bytes.
        for image in same.iter().filter(|it| **it != blessed) {
            self.remove(&format!("{LINUX}/{image}"))?;
        }
        let started = format!("started_{running}");
        if self.files.list(OWN).is_ok_and(|names| names.contains(&started)) {
            self.remove(&format!("{OWN}/{started}"))?;
        }
        self.sync()?;
        Ok(blessed)
    }
}

/// systemd-boot's: without tries last, then the later version first, then the name.
fn order(one: &ImageName, other: &ImageName) -> Ordering {
    let startable = other.is_startable().cmp(&one.is_startable());
    startable
        .then_with(|| version::compare(&other.version, &one.version))
        .then_with(|| other.to_string().cmp(&one.to_string()))
}

fn failed(what: &str, err: io::Error) -> SlotError {
    SlotError::File(what.to_owned(), err)
}
