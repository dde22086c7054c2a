//! Power cuts during an update, over a model of a FAT file system, of a slot and of the loader: no machine.
//!
//! The model keeps of what was not synced any part, in any order: a rename may leave both names, a write any prefix. After each
//! cut the loader takes the first image, counts its tries down and starts it; the box must end in exactly version A or B.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};

use super::esp::{Esp, Files, LINUX, OWN, Readable, digest};
use super::name::{ImageName, Slot, Tries};
use super::pe;
use super::slot_error::SlotError;

#[derive(Debug, Clone)]
enum Change {
    Write(String, Vec<u8>),
    Rename(String, String),
    Remove(String),
}

type Entries = BTreeMap<String, Vec<u8>>;

fn apply(entries: &mut Entries, change: &Change) {
    match change {
        Change::Write(path, bytes) => {
            entries.insert(path.clone(), bytes.clone());
        }
        Change::Rename(from, to) => {
            if let Some(bytes) = entries.remove(from) {
                entries.insert(to.clone(), bytes);
            }
        }
        Change::Remove(path) => {
            entries.remove(path);
        }
    }
}

/// A FAT file system whose power goes away after a number of steps.
#[derive(Debug)]
struct Fat {
    on_disk: Entries,
    seen: Entries,
    unsynced: Vec<Change>,
    steps_left: u32,
}

impl Fat {
    fn new(on_disk: Entries) -> Self {
        Self { seen: on_disk.clone(), on_disk, unsynced: Vec::new(), steps_left: u32::MAX }
    }

    fn step(&mut self) -> io::Result<()> {
        self.steps_left = self.steps_left.checked_sub(1).ok_or_else(|| io::Error::other("power cut"))?;
        Ok(())
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        apply(&mut self.seen, &change);
        self.unsynced.push(change);
        self.step()
    }

    /// Entries that are there when the power is back.
    fn cut(mut self, random: &mut fastrand::Rng) -> Entries {
        random.shuffle(&mut self.unsynced);
        for change in &self.unsynced {
            match (change, random.u8(0..3)) {
                (_, 0) => {}
                (Change::Write(path, bytes), 1) => {
                    let kept = random.usize(0..=bytes.len());
                    self.on_disk.insert(path.clone(), bytes[..kept].to_vec());
                }
                (Change::Rename(from, to), 1) => {
                    if let Some(bytes) = self.on_disk.get(from).cloned() {
                        self.on_disk.insert(to.clone(), bytes);
                    }
                }
                (change, _) => apply(&mut self.on_disk, change),
            }
        }
        self.on_disk
    }
}

impl Files for Fat {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let inside = self.seen.keys().filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/'));
        Ok(inside.map(str::to_owned).collect())
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Readable + '_>> {
        let bytes = self.seen.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes.as_slice())))
    }

    fn write(&mut self, path: &str, from: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        self.change(Change::Write(path.to_owned(), bytes))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.change(Change::Remove(path.to_owned()))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.step()?;
        self.on_disk.clone_from(&self.seen);
        self.unsynced.clear();
        self.step()
    }
}

fn root_hash(version: &str) -> String {
    digest(&mut version.as_bytes()).unwrap()
}

fn uki(version: &str) -> Vec<u8> {
    let osrel = format!("IMAGE_VERSION={version}\n");
    pe::write(&[(".osrel", &osrel), (".cmdline", &format!("skycache.verity={}", root_hash(version)))])
}

/// EFI partition and the root hash of what each slot holds; `None`: half written.
struct Machine {
    esp: Entries,
    slots: [Option<String>; 2],
}

impl Machine {
    /// 1.4 in A, and what an earlier life left in B.
    fn new(earlier: Option<&str>) -> Self {
        let mut esp = Entries::from([(format!("{LINUX}/skycache_1.4_a.efi"), uki("1.4"))]);
        if let Some(version) = earlier {
            esp.insert(format!("{LINUX}/skycache_{version}_b.efi"), uki(version));
        }
        Self { esp, slots: [Some(root_hash("1.4")), earlier.map(root_hash)] }
    }

    /// Does what RAUC does, until the power goes away after `steps`.
    fn update(&mut self, version: &str, steps: u32, random: &mut fastrand::Rng) -> Result<(), SlotError> {
        let mut esp = Esp::new(Fat::new(std::mem::take(&mut self.esp)));
        esp.files.steps_left = steps;
        let image = uki(version);
        let sha256 = digest(&mut image.as_slice()).unwrap();
        let done = (|| {
            esp.stage(version, &sha256, &mut image.as_slice())?;
            esp.disarm(Slot::B)?;
            self.slots[1] = None;
            esp.files.step().map_err(|err| SlotError::File(String::new(), err))?;
            self.slots[1] = Some(root_hash(version));
            esp.files.step().map_err(|err| SlotError::File(String::new(), err))?;
            esp.arm(Slot::B, &root_hash(version)[..32])
        })();
        self.esp = esp.files.cut(random);
        done
    }

