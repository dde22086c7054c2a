//! Memory that may be filled from the outside: how much the process may use, and its division into budgets.
//!
//! `[receive] memory_bytes` is what all that is received may fill; unless it is set, it follows from the memory of the control group
//! or of the machine, so that a box of 64 MB keeps within it whatever senders do. Each budget is a share of it, up to a limit below.
//! Rooms get their budget as a number when they are made.

use std::fs;
use std::path::Path;

use carousel::fec::MAX_BLOCK_BYTES;
use carousel::limits::{MAX_CAROUSEL_BINDING_BYTES, MAX_SESSIONS_BYTES, MAX_XML_BYTES};
use carousel::mabr::MAX_CONFIGURATIONS_BYTES;

carousel::limits! {
    /// Memory that queued and running work of the finishers may take, where there is plenty.
    pub const MAX_FINISHING_BYTES: u64 = 128 << 20, "bytes" {
        why: "Decoding takes five times the block: 25 blocks of a megabyte. A box of 64 MB has a tenth.",
        full: "Work waits in its shard; a document or a source block that is larger by itself runs alone. A block that takes a third of the memory for what is received is not decoded and counted in `receive_blocks_too_large`.",
        free: "When the shard has taken the result.",
        test: "work_is_bounded_by_its_bytes_and_room_comes_back",
    }

    /// Memory of the work of one shard that waits for a worker, where there is plenty: documents, symbols of blocks of ROUTE. One piece
    /// may take more.
    pub const MAX_WORK_BYTES: usize = 32 << 20, "bytes" {
        why: "Two blocks of segments of ten seconds at 10 Mbit/s; a document has some 100 KB, and 8 MiB at most.",
        full: "As for MAX_WORK.",
        free: "When a worker takes the piece.",
        test: "documents_that_wait_for_a_worker_are_bounded_in_memory",
    }

    /// Announced names that are remembered, where there is plenty of memory.
    pub const MAX_ANNOUNCED: usize = 131_072, "names" {
        why: "A large catalogue has 100,000 objects; some 500 bytes each.",
        full: "The oldest makes room: a player that asks for it is answered by the origin at once.",
        free: "When its object is held, gone, or no longer described.",
        test: "announcements_come_and_go_and_the_oldest_makes_room",
    }

    /// Bytes of all signalling documents that are kept, and of those on their way to the session thread, where there is plenty.
    pub const MAX_DOCUMENTS_BYTES: usize = 32 << 20, "bytes" {
        why: "A network's have 200 KB; one may have 8 MiB.",
        full: "The longest documents make room: those of a network are short. On the way, finishers wait.",
        free: "When a document makes room or is forgotten; when the session thread has read it.",
        test: "long_documents_of_untrusted_senders_push_out_no_short_one",
    }

    /// Modules of all transport streams that are put together in memory, where there is plenty.
    pub const MAX_MODULES_BYTES: usize = 16 << 20, "bytes" {
        why: "Sixteen of the longest that are put together in memory.",
        full: "Further modules are put together in an unnamed file.",
        free: "When a module is complete, or given up.",
        test: "modules_in_memory_are_bounded_and_room_comes_back",
    }

    /// Bytes of all service lists and guides from the air that are read, where there is plenty.
    pub const MAX_CATALOGUE_BYTES: usize = 256 << 20, "bytes" {
        why: "A list of 10,000 services has 25 MB, a week's guide for 300 channels 40 MB.",
        full: "Further documents are left out as `too_long`.",
        free: "When a document leaves the cache.",
        test: "documents_beyond_the_memory_of_the_catalogue_are_left_out",
    }
}

/// Memory of the program with its threads, buffers and connections, beside what is received and what the store holds.
pub const PROGRAM_BYTES: u64 = 12 << 20;
/// Least memory for what is received.
const LEAST_BYTES: u64 = 8 << 20;
/// Memory for what is received that every budget's limit fits into.
const PLENTY_BYTES: u64 = 2 << 30;
/// Memory for decoding a source block, in blocks: see `BlockCode::memory_bytes`.
const BLOCK_MEMORY: u64 = 5;
/// Memory of an announced name.
const ANNOUNCED_BYTES: u64 = 512;
/// Budgets are given in parts of the memory for what is received.
const PARTS: u64 = 64;
/// Least limit of one XML document: the longest seen has 87 KB.
const LEAST_DOCUMENT_BYTES: u64 = 128 << 10;

