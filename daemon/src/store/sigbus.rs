//! SIGBUS handler for mappings. A page of a mapped file that cannot be read raises SIGBUS, which by default ends the process.
//! The handler maps a page of zeros instead and marks the mapping as poisoned.
//!
//! The kernel raises it only when the program itself reads the page (a digest over a mapping); a system call that is
//! passed such a page fails with EFAULT, and the player's connection is closed. The zeros are never served: digests do not match
//! them, and [`Guard::is_poisoned`] is checked before bytes are handed out.
#![allow(unsafe_code)] // sigaction and what a handler may call; the invariants are beside each call

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

carousel::limits! {
    /// Guarded mappings.
    const MAX_GUARDED: usize = 4096, "mappings" {
        why: "Those of the store's list, and of objects that are being published.",
        full: "Further mappings are not guarded, and counted as `store_unguarded_mappings`: a page of them that cannot be read ends the process.",
        free: "When a mapping is dropped.",
        test: "guards_give_their_places_back",
    }
}

/// One mapping's addresses. `end` 0: free.
struct Range {
    is_taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    is_poisoned: AtomicBool,
}

static RANGES: [Range; MAX_GUARDED] = [const {
    Range {
        is_taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        is_poisoned: AtomicBool::new(false),
    }
}; MAX_GUARDED];

/// Mappings without a place, since the start.
static UNGUARDED: AtomicU64 = AtomicU64::new(0);

/// Mappings that were not guarded since the start, for want of a place.
pub(super) fn unguarded() -> u64 {
    UNGUARDED.load(Ordering::Relaxed)
}

/// Guards a mapping until dropped; drop it before the memory is unmapped.
#[derive(Debug)]
pub(super) struct Guard(Option<usize>);

impl Guard {
    /// Registers the memory of a mapping of ours. Only its address and length are used.
    pub(super) fn new(memory: &[u8]) -> Self {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(install);
        let free = |range: &Range| {
            range.is_taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        // Search from behind the last slot taken: the first slots are held by long-lived mappings.
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let first = LAST.load(Ordering::Relaxed);
        let slot = (first..first + MAX_GUARDED).map(|at| at % MAX_GUARDED).find(|&at| free(&RANGES[at]));
        LAST.store(slot.map_or(first, |slot| slot + 1), Ordering::Relaxed);
        if let Some(range) = slot.map(|slot| &RANGES[slot]) {
            let start = memory.as_ptr() as usize;
            range.is_poisoned.store(false, Ordering::Relaxed);
            range.start.store(start, Ordering::Release);
            // The handler reads `end` before and behind `start`.
            range.end.store(start + memory.len(), Ordering::Release);
        } else {
            UNGUARDED.fetch_add(1, Ordering::Relaxed);
        }
        Self(slot)
    }

    /// Whether a page could not be read.
    pub(super) fn is_poisoned(&self) -> bool {
        self.0.is_some_and(|slot| RANGES[slot].is_poisoned.load(Ordering::Acquire))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(range) = self.0.map(|slot| &RANGES[slot]) {
            range.end.store(0, Ordering::Release);
            range.is_taken.store(false, Ordering::Release);
        }
    }
}

fn install() {
    // SAFETY: all-zero is a valid sigaction; the handler is `extern "C"`, of the type that SA_SIGINFO asks for, and calls
    // nothing that is not async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

extern "C" fn handle(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo_t to an SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() } as usize;
    let holds = |range: &&Range| {
        let end = range.end.load(Ordering::Acquire);
        let start = range.start.load(Ordering::Acquire);
        // Meanwhile the place may have become another mapping's: the two of different mappings can hold between them what is none's.
        (start..end).contains(&address) && range.end.load(Ordering::Relaxed) == end
    };
    // SAFETY: sysconf with a constant is async-signal-safe on Linux (it reads the auxiliary vector).
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    if let Some(range) = RANGES.iter().find(holds) {
        range.is_poisoned.store(true, Ordering::Release);
        // Written to where a head is copied.
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the page lies in a mapping of ours, which exists for as long as this thread, whose access has failed, borrows it; the
        // access is repeated and sees zeros. A direct system call touches no state of the program but `errno`, and that only if it fails.
        let mapped =
            unsafe { libc::mmap((address & !(page - 1)) as *mut libc::c_void, page, access, flags, -1, 0) };
        if mapped != libc::MAP_FAILED {
            return;
        }
    }
    // Not one of our mappings: behave as without a handler.
    // SAFETY: resetting a signal's disposition is async-signal-safe; the access is then repeated and ends the process.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::format::HEADER_BYTES;
    use crate::store::mapping::Mapping;

    #[test]
    fn a_page_that_is_gone_is_zeros_and_the_mapping_is_known_to_be_wrong() {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 20_000], 0).unwrap();
        let mapping = Mapping::of_body(&file, 20_000 - HEADER_BYTES).unwrap();
        let body = mapping.as_slice();
        assert_eq!((body[100], body[15_000]), (7, 7));
        file.set_len(5000).unwrap();
        // The page is not in memory now: without the handler this read would end the process.
        assert_eq!(mapping.as_slice()[12_345 - HEADER_BYTES], 0);
        assert!(!mapping.is_backed());
        file.set_len(20_000).unwrap();
        assert!(!mapping.is_backed(), "once wrong, always wrong");
    }

    #[test]
    fn a_page_that_is_gone_can_be_written_to() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        // SAFETY: nothing else has the file.
        let mut map = unsafe { memmap2::MmapOptions::new().map_copy(&file).unwrap() };
        let guard = Guard::new(&map);
        file.set_len(0).unwrap();
        map[5] = 1;
        assert!(guard.is_poisoned() && map[5] == 1);
    }

    #[test]
    fn guards_give_their_places_back() {
        let memory = [0; 10];
        for _ in 0..3 {
            let before = unguarded();
            let guards: Vec<Guard> = (0..=MAX_GUARDED).map(|_| Guard::new(&memory)).collect();
            let without = guards.iter().filter(|guard| guard.0.is_none()).count();
            // Tests beside this one take places too.
            assert!(without > 0 && unguarded() >= before + without as u64);
            assert!(guards.iter().filter(|guard| guard.0.is_some()).count() > MAX_GUARDED / 2);
            assert!(!Guard(None).is_poisoned());
        }
    }
}
