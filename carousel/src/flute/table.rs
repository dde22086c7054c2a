//! The FDT of one session: the union of its unexpired instances (RFC 6726 sections 3.2 and 3.3).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::fdt::{FdtInstance, File};
use crate::lct::Toi;
use crate::limits::{MAX_FDT_TEXT_BYTES, MAX_FILES_PER_SESSION, UNDATED_EXPIRY};
use crate::time::{Instant, WallTime};

/// Description of one TOI.
#[derive(Debug)]
struct Entry {
    file: Arc<File>,
    /// The latest expiry of the instances that described it, NTP seconds.
    expires: u32,
    /// Sequence number of the last instance that described it; the lowest is removed first when the table is full.
    described: u64,
    /// The FDT Instance ID of that instance, and the time of its reception.
    instance_id: u32,
    described_at: Instant,
}

/// All announced objects of a session that have not expired.
///
/// Bounded by [`MAX_FILES_PER_SESSION`] and [`MAX_FDT_TEXT_BYTES`]: some senders, such as GPAC, never let entries expire,
/// so a full table drops the eighth that was described longest ago.
#[derive(Debug, Default)]
pub struct FdtTable {
    entries: HashMap<Toi, Entry>,
    text_bytes: usize,
    instances: u64,
    forgotten: u64,
    /// Lower bound of all expiries; `None` if the table is empty.
    earliest_expiry: Option<u32>,
    next_undated_scan: Instant,
}

/// Memory of an entry in addition to its text: itself, and the shared description.
const ENTRY_BYTES: usize = 550;

/// Interval at which entries are checked while the date is unknown.
const UNDATED_SCAN: Duration = Duration::from_secs(60);

/// Change of one TOI by an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Described {
    /// Not known before.
    New(Arc<File>),
    /// The same object; the description may have more detail.
    Again(Arc<File>),
    /// The TOI was reused for other bytes: data received for it is invalid.
    Replaced {
        /// Earlier description.
        old: Arc<File>,
        /// New description.
        new: Arc<File>,
    },
}

impl FdtTable {
    /// The description of `toi`.
    pub fn get(&self, toi: Toi) -> Option<&Arc<File>> {
        self.entries.get(&toi).map(|entry| &entry.file)
    }

    /// Number of described files.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is described.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All files, in no order.
    pub fn files(&self) -> impl Iterator<Item = &Arc<File>> {
        self.entries.values().map(|entry| &entry.file)
    }

