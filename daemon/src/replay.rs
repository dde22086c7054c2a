//! Replay of a recording through the receive path into the cache: `skycached replay`.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use carousel::capture::{Datagrams, Records};
use carousel::digest::Digest;
use carousel::flute::SessionKey;
use carousel::mabr::Directory;
use carousel::multiplex::wrapping::{Recognizer, Unit, Unwrap};
use carousel::route::STSID_TYPE;
use carousel::route::lls::{LLS_TYPE, ServiceDirectory, USBD_TYPE};
use carousel::time::Instant;
use carousel::ts::stream::Packets;
use carousel::ts::{PACKET_BYTES, Pid};
use serde_json::{Value, json};

use crate::delivery::{ObjectRef, Options, SessionFilter};
use crate::receive::{FinishSink, Intake, ReceiveContext};
use crate::signalling::Document;
use crate::status::{atsc_json, object_json, session_json};
use crate::store::StoredObject;
use crate::transport::{Feed, StreamOutput, StreamState};

/// Transport streams of a recording, of which a full multiplex in IP has some ten; datagrams of others are taken for FLUTE.
const MAX_STREAMS: usize = 64;

/// Result of a replay.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplaySummary(pub Value);

/// Directories of sessions: gateway configurations, and ATSC low-level signalling.
#[derive(Debug)]
pub struct Directories {
    /// Gateway configurations.
    pub sessions: Directory,
    /// ATSC services.
    pub atsc: ServiceDirectory,
    /// Groups of low-level signalling.
    pub groups: Vec<SocketAddr>,
}

/// Collects the output of finishing, in this thread.
#[derive(Default)]
struct ReplayOutput {
    documents: Vec<Document>,
    objects: Vec<Value>,
}

impl FinishSink for ReplayOutput {
    fn stored(&mut self, object: ObjectRef, stored: &StoredObject) {
        self.objects.push(sent(object, object_json(stored)));
    }
    fn document(&mut self, document: Document) {
        // Descriptions of sessions are not objects: those of ROUTE have their own names in their package.
        let kind = document.content_type.as_deref();
        if kind == Some(LLS_TYPE) || kind == Some(STSID_TYPE) || kind == Some(USBD_TYPE) {
            self.documents.push(document);
            return;
        }
        let json = json!({
            "uri": document.name, "length": document.bytes.len(), "sha256": Digest::of(&document.bytes).to_hex(),
            "content_type": document.content_type, "signalling": true,
        });
        self.objects.push(sent(document.object, json));
        self.documents.push(document);
    }
}

/// `json` with the session and TOI of an object.
fn sent(object: ObjectRef, mut json: Value) -> Value {
    let ObjectRef { session, toi } = object;
    json["group"] = session.destination.ip().to_string().into();
    json["port"] = session.destination.port().into();
    json["tsi"] = session.tsi.0.into();
    json["toi"] = toi.to_string().into();
    json
}

/// State of a replay.
struct Replay<'a> {
    context: &'a ReceiveContext,
    directories: &'a mut Directories,
    intake: Intake,
    filter: SessionFilter,
    collected: ReplayOutput,
    recognizer: Recognizer,
    /// Transport streams by destination; `None` is a file of packets.
    streams: BTreeMap<Option<SocketAddr>, (Unwrap, Feed)>,
    base: Option<String>,
    start_ns: Option<u64>,
    last_ns: u64,
    documents: u64,
    rejected: u64,
}

/// Output of a stream of the recording.
#[derive(Default)]
struct Collector {
    datagrams: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    objects: Vec<Value>,
}

impl StreamOutput for Collector {
    fn datagram(&mut self, source: SocketAddr, destination: SocketAddr, payload: &[u8]) {
        self.datagrams.push((source, destination, payload.to_vec()));
    }

    fn stored(&mut self, pid: Pid, stored: &StoredObject) {
        let mut json = object_json(stored);
        json["pid"] = pid.get().into();
        self.objects.push(json);
    }
}

