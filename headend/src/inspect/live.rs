//! Objects that are sent while they grow: those of ROUTE, and segments joined from FLUTE chunks.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use carousel::Digest;
use carousel::alc::Packet;
use carousel::flute::{File, Joined, Joiner, SessionKey, verify};
use carousel::growing::End;
use carousel::lct::{Toi, Tsi};
use carousel::limits::MAX_SESSIONS;
use carousel::route::{self, Recognizer, RouteSession};
use carousel::time::Instant;

use super::{Inspector, ObjectReport, describe};

/// Source and destination: a session of ROUTE with all its channels.
type RouteKey = (IpAddr, SocketAddr);

/// The receivers of live objects.
#[derive(Debug, Default)]
pub(super) struct Live {
    recognizer: Recognizer,
    routes: BTreeMap<RouteKey, route::Receiver>,
    joiners: BTreeMap<SessionKey, Joiner>,
    /// Channels that the signalling of other sessions describes.
    described: HashMap<SocketAddr, Vec<RouteSession>>,
}

impl Live {
    /// Whether a packet is one of ROUTE: by its source packet indicator, or because an S-TSID says that its channel carries
    /// repair symbols.
    pub(super) fn is_route(&mut self, key: &SessionKey, packet: &Packet<'_>) -> bool {
        let receiver = self.routes.get(&(key.source, key.destination));
        self.recognizer.is_route(key.source, key.destination, packet)
            || receiver.is_some_and(|it| packet.fdt.is_none() && it.is_repair_channel(key.tsi.0))
    }
}

const fn session_of((source, destination): RouteKey, tsi: u64) -> SessionKey {
    SessionKey { source, destination, tsi: Tsi(tsi) }
}

impl Inspector {
    pub(super) fn route_packet(
        &mut self,
        now: Instant,
        key: SessionKey,
        seconds: f64,
        packet: &Packet<'_>,
        bytes: usize,
    ) -> Result<(), String> {
        let at = (key.source, key.destination);
        if !self.live.routes.contains_key(&at) && self.live.routes.len() >= MAX_SESSIONS {
            self.left_out += 1;
            return Ok(());
        }
        let described = &self.live.described;
        let new = || {
            let mut receiver = route::Receiver::new(route::ReceiverConfig::default(), at.1);
            for session in described.get(&at.1).into_iter().flatten() {
                receiver.describe(session.channels.clone());
            }
            receiver
        };
        let receiver = self.live.routes.entry(at).or_insert_with(new);
        receiver.handle_packet(now, packet, bytes);
        receiver.handle_timeout(now);
        self.route_events(at, seconds)
    }

    fn route_events(&mut self, at: RouteKey, seconds: f64) -> Result<(), String> {
        while let Some(event) = self.live.routes.get_mut(&at).and_then(route::Receiver::poll_event) {
            match event {
                route::Event::Complete { tsi, file, bytes, .. } if Joiner::is_chunk(&file) => {
                    self.chunk(session_of(at, tsi), seconds, &file, &bytes)?;
                }
                route::Event::Complete { tsi, file, bytes, end, .. } => {
                    self.whole(session_of(at, tsi), seconds, &file, &bytes, Some(end))?;
                }
                route::Event::Document { file, bytes } => {
                    let session = session_of(at, route::SIGNALLING_TSI);
                    self.whole(session, seconds, &file, &bytes, None)?;
                    let kind = file.content_type.as_deref().unwrap_or_default();
                    if self.atsc.document(at.0, at.1, kind, &bytes) {
                        self.describe_routes(seconds)?;
                    }
                }
                route::Event::Package { toi, bytes } => {
                    self.package(session_of(at, route::SIGNALLING_TSI), toi, seconds, &bytes);
                }
                route::Event::BlockReady { tsi, toi, block } => {
                    if let Some(receiver) = self.live.routes.get_mut(&at) {
                        let lost = receiver.repair_job(tsi, toi, block).and_then(route::RepairJob::run);
                        receiver.repaired(tsi, toi, block, lost.as_deref());
                    }
                }
                route::Event::Failed { tsi, toi, file, why } => {
                    let unnamed = File { toi, ..File::default() };
                    let file = file.unwrap_or_else(|| Arc::new(unnamed));
                    let mut object = describe(session_of(at, tsi), &file, 0);
                    object.wrong = Some(why.as_str());
                    self.add(object);
                }
                route::Event::SessionClosed => {
                    for (key, report) in &mut self.reports {
                        report.closed |= (key.source, key.destination) == at;
                    }
                }
                route::Event::Begun { .. }
                | route::Event::Elsewhere(_)
                | route::Event::ChannelRemoved { .. } => {}
            }
        }
        // There are no readers here.
        if let Some(receiver) = self.live.routes.get_mut(&at) {
            receiver.grown(|_, _, _, _| ());
        }
        Ok(())
    }