    /// Of the files of each name, the one that was described last.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Arc<File>> {
        let mut newest: HashMap<&str, &Entry> = HashMap::with_capacity(self.entries.len());
        for entry in self.entries.values() {
            let order = |it: &Entry| (it.described, it.file.toi);
            let known = newest.entry(&entry.file.content_location).or_insert(entry);
            if order(entry) > order(known) {
                *known = entry;
            }
        }
        newest.into_values().map(|entry| &entry.file)
    }

    /// Approximate memory of the table.
    pub(crate) fn held_bytes(&self) -> usize {
        self.text_bytes + self.entries.len() * ENTRY_BYTES
    }

    /// Total number of entries removed because of the limits.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Adds an instance to the union; `each` is called with the change of each file. Returns the files that were removed
    /// to make room.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        instance_id: u32,
        instance: FdtInstance,
        mut each: impl FnMut(Described),
    ) -> Vec<Arc<File>> {
        self.instances += 1;
        let expires = instance.expires;
        let mut removed = Vec::new();
        if !instance.files.is_empty() {
            self.earliest_expiry = Some(self.earliest_expiry.map_or(expires, |it| earlier(it, expires)));
        }
        for file in instance.files {
            let toi = file.toi;
            let text_bytes = file.text_bytes();
            let file = Arc::new(file);
            let described = self.instances;
            let new = |file: &Arc<File>| Entry {
                file: Arc::clone(file),
                expires,
                described,
                instance_id,
                described_at: now,
            };
            let change = match self.entries.get_mut(&toi) {
                Some(entry) if entry.file.is_same_object(&file) => {
                    entry.expires = later(entry.expires, expires);
                    (entry.described, entry.instance_id, entry.described_at) = (described, instance_id, now);
                    self.text_bytes = self.text_bytes.saturating_sub(entry.file.text_bytes());
                    if *entry.file != *file {
                        entry.file = Arc::clone(&file);
                    }
                    Described::Again(Arc::clone(&entry.file))
                }
                Some(entry) => {
                    self.text_bytes = self.text_bytes.saturating_sub(entry.file.text_bytes());
                    let old = std::mem::replace(entry, new(&file));
                    Described::Replaced { old: old.file, new: file }
                }
                None => {
                    self.make_room(text_bytes, &mut removed);
                    self.entries.insert(toi, new(&file));
                    Described::New(file)
                }
            };
            self.text_bytes += text_bytes;
            each(change);
        }
        removed
    }

    /// Removes and returns expired entries. With a date, by the `Expires` of their instances. Without one, entries age
    /// from the last reception of an instance with them: `heard` returns that time for an FDT Instance ID.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        wall: Option<WallTime>,
        heard: impl Fn(u32) -> Option<Instant>,
    ) -> Vec<Arc<File>> {
        let is_due = match (wall, self.earliest_expiry) {
            (_, None) => false,
            (Some(wall), Some(earliest)) => WallTime::from_ntp_seconds(earliest, wall) < wall,
            (None, Some(_)) => now >= self.next_undated_scan,
        };
        if !is_due {
            return Vec::new();
        }
        self.next_undated_scan = now + UNDATED_SCAN;
        let mut heard_at: HashMap<u32, Instant> = HashMap::new();
        let mut removed = Vec::new();
        let mut earliest = None;
        self.entries.retain(|_, entry| {
            let keep = match wall {
                Some(wall) => WallTime::from_ntp_seconds(entry.expires, wall) >= wall,
                None => {
                    let id = entry.instance_id;
                    let heard = *heard_at.entry(id).or_insert_with(|| heard(id).unwrap_or_default());
                    now.since(heard.max(entry.described_at)) < UNDATED_EXPIRY
                }
            };
            if keep {
                earliest = Some(earliest.map_or(entry.expires, |it| earlier(it, entry.expires)));
            } else {
                removed.push(Arc::clone(&entry.file));
            }
            keep
        });
        self.earliest_expiry = earliest;
        let freed: usize = removed.iter().map(|file| file.text_bytes()).sum();
        self.text_bytes = self.text_bytes.saturating_sub(freed);
        if self.entries.capacity() > 4 * self.entries.len() + 64 {
            self.entries.shrink_to_fit();
        }
        removed
    }

    fn make_room(&mut self, text_bytes: usize, removed: &mut Vec<Arc<File>>) {
        if self.entries.len() < MAX_FILES_PER_SESSION && self.text_bytes + text_bytes <= MAX_FDT_TEXT_BYTES {
            return;
        }
        let mut ages: Vec<u64> = self.entries.values().map(|entry| entry.described).collect();
        if ages.is_empty() {
            return;
        }
        let eighth = ages.len() / 8;
        let (_, &mut oldest_kept, _) = ages.select_nth_unstable(eighth);
        let before = self.entries.len();
        // All entries of one instance may have the same age; then an arbitrary half is removed.
        let mut spare = before / 2;
        let freed = &mut self.text_bytes;
        self.entries.retain(|_, entry| {
            let goes = entry.described < oldest_kept || (entry.described == oldest_kept && spare > 0);
            if goes {
                spare = spare.saturating_sub(1);
                *freed = freed.saturating_sub(entry.file.text_bytes());
                removed.push(Arc::clone(&entry.file));
            }
            !goes
        });
        self.forgotten += (before - self.entries.len()) as u64;
    }
}

/// The later of two NTP times, across a wrap-around.
const fn later(a: u32, b: u32) -> u32 {
    if b.wrapping_sub(a) < 1 << 31 { b } else { a }
}

