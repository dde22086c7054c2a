//! Execution of firmware updates: watches reception, requests missing bytes from an origin, hands the bundle to the
//! installer, and reports the result. The decisions are made by [`crate::firmware`].

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use carousel::digest::Digest;
use carousel::limits::MAX_XML_BYTES;
use carousel::name::{ObjectKey, without_secrets};
use carousel::time::{Instant, WallTime};
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock;
use crate::firmware::{
    Audience, Bundle, BundleProgress, HoldReason, InstallError, Installer as _, Program, Step, Updates,
};
use crate::origin::{Asker, Filler, Origins, Question, RequestBody, ResumedFetch};
use crate::status::Parts;
use crate::store::{EvictReason, Store, StoredObject, free_bytes};
use crate::traces::Trace;

/// Interval at which documents are evaluated, and the state of the update is checked.
const LOOK: Duration = Duration::from_secs(1);
/// First wait after a request that has failed; doubled each time.
const RETRY: Duration = Duration::from_secs(30);
/// Longest wait after a request that has failed.
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
/// The first request for the list of offers is made within the interval divided by this.
const FIRST_PART: u64 = 10;
/// Bytes of a bundle that are written at a time.
const PIECE_BYTES: u64 = 1 << 20;

carousel::limits! {
    /// Reports on updates that wait to be sent.
    const MAX_REPORTS: usize = 16, "reports" {
        why: "An update has three or four.",
        full: "The oldest makes room.",
        free: "When the operator's server has taken one.",
        test: "reports_that_wait_are_bounded",
    }
}

/// Waits between retries, which grow.
#[derive(Debug, Default)]
struct Patience {
    failures: u32,
    not_before: Option<Instant>,
}

impl Patience {
    fn may_go(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + RETRY.saturating_mul(1 << self.failures.min(12)).min(LONGEST_RETRY));
        self.failures += 1;
    }
}

/// Queues a report.
fn queue(reports: &mut VecDeque<Value>, report: Value) {
    if reports.len() >= MAX_REPORTS {
        reports.pop_front();
    }
    reports.push_back(report);
}

/// Parts that updates need besides those of status.
#[derive(Debug)]
pub struct UpdateContext {
    /// Sources of status.
    pub parts: Arc<Parts>,
    /// Fetches complete bundles.
    pub filler: Arc<Filler>,
    /// URLs of objects.
    pub origins: Arc<Origins>,
}

struct Runner {
    context: UpdateContext,
    started: Instant,
    /// Count of objects sent to players, and when it changed last.
    served: (u64, Instant),
    /// The fetch of a bundle from an origin.
    fetch: Option<Arc<ResumedFetch>>,
    fill: Option<JoinHandle<bool>>,
    fills: Patience,
    install: Option<JoinHandle<bool>>,
    installs: Patience,
    /// The installer of the last attempt: another one is tried immediately.
    program: Vec<String>,
    polled: Option<Instant>,
    polls: Patience,
    poll: Option<JoinHandle<bool>>,
    reports: VecDeque<Value>,
    /// Time since which the first report waits.
    reports_since: Option<Instant>,
    sending: Option<JoinHandle<bool>>,
    sends: Patience,
}

/// Executes updates until the runtime ends.
pub async fn run(context: UpdateContext) {
    let now = clock::now();
    let mut runner = Runner {
        context,
        started: now,
        served: (0, now),
        fetch: None,
        fill: None,
        fills: Patience::default(),
        install: None,
        installs: Patience::default(),
        program: Vec::new(),
        polled: None,
        polls: Patience::default(),
        poll: None,
        reports: VecDeque::new(),
        reports_since: None,
        sending: None,
        sends: Patience::default(),
    };
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        runner.tick().await;
    }
}

impl Runner {
    async fn tick(&mut self) {
        let parts = Arc::clone(&self.context.parts);
        let (now, wall) = (clock::now(), clock::trusted_wall());
        parts.updates.judge(&parts.trust, now, wall);
        let served = served(&parts);
        if served != self.served.0 {
            self.served = (served, now);
        }
        let idle = Duration::from_secs(parts.updates.options().idle_s);
        let audience = match served {
            _ if now.since(self.served.1) >= idle => Audience::Nobody,
            0 => Audience::Unknown,
            _ => Audience::Somebody,
        };
        let date = clock::date().or(wall).map(WallTime::unix_seconds);
        // It waits for the disk.
        let (looked, fetch) = (Arc::clone(&parts), self.fetch.clone());
        let step = tokio::task::spawn_blocking(move || {
            let unwanted = looked.updates.take_unwanted();
            let step = looked.updates.step(date, audience, holding(&looked, fetch.as_deref()));
            keep(&looked.store, &looked.updates, &unwanted);
            step
        });
        self.give_up_others();
        match step.await {
            Ok(Step::Ask(bundle)) => self.ask(now, &bundle).await,
            Ok(Step::Install(bundle)) => self.install(now, bundle).await,
            Ok(Step::Rest) | Err(_) => {}
        }
        self.poll(now).await;
        self.send(now).await;
    }