    /// Sessions of ATSC services without signalling of their own are described by those that have some.
    pub(super) fn describe_routes(&mut self, seconds: f64) -> Result<(), String> {
        let before = std::mem::replace(&mut self.live.described, self.atsc.descriptions());
        let Self { live: Live { described, routes, .. }, .. } = self;
        let is_new = |at: &RouteKey| before.get(&at.1) != described.get(&at.1);
        let new: Vec<RouteKey> = routes.keys().filter(|at| is_new(at)).copied().collect();
        for at in &new {
            let Some(receiver) = routes.get_mut(at) else { continue };
            for session in described.get(&at.1).into_iter().flatten() {
                receiver.describe(session.channels.clone());
            }
        }
        new.into_iter().try_for_each(|at| self.route_events(at, seconds))
    }

    /// A signalling package: what is inside follows as objects of its own.
    fn package(&mut self, key: SessionKey, toi: Toi, seconds: f64, bytes: &[u8]) {
        let file = File { toi, content_type: Some("multipart/related".to_owned()), ..File::default() };
        let mut object = describe(key, &file, bytes.len() as u64);
        if let Some(unpacked) = route::package::unpack(bytes) {
            object.encoding = bytes.starts_with(&[0x1f, 0x8b]).then(|| "gzip".to_owned());
            object.length = unpacked.len() as u64;
            object.digest = Some(Digest::of(&unpacked));
            object.complete_s = Some(seconds);
        }
        self.add(object);
    }

    /// A whole object that was sent while it was made.
    pub(super) fn whole(
        &mut self,
        key: SessionKey,
        seconds: f64,
        file: &File,
        bytes: &[u8],
        end: Option<End>,
    ) -> Result<(), String> {
        let mut object = describe(key, file, bytes.len() as u64);
        object.end = end;
        match verify(file, bytes) {
            Ok(content) => self.add_valid(object, seconds, bytes, content),
            Err(err) => {
                object.wrong = Some(err.as_str());
                self.add(object);
                Ok(())
            }
        }
    }

    /// A complete object of FLUTE: joined to its segment if it is a chunk.
    pub(super) fn chunk(
        &mut self,
        key: SessionKey,
        seconds: f64,
        file: &File,
        bytes: &[u8],
    ) -> Result<(), String> {
        if !Joiner::is_chunk(file) || verify(file, bytes).is_err() {
            return Ok(());
        }
        let now = Instant::from_nanos((seconds * 1e9) as u64);
        let joiner = self.live.joiners.entry(key).or_default();
        joiner.chunk(now, file, bytes);
        joiner.handle_timeout(now);
        self.joined(key, seconds)
    }

    /// An FDT Instance of FLUTE may name objects of ROUTE in the same session.
    pub(super) fn name_by_flute(
        &mut self,
        key: SessionKey,
        seconds: f64,
        files: &[Arc<File>],
    ) -> Result<(), String> {
        let at = (key.source, key.destination);
        let Some(receiver) = self.live.routes.get_mut(&at) else { return Ok(()) };
        receiver.name_by_flute(key.tsi.0, files);
        self.route_events(at, seconds)
    }

    fn joined(&mut self, key: SessionKey, seconds: f64) -> Result<(), String> {
        while let Some(event) = self.live.joiners.get_mut(&key).and_then(Joiner::poll_event) {
            match event {
                Joined::Begun(_) => {}
                Joined::Complete { file, bytes, end } => {
                    self.whole(key, seconds, &file, &bytes, Some(end))?;
                }
                Joined::Failed(file, why) => {
                    let mut object = describe(key, &file, 0);
                    object.wrong = Some(why.as_str());
                    self.add(object);
                }
            }
        }
        Ok(())
    }

    /// Nothing more comes. Gives what is incomplete.
    pub(super) fn finish_live(&mut self) -> Result<Vec<ObjectReport>, String> {
        let seconds = self.last_ns.saturating_sub(self.start_ns.unwrap_or(self.last_ns)) as f64 / 1e9;
        let keys: Vec<SessionKey> = self.live.joiners.keys().copied().collect();
        for key in keys {
            if let Some(joiner) = self.live.joiners.get_mut(&key) {
                joiner.close();
            }
            self.joined(key, seconds)?;
        }
        let mut incomplete = Vec::new();
        let routes: Vec<RouteKey> = self.live.routes.keys().copied().collect();
        for at in routes {
            let Some(receiver) = self.live.routes.get_mut(&at) else { continue };
            // An object without a mark of its end may still be complete; of the others the bytes are reported.
            receiver.end_silent();
            self.route_events(at, seconds)?;
            let Some(receiver) = self.live.routes.get(&at) else { continue };
            for (tsi, toi, file, received, length) in receiver.open() {
                let unnamed = File { toi, ..File::default() };
                let mut object = describe(session_of(at, tsi), file.map_or(&unnamed, |file| file), received);
                object.transfer_length = length.unwrap_or(received);
                object.wrong = length.is_none().then_some("no mark of its end");
                incomplete.push(object);
            }
            for channel in receiver.channels() {
                if let Some(report) = self.reports.get_mut(&session_of(at, channel.tsi)) {
                    report.route = Some(channel);
                }
            }
        }
        Ok(incomplete)
    }
}