impl Replay<'_> {
    /// Handles a datagram of FLUTE, or of a stream.
    fn datagram(&mut self, time_ns: u64, source: SocketAddr, destination: SocketAddr, payload: &[u8]) {
        let known = self.streams.get(&Some(destination));
        let is_stream = match self.recognizer.wrapping(destination, payload) {
            Some(_) => known.is_some() || self.streams.len() < MAX_STREAMS,
            None => known.is_some_and(|(unwrap, _)| unwrap.is_certain()),
        };
        if !is_stream {
            return self.packet(time_ns, source, destination, payload);
        }
        let mut output = Collector::default();
        let (unwrap, feed) = stream(&mut self.streams, self.context, self.base.as_ref(), Some(destination));
        unwrap.datagram(payload, &mut |unit| match unit {
            Unit::Packet(packet) => feed.packet(packet, &mut output),
            Unit::Frame(frame) => feed.frame(frame, &mut output),
        });
        self.take_output(time_ns, output);
    }

    /// Handles a packet of a transport stream in a file.
    fn ts_packet(&mut self, packet: &[u8; PACKET_BYTES]) {
        let mut output = Collector::default();
        let (_, feed) = stream(&mut self.streams, self.context, self.base.as_ref(), None);
        feed.packet(packet, &mut output);
        if !output.datagrams.is_empty() || !output.objects.is_empty() {
            self.take_output(0, output);
        }
    }

    fn take_output(&mut self, time_ns: u64, output: Collector) {
        self.collected.objects.extend(output.objects);
        for (source, destination, payload) in output.datagrams {
            self.packet(time_ns, source, destination, &payload);
        }
    }

    /// Handles a packet of FLUTE or ROUTE, and the work that it causes.
    fn packet(&mut self, time_ns: u64, source: SocketAddr, destination: SocketAddr, payload: &[u8]) {
        let now = Instant::from_nanos(time_ns.saturating_sub(*self.start_ns.get_or_insert(time_ns)));
        self.last_ns = self.last_ns.max(time_ns);
        let is_lls = self.directories.groups.contains(&destination);
        let lls = SessionFilter::lls();
        self.intake.datagram(now, source, destination, if is_lls { &lls } else { &self.filter }, payload);
        self.intake.end_batch();
        self.work(now);
    }

    /// Executes the pending work of delivery, and further work that it causes.
    fn work(&mut self, now: Instant) {
        let mut has_atsc_changed = false;
        let collected = &mut self.collected;
        self.rejected += self.intake.finish_here(now, collected);
        for document in collected.documents.drain(..) {
            let SessionKey { source, destination, .. } = document.object.session;
            let kind = document.content_type.as_deref();
            if kind == Some(LLS_TYPE) {
                let has_changed = self.directories.atsc.datagram(now, source, destination, &document.bytes);
                has_atsc_changed |= has_changed;
                continue;
            }
            if let Some(kind) = kind.filter(|it| [STSID_TYPE, USBD_TYPE].contains(it)) {
                has_atsc_changed |=
                    self.directories.atsc.document(source, destination, kind, &document.bytes);
                continue;
            }
            self.documents += 1;
            let directory = &mut self.directories.sessions;
            if directory.document(source, &document.name, &document.bytes).is_ok() {
                self.context.names.set_aliases(directory.aliases().clone());
            }
        }
        if has_atsc_changed {
            self.follow_atsc(now);
        }
    }

    /// Puts names and channels of the ATSC signalling into force.
    fn follow_atsc(&mut self, now: Instant) {
        let Directories { atsc, .. } = &self.directories;
        self.context.names.set_bases(atsc.bases());
        self.intake.describe_routes(now, Arc::new(atsc.descriptions()));
    }

    /// Handles the end of the recording.
    fn finish(&mut self) {
        for destination in self.streams.keys().copied().collect::<Vec<_>>() {
            let mut output = Collector::default();
            stream(&mut self.streams, self.context, None, destination).1.finish(&mut output);
            self.take_output(0, output);
        }
        let now = Instant::from_nanos(self.last_ns.saturating_sub(self.start_ns.unwrap_or(self.last_ns)));
        self.intake.end(now);
        self.work(now);
    }

    fn summary(mut self, truncated: bool) -> Value {
        self.finish();
        let incomplete = self.intake.incomplete().map(|it| {
            let json = json!({
                "uri": it.uri, "received": it.received_bytes, "transfer_length": it.transfer_length,
            });
            sent(it.object, json)
        });
        let modules = self.streams.values().flat_map(|(_, feed)| feed.incomplete());
        let incomplete: Vec<Value> = incomplete.chain(modules).collect();
        self.intake.publish_stats(0);
        let sessions: Vec<Value> = self.context.stats.sessions().iter().map(session_json).collect();
        let streams = self.streams.iter().map(|(destination, (unwrap, feed))| {
            let mut state = StreamState::default();
            feed.report(&mut state);
            state.unwrapped(unwrap);
            state.to_json(&destination.map_or_else(|| "file".to_owned(), |it| format!("udp://{it}")))
        });
        let losses = self.intake.totals().losses;
        json!({
            "schema": 1, "datagrams": losses.datagrams, "not_alc": losses.not_alc,
            "truncated": truncated, "signalling_documents": self.documents, "rejected": self.rejected,
            "received": self.context.stats.objects().0,
            "transport_streams": streams.collect::<Vec<_>>(), "sessions": sessions,
            "service_lists": atsc_json(&self.directories.atsc.report()),
            "objects": self.collected.objects, "incomplete": incomplete,
        })
    }
}