    /// Requests the missing parts from an origin: ranges of a bundle that is arriving, or all of one of which nothing has
    /// been received.
    async fn ask(&mut self, now: Instant, bundle: &Bundle) {
        match ended(&mut self.fill).await {
            Some(false) => self.fills.failed(now),
            Some(true) => self.fills = Patience::default(),
            None => {}
        }
        let UpdateContext { parts, filler, origins } = &self.context;
        let Ok(key) = ObjectKey::from_name(&bundle.url, None) else { return };
        match parts.flights.get(key.as_str()) {
            // It is repaired like an object that a player waits for.
            Some(flight) if flight.is_carried() => parts.flights.request(&flight),
            Some(_) => {}
            None if self.fill.is_none() && self.fills.may_go(now) => {
                let Some(from) = origins.url_for_announced(&key, &bundle.url) else { return };
                let fetch = self.fetch.get_or_insert_with(|| {
                    let version = parts.updates.origin_version();
                    Arc::new(ResumedFetch::new(key, from, bundle.sha256, bundle.length, version))
                });
                let (fetch, filler, parts) = (Arc::clone(fetch), Arc::clone(filler), Arc::clone(parts));
                self.fill = Some(tokio::spawn(async move {
                    let sha256 = *fetch.digest();
                    let remember = |version: Option<&str>| parts.updates.is_of_version(&sha256, version);
                    let came = fetch.attempt(&filler, &remember).await;
                    if let Err(why) = &came {
                        tracing::info!(
                            ?why,
                            "a bundle of firmware has not come completely; it is asked for again"
                        );
                    }
                    came.is_ok()
                }));
            }
            None => {}
        }
    }

    /// Cancels the fetch of a bundle that is no longer wanted, or whose URL has changed.
    fn give_up_others(&mut self) {
        let wanted = self.context.parts.updates.wanted();
        let is_wanted = |it: &ResumedFetch| {
            let key = |wanted: &Bundle| ObjectKey::from_name(&wanted.url, None).ok();
            wanted
                .as_ref()
                .is_some_and(|wanted| wanted.sha256 == *it.digest() && key(wanted).as_ref() == Some(it.key()))
        };
        if self.fetch.as_ref().is_some_and(|it| !is_wanted(it)) {
            if let Some(fill) = self.fill.take() {
                fill.abort();
            }
            (self.fetch, self.fills) = (None, Patience::default());
        }
    }

    /// Writes the bundle to a file and hands it to the installer. If that fails, it is retried later.
    async fn install(&mut self, now: Instant, bundle: Bundle) {
        match ended(&mut self.install).await {
            Some(false) => self.installs.failed(now),
            Some(true) => self.installs = Patience::default(),
            None => {}
        }
        let program = self.context.parts.updates.options().install;
        if program != self.program {
            (self.program, self.installs) = (program, Patience::default());
        }
        if self.install.is_some() || !self.installs.may_go(now) {
            return;
        }
        let parts = Arc::clone(&self.context.parts);
        self.install = Some(tokio::task::spawn_blocking(move || hand_over(&parts, &bundle)));
    }

    /// Requests the list of offers, if the configuration has its URL.
    async fn poll(&mut self, now: Instant) {
        let parts = &self.context.parts;
        let options = parts.updates.options();
        match ended(&mut self.poll).await {
            Some(false) => self.polls.failed(now),
            Some(true) => self.polls = Patience::default(),
            None => {}
        }
        let first_s = parts.updates.own_part_s(options.url_interval_s / FIRST_PART);
        let is_due = match self.polled {
            None => now.since(self.started) >= Duration::from_secs(first_s),
            Some(at) => now.since(at) >= Duration::from_secs(options.url_interval_s),
        };
        let is_retry = self.polls.failures > 0;
        if options.url.is_empty() || self.poll.is_some() || !(is_due || is_retry) || !self.polls.may_go(now) {
            return;
        }
        self.polled = Some(now);
        let parts = Arc::clone(parts);
        self.poll = Some(tokio::spawn(async move {
            let document = fetch(&parts, &options.url).await;
            if let Err(why) = &document {
                warn(&options.url, why, "the list of firmware cannot be fetched");
            }
            document.map(|it| parts.updates.offer(&parts.trust, clock::now(), it)).is_ok()
        }));
    }

