//! Transmission and repetition of descriptions: pages of the FDT, and signalling of ROUTE.

use carousel::lct::Toi;
use carousel::time::WallTime;

use super::job::Job;
use super::route::SessionFiles;
use super::session::Session;
use super::{Air, ItemId, SessionIndex};

/// Share of the link for repetitions of the FDT; new descriptions are sent at once regardless.
const MAX_FDT_SHARE: f64 = 0.05;
/// Minimum time between a description and its repeat with its object: longer than most bursts of loss.
const AGAIN_NS: u64 = 100_000_000;
/// Interval at which the `Expires` of FDT pages are checked.
const FDT_RENEWAL_NS: u64 = 1_000_000_000;

impl Air {
    pub(super) fn queue_fdts(&mut self, now_ns: u64, wall: WallTime) {
        let renew = now_ns >= self.fdt_renewal_ns;
        if renew {
            self.fdt_renewal_ns = now_ns + FDT_RENEWAL_NS;
        }
        let (mut any_changed, mut routes_due) = (false, Vec::new());
        for (index, session) in self.sessions.iter_mut().enumerate() {
            if session.has_changed || renew {
                any_changed = true;
                let changed = session.renew(now_ns, wall);
                if let Some(group) = session.route {
                    routes_due.extend((!changed.is_empty()).then_some((group, index)));
                    continue;
                }
                self.urgent.extend(changed.into_iter().map(|page| Job::Fdt {
                    session: index,
                    page,
                    next: 0,
                }));
            }
        }
        if any_changed {
            self.measure_fdt();
        }
        for (index, session) in self.sessions.iter_mut().enumerate() {
            if let Some(page) = session.due_page(now_ns, self.fdt_cycle_ns) {
                match session.route {
                    Some(group) => routes_due.push((group, index)),
                    None => self.urgent.push_back(Job::Fdt { session: index, page, next: 0 }),
                }
            }
        }
        routes_due.sort_unstable();
        routes_due.dedup_by_key(|(group, _)| *group);
        for (group, session) in routes_due {
            let job = self.signalling_of(group, session);
            self.urgent.push_back(job);
        }
        let described = self.sessions.iter().filter(|session| session.sender.fdt_pages() > 0);
        self.fdt_look_ns = described.map(Session::due_ns).fold(self.fdt_renewal_ns, u64::min);
    }

    /// Adapts the cycle of the FDT to its size, and returns the size in bytes.
    pub(super) fn measure_fdt(&mut self) -> u64 {
        let bytes: u64 = self.sessions.iter().map(|session| session.sender.fdt_bytes()).sum();
        let by_share = bytes as f64 * 8e9 / (self.config.rate_bps.max(1) as f64 * MAX_FDT_SHARE);
        self.fdt_cycle_ns = (self.config.fdt_interval_ms * 1_000_000).max(by_share as u64);
        bytes
    }

    /// Description of an object, if it was not sent within this time.
    pub(super) fn description(
        &mut self,
        index: SessionIndex,
        toi: Toi,
        now_ns: u64,
        for_ns: u64,
    ) -> Option<Job> {
        let session = &mut self.sessions[index];
        let page = session.page_before(toi, now_ns, for_ns)?;
        Some(match session.route {
            Some(group) => self.signalling_of(group, index),
            None => Job::Fdt { session: index, page, next: 0 },
        })
    }

    /// Queues the description of a live object again, unless it was just sent: the one before the object may have been lost,
    /// and the next one would come after `fdt_interval_ms`.
    pub(super) fn describe_again(&mut self, id: ItemId, now_ns: u64) {
        let Some((index, toi)) = self.items.get(&id).map(|item| (item.session, item.toi)) else { return };
        let job = self.description(index, toi, now_ns, AGAIN_NS);
        self.urgent.extend(job);
    }

    /// The updated signalling of a group of ROUTE sessions.
    pub(super) fn signalling_of(&mut self, group: usize, session: SessionIndex) -> Job {
        let sessions = self.sessions.iter().filter(|it| it.route == Some(group));
        let described =
            sessions.map(|it| SessionFiles { tsi: it.sender.tsi(), files: it.sender.files().collect() });
        let packets = self.routes[group].signalling(described);
        Job::Signalling { session, packets, next: 0 }
    }
}