/// Budgets of what is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudgets {
    /// All of them together.
    pub received_bytes: u64,
    /// Sessions of FLUTE and ROUTE.
    pub sessions_bytes: usize,
    /// Work of the finishers; a piece that is larger runs alone.
    pub finishing_bytes: u64,
    /// Decoding of one source block.
    pub block_bytes: u64,
    /// Work of one shard that waits for a finisher.
    pub work_bytes: usize,
    /// Announced names.
    pub announced: usize,
    /// Signalling documents that are kept, and again those on their way to the session thread.
    pub documents_bytes: usize,
    /// One signalling document.
    pub document_bytes: usize,
    /// Gateway configurations in force.
    pub configurations_bytes: usize,
    /// Service lists and guides that are read.
    pub catalogue_bytes: usize,
    /// Modules of transport streams in memory.
    pub modules_bytes: usize,
    /// Directories and early blocks of one carousel of a transport stream.
    pub carousel_bytes: usize,
}

impl Default for MemoryBudgets {
    /// Where there is plenty.
    fn default() -> Self {
        Self::of(PLENTY_BYTES, 1)
    }
}

impl MemoryBudgets {
    /// Divides the memory for what is received, with this number of receive threads.
    pub fn of(received_bytes: u64, shards: usize) -> Self {
        let part = |parts: u64| usize::try_from(received_bytes / PARTS * parts).unwrap_or(usize::MAX);
        let shards = shards.max(1);
        let announced = usize::try_from(received_bytes / PARTS * 6 / ANNOUNCED_BYTES).unwrap_or(usize::MAX);
        let document = (received_bytes / 128).max(LEAST_DOCUMENT_BYTES);
        Self {
            received_bytes,
            sessions_bytes: part(18).min(MAX_SESSIONS_BYTES),
            finishing_bytes: (part(22) as u64).min(MAX_FINISHING_BYTES),
            block_bytes: (part(22) as u64).min(BLOCK_MEMORY * MAX_BLOCK_BYTES),
            work_bytes: (part(4) / shards).min(MAX_WORK_BYTES),
            announced: announced.min(MAX_ANNOUNCED),
            documents_bytes: part(1).min(MAX_DOCUMENTS_BYTES),
            document_bytes: usize::try_from(document).unwrap_or(usize::MAX).min(MAX_XML_BYTES),
            configurations_bytes: part(2).min(MAX_CONFIGURATIONS_BYTES),
            catalogue_bytes: part(8).min(MAX_CATALOGUE_BYTES),
            modules_bytes: part(2).min(MAX_MODULES_BYTES),
            carousel_bytes: part(2).min(MAX_CAROUSEL_BINDING_BYTES),
        }
    }

    /// Names and bytes of the budgets that hold memory, for status and metrics.
    pub fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("sessions", self.sessions_bytes as u64),
            ("finishing", self.finishing_bytes),
            ("work", self.work_bytes as u64),
            ("announced", self.announced as u64 * ANNOUNCED_BYTES),
            ("documents", self.documents_bytes as u64),
            ("configurations", self.configurations_bytes as u64),
            ("catalogue", self.catalogue_bytes as u64),
            ("modules", self.modules_bytes as u64),
        ]
    }
}

/// Memory for what is received: three quarters of what the process may use beside the store's memory and the program.
pub fn received_bytes(available: Option<u64>, store_bytes: u64) -> u64 {
    let Some(available) = available else { return PLENTY_BYTES };
    let left = available.saturating_sub(store_bytes).saturating_sub(PROGRAM_BYTES);
    (left / 4 * 3).clamp(LEAST_BYTES, PLENTY_BYTES)
}

/// Memory that the process may use: that of the machine, or the least limit of the control groups that it is in. `None`: unknown.
pub fn available_bytes() -> Option<u64> {
    available_below(Path::new("/"))
}