    /// Sends the queued reports, one at a time.
    async fn send(&mut self, now: Instant) {
        let parts = &self.context.parts;
        for report in parts.updates.take_reports() {
            queue(&mut self.reports, report);
        }
        match ended(&mut self.sending).await {
            Some(true) => {
                self.reports.pop_front();
                self.sends = Patience::default();
            }
            Some(false) => self.sends.failed(now),
            None => {}
        }
        let Some(report) = self.reports.front().cloned() else {
            self.reports_since = None;
            return;
        };
        let options = parts.updates.options();
        let since = *self.reports_since.get_or_insert(now);
        // All boxes of a carousel finish at the same time.
        let delay_s = parts.updates.own_part_s(options.report_within_s);
        let is_due = now.since(since) >= Duration::from_secs(delay_s);
        if self.sending.is_some() || !is_due || !self.sends.may_go(now) || options.report_url.is_empty() {
            return;
        }
        let parts = Arc::clone(parts);
        self.sending = Some(tokio::spawn(async move {
            let sent = post(&parts, &options.report_url, &report).await;
            if let Err(why) = &sent {
                warn(&options.report_url, why, "a firmware update cannot be reported");
            }
            sent.is_ok()
        }));
    }
}

/// Logs a failed request, without the query of its URL, which may be a credential.
fn warn(url: &str, why: &str, what: &'static str) {
    tracing::warn!(url = without_secrets(url), why, "{what}");
}

/// The result of a task that has ended.
async fn ended(task: &mut Option<JoinHandle<bool>>) -> Option<bool> {
    let done = task.take_if(|it| it.is_finished())?;
    Some(done.await.unwrap_or(false))
}

/// Count of objects sent to players.
fn served(parts: &Parts) -> u64 {
    let stats = parts.server.stats();
    stats.routes.iter().flat_map(|it| &it.served).map(|it| it.load(Ordering::Relaxed)).sum()
}

/// The part of the wanted bundle that is in the cache, or that `fetch` has received from an origin.
fn holding(parts: &Parts, fetch: Option<&ResumedFetch>) -> BundleProgress {
    let Some(Bundle { url, sha256, .. }) = parts.updates.wanted() else { return BundleProgress::Part(0) };
    let Ok(key) = ObjectKey::from_name(&url, None) else { return BundleProgress::Part(0) };
    match parts.store.get(key.as_str()) {
        Some(object) => {
            let meta = object.meta();
            BundleProgress::Complete { length: meta.length, is_offered: meta.digest == sha256 }
        }
        None => {
            let fetched = fetch.filter(|it| *it.digest() == sha256).map_or(0, ResumedFetch::received_bytes);
            let arriving = parts.flights.get(key.as_str()).map_or(0, |it| it.received_bytes());
            BundleProgress::Part(fetched.max(arriving))
        }
    }
}

/// Pins the wanted bundle, and removes those that are no longer wanted.
fn keep(store: &Store, updates: &Updates, unwanted: &[String]) {
    let key = |url: &String| ObjectKey::from_name(url, None).ok().map(|it| it.as_str().to_owned());
    let kept: Vec<String> = updates.remembered().iter().filter_map(key).collect();
    for gone in unwanted.iter().filter_map(key).filter(|it| !kept.contains(it)) {
        store.remove(&gone, EvictReason::Unwanted);
    }
    store.hold_on_to(kept);
}

/// Hands a bundle that has arrived to the installer. False: it was not begun.
fn hand_over(parts: &Parts, bundle: &Bundle) -> bool {
    let (updates, path) = (&parts.updates, parts.updates.bundle_path());
    let program = Program(updates.options().install);
    if let Err(why) = program.is_ready() {
        updates.no_program(why);
        return false;
    }
    let is_begun = write_out(parts, bundle, &path) && {
        match updates.begin() {
            Err(err) => {
                tracing::error!(%err, "the firmware update is not installed");
                false
            }
            Ok(()) => {
                tracing::info!(bundle = %path.display(), "a firmware update is handed to the installer");
                let result = program.install(&path);
                let is_begun = !matches!(result, Err(InstallError::NotStarted(_) | InstallError::Later(_)));
                updates.installed(result);
                is_begun
            }
        }
    };
    let _ = std::fs::remove_file(&path);
    is_begun
}

