//! Session of a broadcast, with the timing of its FDT pages or, for ROUTE, of its S-TSID.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use carousel::flute::Sender;
use carousel::lct::Toi;
use carousel::time::WallTime;

use super::ItemId;

/// State of the opening of a session. Objects of a session opened during a transmission wait for the signalling that names it,
/// without which no receiver takes its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Its objects are sent.
    Open,
    /// It is not named by signalling yet.
    Unnamed,
    /// This object names it, and has not been sent completely.
    Behind(ItemId),
    /// Receivers join it until this time.
    At(u64),
}

/// A session, with the times of its FDT pages.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) address: SocketAddr,
    pub(super) sender: Sender,
    /// Index of its group, for ROUTE. Its sender assigns TOIs and keeps descriptions; the group writes packets.
    pub(super) route: Option<usize>,
    /// Last transmission of each FDT page; `None`: never.
    pages_sent_ns: Vec<Option<u64>>,
    /// The page to repeat next, and its time.
    next_page: usize,
    due_ns: u64,
    /// Whether objects were added or removed since the last update of the FDT.
    pub(super) has_changed: bool,
    pub(super) opening: Opening,
    /// Number of objects added, removed, started or completed.
    pub(super) changes: u64,
    /// Its objects.
    pub(super) items: BTreeSet<ItemId>,
}

impl Session {
    pub(super) const fn new(address: SocketAddr, sender: Sender) -> Self {
        Self {
            address,
            sender,
            route: None,
            pages_sent_ns: Vec::new(),
            next_page: 0,
            due_ns: 0,
            has_changed: false,
            opening: Opening::Open,
            changes: 0,
            items: BTreeSet::new(),
        }
    }

    /// Updates the FDT. Returns its changed pages, which count as sent now.
    pub(super) fn renew(&mut self, now_ns: u64, wall: WallTime) -> Vec<usize> {
        self.has_changed = false;
        let changed = self.sender.refresh_fdt(wall).unwrap_or_default();
        self.pages_sent_ns.resize(self.sender.fdt_pages(), None);
        for &page in &changed {
            self.pages_sent_ns[page] = Some(now_ns);
        }
        changed
    }

    /// Marks all FDT pages as unsent, since they have new numbers.
    pub(super) fn forget_sent(&mut self) {
        self.pages_sent_ns.clear();
        (self.due_ns, self.has_changed) = (0, true);
    }

    /// The page to repeat now, if one is due and was not sent recently. It counts as sent.
    pub(super) fn due_page(&mut self, now_ns: u64, cycle_ns: u64) -> Option<usize> {
        let pages = self.sender.fdt_pages();
        if now_ns < self.due_ns || pages == 0 {
            return None;
        }
        self.due_ns = now_ns + cycle_ns / pages as u64;
        let page = self.next_page % pages;
        self.next_page = page + 1;
        let sent = &mut self.pages_sent_ns[page];
        if sent.is_some_and(|sent| sent + cycle_ns / 2 > now_ns) {
            return None;
        }
        *sent = Some(now_ns);
        Some(page)
    }

    /// The page that describes `toi`, if it was not sent for a cycle. It counts as sent.
    pub(super) fn page_before(&mut self, toi: Toi, now_ns: u64, cycle_ns: u64) -> Option<usize> {
        let page = self.sender.page_of(toi)?;
        let sent = self.pages_sent_ns.get_mut(page)?;
        if sent.is_some_and(|sent| sent + cycle_ns > now_ns) {
            return None;
        }
        *sent = Some(now_ns);
        Some(page)
    }

    /// Time of the next call of [`Session::due_page`].
    pub(super) const fn due_ns(&self) -> u64 {
        self.due_ns
    }
}