fn available_below(root: &Path) -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let machine = read(&root.join("proc/meminfo")).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            it if it.split(',').any(|it| it == "memory") => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return None,
        };
        // The limit of every group above counts too. In a container, the path of the group may not be there: its root is the group.
        let group = Path::new(group.trim_start_matches('/'));
        let folders = group.ancestors().map(|it| root.join(mount).join(it).join(file));
        folders.filter_map(|file| read(&file)?.trim().parse::<u64>().ok()).min()
    });
    machine.into_iter().chain(limits).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn budgets_fit_the_smallest_box_and_reach_their_limits_where_there_is_plenty() {
        for (available_mib, store_mib) in [(64, 24), (64, 12), (128, 48), (256, 96), (512, 96), (1024, 96)] {
            let received = received_bytes(Some(available_mib * MIB), store_mib * MIB);
            for shards in [1, 2, 4] {
                let it = MemoryBudgets::of(received, shards);
                let named: u64 = it.named().iter().map(|(_, bytes)| bytes).sum();
                let all = named + (shards as u64 - 1) * it.work_bytes as u64 + it.documents_bytes as u64;
                assert!(all <= received, "{available_mib} MiB, {shards}: {all} of {received}");
            }
            assert!(received + store_mib * MIB + PROGRAM_BYTES <= available_mib * MIB, "{available_mib} MiB");
        }
        let least = MemoryBudgets::of(received_bytes(Some(64 * MIB), 24 * MIB), 1);
        // A block of a megabyte is decoded, a gateway configuration of twice the length of the longest seen is read.
        assert!(least.finishing_bytes > 5 * MIB && least.document_bytes > 160 << 10, "{least:?}");
        let plenty = MemoryBudgets::default();
        assert_eq!(plenty.sessions_bytes, MAX_SESSIONS_BYTES);
        assert_eq!((plenty.finishing_bytes, plenty.work_bytes), (MAX_FINISHING_BYTES, MAX_WORK_BYTES));
        assert_eq!(plenty.block_bytes, 5 * MAX_BLOCK_BYTES, "every block that is legal is decoded");
        assert_eq!((plenty.announced, plenty.document_bytes), (MAX_ANNOUNCED, MAX_XML_BYTES));
        assert_eq!(plenty.documents_bytes, MAX_DOCUMENTS_BYTES);
        assert_eq!(plenty.configurations_bytes, MAX_CONFIGURATIONS_BYTES);
        assert_eq!((plenty.catalogue_bytes, plenty.modules_bytes), (MAX_CATALOGUE_BYTES, MAX_MODULES_BYTES));
        assert_eq!(plenty.carousel_bytes, MAX_CAROUSEL_BINDING_BYTES);
        assert_eq!(MemoryBudgets::of(received_bytes(None, MIB), 1), plenty, "the memory is unknown");
        assert_eq!(received_bytes(Some(16 * MIB), 90 * MIB), LEAST_BYTES);
    }

    #[test]
    fn the_least_limit_of_machine_and_control_groups_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(available_below(root), None);
        write("proc/meminfo", "MemTotal:         524288 kB\nMemFree: 1 kB\n");
        assert_eq!(available_below(root), Some(512 * MIB));
        // Version 2: a group without a limit in one with.
        write("proc/self/cgroup", "0::/system.slice/skycached.service\n");
        write("sys/fs/cgroup/system.slice/skycached.service/memory.max", "max\n");
        assert_eq!(available_below(root), Some(512 * MIB));
        write("sys/fs/cgroup/system.slice/memory.max", "134217728\n");
        assert_eq!(available_below(root), Some(128 * MIB));
        write("sys/fs/cgroup/system.slice/skycached.service/memory.max", "67108864\n");
        assert_eq!(available_below(root), Some(64 * MIB));
        // Version 1, whose groups without a limit have a very large one; in a container the path is not there.
        write("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(available_below(root), Some(512 * MIB));
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "100663296\n");
        assert_eq!(available_below(root), Some(96 * MIB));
        write("proc/meminfo", "MemTotal:         65536 kB\n");
        assert_eq!(available_below(root), Some(64 * MIB));
    }
}