/// Writes the bundle from the cache to a file. False: not now, or its bytes are not those of the offer.
fn write_out(parts: &Parts, bundle: &Bundle, path: &Path) -> bool {
    let updates = &parts.updates;
    let Ok(key) = ObjectKey::from_name(&bundle.url, None) else { return false };
    let Some(object) = parts.store.get(key.as_str()) else { return false };
    if free_bytes(parts.store.path())
        .is_ok_and(|free| free < bundle.length.saturating_add(bundle.length / 10))
    {
        updates.wait(HoldReason::Room);
        return false;
    }
    match copy(&object, path, bundle) {
        Ok(()) => return true,
        // It was correct when it was received: the disk has failed, and it is received again.
        Err(Some(why)) if object.meta().digest == bundle.sha256 => {
            parts.store.remove(key.as_str(), EvictReason::Corrupt);
            updates.wait(why);
        }
        Err(Some(why)) => updates.discard(why),
        Err(None) => updates.wait(HoldReason::Room),
    }
    false
}

/// Writes an object to a file, if it has exactly the bytes of the bundle. `Err(None)`: the file cannot be written.
fn copy(object: &Arc<StoredObject>, path: &Path, bundle: &Bundle) -> Result<(), Option<HoldReason>> {
    let length = bundle.length;
    if object.meta().length != length {
        return Err(Some(HoldReason::Truncated));
    }
    let mut file = std::fs::File::create(path).map_err(|_| None)?;
    let (mut hasher, mut at) = (Digest::hasher(), 0);
    while at < length {
        let end = length.min(at + PIECE_BYTES);
        let bytes = object.bytes(at..end).ok_or(Some(HoldReason::Truncated))?;
        hasher.update(&bytes);
        file.write_all(&bytes).map_err(|_| None)?;
        at = end;
    }
    file.sync_all().map_err(|_| None)?;
    if hasher.finish() == bundle.sha256 { Ok(()) } else { Err(Some(HoldReason::Digest)) }
}

async fn fetch(parts: &Parts, url: &str) -> Result<Vec<u8>, String> {
    let mut reply = parts.client.get(url, &[]).await.map_err(|err| err.to_string())?;
    let mut document = Vec::new();
    while let Some(bytes) = reply.next().await.map_err(|err| err.to_string())? {
        document.extend_from_slice(&bytes);
        if document.len() > MAX_XML_BYTES {
            return Err("it is too long".to_owned());
        }
    }
    Ok(document)
}

async fn post(parts: &Parts, url: &str, report: &Value) -> Result<(), String> {
    let text = report.to_string();
    let (pieces, body) = mpsc::channel(1);
    let left = Some(text.len() as u64);
    pieces.send(Ok(text.into())).await.map_err(|err| err.to_string())?;
    drop(pieces);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let question = Question {
        method: Method::POST,
        headers,
        body: RequestBody::Pieces { pieces: body, left },
        on_interim: None,
        follows_redirects: false,
        trace: Trace::default(),
        asker: Asker::Own,
    };
    let reply = parts.client.ask(url, question).await.map_err(|err| err.to_string())?;
    if reply.status.is_success() { Ok(()) } else { Err(format!("status {}", reply.status.as_u16())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_that_wait_are_bounded() {
        let mut reports = VecDeque::new();
        for number in 0..=MAX_REPORTS {
            queue(&mut reports, number.into());
        }
        assert_eq!((reports.len(), reports[0].as_u64()), (MAX_REPORTS, Some(1)));
    }

    #[test]
    fn queries_of_urls_are_not_logged() {
        let lines = crate::logs::logged(|| warn("https://h/offers.xml?token=secret", "timeout", "it failed"));
        let (kept, _) = lines.since(0, tracing::Level::WARN, usize::MAX);
        assert_eq!(kept.len(), 1);
        let line = kept[0].to_json();
        assert_eq!(line["fields"]["url"], "https://h/offers.xml", "{line}");
    }

    #[test]
    fn what_fails_is_asked_again_ever_later() {
        let (mut patience, now) = (Patience::default(), Instant::default());
        assert!(patience.may_go(now));
        let mut waits = Vec::new();
        for _ in 0..9 {
            patience.failed(now);
            waits.push(patience.not_before.unwrap().since(now).as_secs());
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert!(!patience.may_go(now) && patience.may_go(now + LONGEST_RETRY));
    }
}