    /// Starts as firmware, loader and initial RAM disk do, until something is healthy. `is_healthy`: by version.
    fn start(&mut self, is_healthy: fn(&str) -> bool) -> String {
        for _ in 0..20 {
            let esp = Esp::new(Fat::new(std::mem::take(&mut self.esp)));
            let mut image = esp.images().unwrap().first().cloned().expect("the loader has nothing to start");
            let mut esp = esp;
            if let Some(Tries { left, done }) = image.tries {
                assert!(left > 0, "the loader has only images without tries: {image}");
                let counted = image.with(Some(Tries { left: left - 1, done: done + 1 }));
                esp.files.rename(&format!("{LINUX}/{image}"), &format!("{LINUX}/{counted}")).unwrap();
                image = counted;
            }
            let bytes = esp.files.seen[&format!("{LINUX}/{image}")].clone();
            let said = pe::read(&mut Cursor::new(&bytes)).expect("a bootable name of a damaged image");
            assert_eq!(bytes, uki(&said.version), "{image}");
            let slot = usize::from(image.slot == Slot::B);
            // The initial RAM disk finds the slot by its tree.
            if self.slots[slot].as_ref() == Some(&said.root_hash) && is_healthy(&said.version) {
                esp.bless(&image.to_string(), image.slot).unwrap();
                self.esp = esp.files.seen;
                return said.version;
            }
            self.esp = esp.files.seen;
        }
        panic!("nothing becomes healthy");
    }
}

#[test]
fn after_any_power_cut_exactly_one_version_runs_and_the_update_can_be_taken_again() {
    let (mut with_old, mut with_new) = (0, 0);
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let earlier = [None, Some("1.3"), Some("1.5"), Some("1.4~rc1")][random.usize(0..4)];
        let mut machine = Machine::new(if earlier == Some("1.5") { None } else { earlier });
        let steps = random.u32(0..24);
        let done = machine.update("1.5", steps, &mut random);
        let version = machine.start(|_| true);
        match version.as_str() {
            "1.4" => with_old += 1,
            "1.5" => with_new += 1,
            other => panic!("seed {seed}: {other} runs"),
        }
        assert!(done.is_err() || version == "1.5", "seed {seed}: installed, and {version} runs");
        if version == "1.4" {
            machine.update("1.5", u32::MAX, &mut random).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            assert_eq!(machine.start(|_| true), "1.5", "seed {seed}");
        }
        let left: Vec<&String> = machine.esp.keys().filter(|it| it.starts_with(OWN)).collect();
        assert!(left.len() <= 1, "seed {seed}: {left:?}");
    }
    assert!(with_old > 50 && with_new > 50, "{with_old} ran the old version, {with_new} the new one");
}

#[test]
fn a_version_that_never_becomes_healthy_is_left_after_its_tries_and_not_taken_again() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut machine = Machine::new(Some("1.3"));
    machine.update("1.5", u32::MAX, &mut random).unwrap();
    assert_eq!(machine.start(|version| version != "1.5"), "1.4");
    let names: Vec<&String> = machine.esp.keys().collect();
    assert_eq!(names, ["EFI/Linux/skycache_1.4_a.efi", "EFI/Linux/skycache_1.5_b+0-3.efi"]);
    let esp = Esp::new(Fat::new(machine.esp));
    let sha256 = |version: &str| digest(&mut uki(version).as_slice()).unwrap();
    assert!(esp.has_failed(&sha256("1.5")).unwrap());
    assert!(!esp.has_failed(&sha256("1.6")).unwrap());
}

#[test]
fn what_rauc_disarmed_is_not_started_and_not_counted_as_failed() {
    let mut esp = Esp::new(Fat::new(Machine::new(Some("1.5")).esp));
    assert_eq!(esp.primary().unwrap(), Some(Slot::B));
    esp.disarm(Slot::B).unwrap();
    assert_eq!(esp.primary().unwrap(), Some(Slot::A));
    let image = ImageName::parse("skycache_1.5_b+0.efi").unwrap();
    assert!(esp.images().unwrap().contains(&image) && !image.has_failed());
    assert!(esp.arm(Slot::B, &root_hash("1.5")[..32]).is_err(), "nothing is staged");
}

#[test]
fn a_way_back_is_taken_although_it_is_older() {
    let mut machine = Machine::new(None);
    machine.update("1.2", u32::MAX, &mut fastrand::Rng::with_seed(3)).unwrap();
    assert_eq!(machine.start(|_| true), "1.2");
}

#[test]
fn a_staged_image_that_is_not_what_its_name_says_is_not_armed() {
    let image = uki("1.5");
    let sha256 = digest(&mut image.as_slice()).unwrap();
    for (version, tree, is_armed) in [("1.6", "1.5", false), ("1.5", "1.6", false), ("1.5", "1.5", true)] {
        let mut esp = Esp::new(Fat::new(Machine::new(None).esp));
        esp.stage(version, &sha256, &mut image.as_slice()).unwrap();
        let armed = esp.arm(Slot::B, &root_hash(tree)[..32]);
        assert_eq!(armed.is_ok(), is_armed, "{version} {tree}: {armed:?}");
        assert_eq!(esp.primary().unwrap(), Some(if is_armed { Slot::B } else { Slot::A }));
    }
}
