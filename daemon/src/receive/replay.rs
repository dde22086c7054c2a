//! Feeds a recording through the receive path into the cache.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use carousel::capture::{Datagrams, Records};
use carousel::digest::Digest;
use carousel::limits::MAX_OBJECTS_IN_FLIGHT;
use carousel::mabr::Directory;
use carousel::time::Instant;
use serde_json::{Value, json};

use super::command::Listen;
use super::finish::{Aftermath, Document, FinishError, Recovered, Wholes, finish};
use super::intake::Intake;
use super::{ObjectRef, Shared};
use crate::store::StoredObject;

/// What a replay did.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplaySummary(pub Value);

/// Collects what the finisher says, in this thread.
#[derive(Default)]
struct Collected {
    rejected: Vec<(ObjectRef, String)>,
    documents: Vec<Document>,
    objects: Vec<Value>,
    recovered: Vec<(ObjectRef, u32, Recovered)>,
}

impl Aftermath for Collected {
    fn reject(&mut self, object: ObjectRef, why: FinishError) {
        self.rejected.push((object, why.to_string()));
    }
    fn stored(&mut self, object: ObjectRef, stored: &StoredObject) {
        self.objects.push(sent(object, crate::status::object_json(stored)));
    }
    fn recovered(&mut self, object: ObjectRef, sbn: u32, lost: Recovered) {
        self.recovered.push((object, sbn, lost));
    }
    fn document(&mut self, document: Document) {
        let json = json!({
            "uri": document.name, "length": document.bytes.len(), "sha256": Digest::of(&document.bytes).to_hex(),
            "content_type": document.content_type, "signalling": true,
        });
        self.objects.push(sent(document.object, json));
        self.documents.push(document);
    }
}

/// `json` with where it was sent.
fn sent(object: ObjectRef, mut json: Value) -> Value {
    let ObjectRef { session, toi } = object;
    json["group"] = session.destination.ip().to_string().into();
    json["port"] = session.destination.port().into();
    json["tsi"] = session.tsi.0.into();
    json["toi"] = toi.to_string().into();
    json
}

/// Replays `path`. Every session in it is received, announced or not, and nothing in it has expired: a recording is
/// somebody's choice already. `objects` of the summary has an entry for each version of an object, in the order in which
/// they became whole; the cache keeps the last.
///
/// # Errors
/// A file that cannot be read or is no recording.
pub fn replay(path: &Path, shared: &Arc<Shared>, directory: &mut Directory) -> Result<ReplaySummary, String> {
    let failed = |err: std::io::Error| format!("{}: {err}", path.display());
    let file = File::open(path).map_err(failed)?;
    let map = crate::sys::map_file(&file).map_err(failed)?;
    let records = Records::new(&map).map_err(|err| format!("{}: {err}", path.display()))?;
    let mut datagrams = Datagrams::new(records);
    // One FDT Instance can name everything that came before it: as many as a receiver has in flight.
    let (wholes, finished) = sync_channel(MAX_OBJECTS_IN_FLIGHT + 1);
    let mut intake = Intake::new(Arc::clone(shared), Duration::from_secs(2), Wholes(wholes));
    intake.wall = || None;
    let listen = Listen { sessions: vec![(None, None)] };
    let mut collected = Collected::default();
    let (mut start_ns, mut documents, mut rejected) = (None, 0_u64, 0_u64);
    while let Some((time_ns, datagram)) = datagrams.next_datagram() {
        let now = Instant::from_nanos(time_ns.saturating_sub(*start_ns.get_or_insert(time_ns)));
        intake.datagram(now, datagram.source, datagram.destination, &listen, datagram.payload);
        intake.end_batch();
        while let Ok(work) = finished.try_recv() {
            finish(shared, work, &mut collected);
            for (object, sbn, lost) in collected.recovered.drain(..) {
                intake.object_command(super::Command::Recovered(object, sbn, lost));
            }
        }
        for (object, why) in collected.rejected.drain(..) {
            tracing::warn!(session = %object.session.destination, toi = %object.toi, why, "object rejected");
            rejected += 1;
            intake.object_command(super::Command::Reject(object));
        }
        for document in collected.documents.drain(..) {
            documents += 1;
            if directory.document(document.object.session.source, &document.name, &document.bytes).is_ok() {
                shared.set_aliases(directory.aliases().clone());
            }
        }
    }
    let incomplete: Vec<Value> = intake
        .sessions
        .iter()
        .flat_map(|(key, receiver)| receiver.in_flight().map(move |object| (key, object)))
        .map(|(key, object)| {
            json!({
                "uri": object.file().map(|file| file.content_location.clone()), "group": key.destination.ip().to_string(),
                "port": key.destination.port(), "tsi": key.tsi.0, "toi": object.toi().to_string(),
                "received": object.received().received_bytes(), "transfer_length": object.received().length(),
            })
        })
        .collect();
    intake.publish_stats(0);
    let sessions: Vec<Value> = shared.stats.sessions().iter().map(crate::status::session_json).collect();
    Ok(ReplaySummary(json!({
        "schema": 1, "datagrams": intake.losses.datagrams, "not_alc": intake.losses.not_alc, "truncated": datagrams.is_truncated(),
        "signalling_documents": documents, "rejected": rejected,
        "received": shared.received.load(std::sync::atomic::Ordering::Relaxed),
        "sessions": sessions, "objects": collected.objects, "incomplete": incomplete,
    })))
}