fn stream<'a>(
    streams: &'a mut BTreeMap<Option<SocketAddr>, (Unwrap, Feed)>,
    context: &ReceiveContext,
    base: Option<&String>,
    destination: Option<SocketAddr>,
) -> &'a mut (Unwrap, Feed) {
    let ReceiveContext { store, manifests, stats, trust, .. } = context;
    let new = || {
        let (manifests, stats, trust) = (Arc::clone(manifests), Arc::clone(stats), Arc::clone(trust));
        let feed = Feed::new(store.clone(), manifests, stats, trust, base.cloned());
        (Unwrap::default(), feed)
    };
    streams.entry(destination).or_insert_with(new)
}

/// Replays `path`: a capture, or a file of transport stream packets. Every session in it is received, announced or not, and
/// nothing in it has expired: the operator has chosen the recording. `base` is the URL of files of carousels that do not
/// name their own. `objects` of the summary has an entry for each version of an object, in the order in which they became
/// complete; the cache keeps the last.
///
/// # Errors
/// A file that cannot be read or is not a recording.
pub fn replay(
    path: &Path,
    base: Option<String>,
    context: &ReceiveContext,
    directories: &mut Directories,
) -> Result<ReplaySummary, String> {
    let failed = |err: std::io::Error| {
        let why = carousel::config::plain(&err);
        format!("{}: {why}; name a recording: pcap, pcapng, or a transport stream", path.display())
    };
    let file = File::open(path).map_err(failed)?;
    let map = crate::sys::map_file(&file).map_err(failed)?;
    let intake =
        Intake::new(context.clone(), Options::without_repairs(), Arc::default(), None).without_date();
    let mut replay = Replay {
        context,
        directories,
        intake,
        filter: SessionFilter { trust: context.trust.mode_of(""), ..SessionFilter::all() },
        collected: ReplayOutput::default(),
        recognizer: Recognizer::default(),
        streams: BTreeMap::new(),
        base,
        start_ns: None,
        last_ns: 0,
        documents: 0,
        rejected: 0,
    };
    match (Records::new(&map), Packets::new(&map)) {
        (Ok(records), _) => {
            // Services must be known before their first object, with which a recording may begin.
            let mut datagrams = Datagrams::new(records);
            while let Some((_, it)) = datagrams.next_datagram() {
                if replay.directories.groups.contains(&it.destination) {
                    let (source, now) = (it.source.ip(), Instant::from_nanos(0));
                    replay.directories.atsc.datagram(now, source, it.destination, it.payload);
                }
            }
            replay.follow_atsc(Instant::from_nanos(0));
            let records = Records::new(&map).map_err(|err| format!("{}: {err}", path.display()))?;
            let mut datagrams = Datagrams::new(records);
            while let Some((time_ns, datagram)) = datagrams.next_datagram() {
                replay.datagram(time_ns, datagram.source, datagram.destination, datagram.payload);
            }
            Ok(ReplaySummary(replay.summary(datagrams.is_truncated())))
        }
        (Err(_), Some(mut packets)) => {
            for packet in packets.by_ref() {
                replay.ts_packet(packet);
            }
            Ok(ReplaySummary(replay.summary(packets.remaining() > 0)))
        }
        (Err(err), None) => Err(format!("{}: {err}, and no transport stream", path.display())),
    }
}
