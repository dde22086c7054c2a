//! Session of a broadcast, with the timing of its FDT pages or, of ROUTE, of its S-TSID.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use carousel::flute::Sender;
use carousel::lct::Toi;
use carousel::time::WallTime;

use super::ItemId;

/// Whether the objects of a session are sent. Those of one that is opened while others are on the air wait for the signalling that
/// names it: before, no receiver takes its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// They are.
    Open,
    /// No signalling names it yet.
    Unnamed,
    /// This object names it, and has not been sent to its end.
    Behind(ItemId),
    /// Receivers know of it, and join it until then.
    At(u64),
}

/// A session, and when each page of its FDT was sent.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) address: SocketAddr,
    pub(super) sender: Sender,
    /// Index of its group, if it is one of ROUTE. Its sender gives TOIs and keeps descriptions; packets are the group's.
    pub(super) route: Option<usize>,
    /// When each page of the FDT was sent last; `None`: never.
    pages_sent_ns: Vec<Option<u64>>,
    /// The page that is repeated next, and when.
    next_page: usize,
    due_ns: u64,
    /// Whether objects came or went since the FDT was brought up to date.
    pub(super) has_changed: bool,
    pub(super) opening: Opening,
    /// Objects that came, went, began or ended.
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

    /// Brings the FDT up to date. Returns its changed pages, which count as sent now.
    pub(super) fn renew(&mut self, now_ns: u64, wall: WallTime) -> Vec<usize> {
        self.has_changed = false;
        let changed = self.sender.refresh_fdt(wall).unwrap_or_default();
        self.pages_sent_ns.resize(self.sender.fdt_pages(), None);
        for &page in &changed {
            self.pages_sent_ns[page] = Some(now_ns);
        }
        changed
    }

    /// Nothing of its FDT counts as sent: all of it has new numbers.
    pub(super) fn forget_sent(&mut self) {
        self.pages_sent_ns.clear();
        (self.due_ns, self.has_changed) = (0, true);
    }

    /// The page to be repeated now, if one is due and was not sent lately. It counts as sent.
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

    /// When [`Session::due_page`] is next to be asked.
    pub(super) const fn due_ns(&self) -> u64 {
        self.due_ns
    }
}