/// The earlier of two NTP times, across a wrap-around.
const fn earlier(a: u32, b: u32) -> u32 {
    if later(a, b) == a { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_nanos(0);

    fn file(toi: u128, name: &str, length: u64) -> File {
        File {
            content_location: name.to_owned(),
            toi: Toi(toi),
            content_length: Some(length),
            ..File::default()
        }
    }

    fn instance(expires: u32, files: Vec<File>) -> FdtInstance {
        FdtInstance { expires, files, ..FdtInstance::default() }
    }

    #[test]
    fn instances_add_up_and_expire_one_by_one() {
        let now = WallTime::from_unix_ms(1_795_219_200_000);
        let at = |seconds: i64| now.plus_ms(seconds * 1000).ntp_seconds();
        let mut table = FdtTable::default();
        table.add(T0, 1, instance(at(10), vec![file(1, "a", 1), file(2, "b", 1)]), |_| {});
        table.add(T0, 1, instance(at(20), vec![file(2, "b", 1), file(3, "c", 1)]), |_| {});
        assert_eq!(table.len(), 3);
        assert_eq!(table.expire(T0, Some(now.plus_ms(15_000)), |_| None).len(), 1);
        assert_eq!((table.get(Toi(1)), table.len()), (None, 2));
        assert_eq!(table.expire(T0, Some(now.plus_ms(25_000)), |_| None).len(), 2);
        assert!(table.is_empty());
    }

    #[test]
    fn a_toi_used_again_for_other_bytes_is_told_from_a_fuller_description() {
        let mut table = FdtTable::default();
        let mut seen = Vec::new();
        table.add(T0, 1, instance(9, vec![file(1, "a", 5)]), |change| seen.push(change));
        let fuller =
            File { content_type: Some("text/plain".into()), content_md5: Some([1; 16]), ..file(1, "a", 5) };
        table.add(T0, 1, instance(9, vec![fuller.clone()]), |change| seen.push(change));
        table.add(T0, 1, instance(9, vec![file(1, "a", 6)]), |change| seen.push(change));
        table.add(T0, 1, instance(9, vec![file(1, "b", 6)]), |change| seen.push(change));
        assert!(
            matches!(&seen[..], [Described::New(_), Described::Again(again), Described::Replaced { .. }, Described::Replaced { .. }] if **again == fuller)
        );
    }

    #[test]
    fn a_sender_that_lets_nothing_expire_pushes_out_the_oldest() {
        let mut table = FdtTable::default();
        for toi in 0..MAX_FILES_PER_SESSION as u128 + 10 {
            table.add(T0, 1, instance(u32::MAX, vec![file(toi + 1, "x", 1)]), |_| {});
        }
        assert!(table.len() <= MAX_FILES_PER_SESSION);
        assert!(table.forgotten() > 0 && table.get(Toi(1)).is_none());
        assert!(table.get(Toi(MAX_FILES_PER_SESSION as u128 + 10)).is_some());
    }

    #[test]
    fn one_instance_cannot_grow_the_table_past_its_limit() {
        let mut table = FdtTable::default();
        let files = (0..MAX_FILES_PER_SESSION as u128 * 2).map(|toi| file(toi + 1, "x", 1)).collect();
        table.add(T0, 1, instance(u32::MAX, files), |_| {});
        assert!(table.len() <= MAX_FILES_PER_SESSION);
    }

    #[test]
    fn the_later_expiry_wins_across_the_wrap_of_2036() {
        assert_eq!(later(u32::MAX - 5, 10), 10);
        assert_eq!(later(10, u32::MAX - 5), 10);
    }

    #[test]
    fn without_a_date_entries_age_from_the_last_time_their_instance_came() {
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let bound = UNDATED_EXPIRY.as_secs();
        let mut table = FdtTable::default();
        table.add(at(0), 1, instance(9, vec![file(1, "a", 1)]), |_| {});
        table.add(at(0), 2, instance(9, vec![file(2, "b", 1)]), |_| {});
        let heard = |id: u32| (id == 2).then_some(at(bound));
        assert!(table.expire(at(bound - 1), None, heard).is_empty());
        assert_eq!(table.expire(at(bound + 100), None, heard).len(), 1, "the one that came again stays");
        assert_eq!(table.expire(at(2 * bound + 100), None, heard).len(), 1);
        assert!(table.is_empty() && table.text_bytes == 0);
    }

    #[test]
    fn thousands_of_entries_leave_no_memory_behind() {
        let now = WallTime::from_unix_ms(1_795_219_200_000);
        let mut table = FdtTable::default();
        for toi in 0..10_000 {
            table.add(T0, toi, instance(now.ntp_seconds(), vec![file(u128::from(toi) + 1, "x", 1)]), |_| {});
        }
        assert_eq!(table.expire(T0, Some(now.plus_ms(2000)), |_| None).len(), 10_000);
        assert_eq!((table.entries.capacity(), table.text_bytes), (0, 0));
    }

    #[test]
    fn an_earlier_expiry_in_a_later_instance_shortens_nothing() {
        let now = WallTime::from_unix_ms(1_795_219_200_000);
        let at = |seconds: i64| now.plus_ms(seconds * 1000).ntp_seconds();
        let mut table = FdtTable::default();
        table.add(T0, 1, instance(at(100), vec![file(1, "a", 1)]), |_| {});
        table.add(T0, 2, instance(at(10), vec![file(1, "a", 1)]), |_| {});
        assert!(table.expire(T0, Some(now.plus_ms(50_000)), |_| None).is_empty());
        assert!(table.expire(T0, Some(now.plus_ms(100_000)), |_| None).is_empty(), "the last second counts");
        assert_eq!(table.expire(T0, Some(now.plus_ms(101_000)), |_| None).len(), 1);
    }

    #[test]
    fn names_are_bounded_in_bytes_too_and_make_room() {
        let mut table = FdtTable::default();
        let long = "x".repeat(1 << 16);
        let entries = MAX_FDT_TEXT_BYTES >> 16;
        let mut removed = Vec::new();
        for toi in 0..=entries as u128 {
            let name = format!("{toi:06}{}", &long[6..]);
            removed.extend(table.add(T0, 1, instance(u32::MAX, vec![file(toi + 1, &name, 1)]), |_| {}));
            assert!(table.text_bytes <= MAX_FDT_TEXT_BYTES);
        }
        // An eighth and the one that is as old as its youngest make room for one that is too many.
        assert_eq!((removed.len(), table.forgotten()), (entries / 8 + 1, removed.len() as u64));
        assert_eq!(removed.iter().map(|it| it.toi.0).min(), Some(1));
        assert_eq!(table.len(), entries + 1 - removed.len());
        assert_eq!(table.text_bytes, table.len() << 16);
    }

    #[test]
    fn an_entry_whose_instance_is_not_remembered_ages_from_its_description() {
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let bound = UNDATED_EXPIRY.as_secs();
        let mut table = FdtTable::default();
        table.add(at(bound), 1, instance(9, vec![file(1, "a", 1)]), |_| {});
        assert!(table.expire(at(bound + 10), None, |_| None).is_empty());
        // Entries are checked once a minute; until then nothing expires.
        table.add(at(bound + 11), 2, instance(9, vec![file(2, "b", 1)]), |_| {});
        assert_eq!(table.expire(at(2 * bound + 5), None, |_| None).len(), 1);
        assert!(table.expire(at(2 * bound + 5 + 59), None, |_| None).is_empty(), "due, and not looked at");
        assert_eq!(table.expire(at(2 * bound + 5 + 60), None, |_| None).len(), 1);
    }

    #[test]
    fn entries_expire_by_their_own_second_and_make_room_only_for_one_too_many() {
        let now = WallTime::from_unix_ms(1_795_219_200_000);
        let at = |seconds: i64| now.plus_ms(seconds * 1000).ntp_seconds();
        let mut table = FdtTable::default();
        table.add(T0, 1, instance(at(5), vec![file(1, "a", 1)]), |_| {});
        table.add(T0, 2, instance(at(10), vec![file(2, "b", 1)]), |_| {});
        let expired = table.expire(T0, Some(now.plus_ms(10_000)), |_| None);
        assert_eq!(expired.iter().map(|file| file.toi).collect::<Vec<_>>(), [Toi(1)]);
        let mut full = FdtTable::default();
        let files = (1..=MAX_FILES_PER_SESSION as u128).map(|toi| file(toi, "x", 1)).collect();
        full.add(T0, 1, instance(u32::MAX, files), |_| {});
        assert_eq!((full.len(), full.forgotten()), (MAX_FILES_PER_SESSION, 0));
        full.add(T0, 2, instance(u32::MAX, vec![file(1 << 20, "x", 1)]), |_| {});
        assert!(full.forgotten() > 0 && full.len() < MAX_FILES_PER_SESSION);
    }
}
