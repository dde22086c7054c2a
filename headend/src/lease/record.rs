//! The document in the store: the holder of the lease, and the state that another headend needs to continue.
//!
//! ```json
//! { "format": 1, "holder": "a", "instance": 123, "generation": 7, "sequence": 90,
//!   "now_ms": 100200, "wall_ms": 1795960167000, "versions": 1795960227000,
//!   "sessions": [ { "name": "239.1.1.1:5000/10", "toi": 2025, "instance_id": 300, "on_air": [[12, 4000]],
//!                   "objects": "KEY TOI STARTED_MS COMPLETE\n…", "table": "tables/7-1" } ],
//!   "commands": [ … ] }
//! ```
//!
//! `toi`, `instance_id` and `versions` are reserves: a successor begins there, and the holder does not use numbers beyond them
//! before it has written a larger reserve. Objects of long sessions are in separate tables, which are written once and never
//! changed: the document alone says which are valid, and only the holder of the lease writes it.

use std::collections::HashMap;
use std::fmt::Write as _;

use carousel::digest::{from_hex, to_hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::core::{Holder, Lease};
use crate::air::{KnownObject, Numbers, ObjectKey, SessionNumbers};

/// Form of the document; one of a newer form is not read.
const FORMAT: u32 = 1;
/// TOIs that are set aside ahead of those in use.
const TOIS_AHEAD: u64 = 1024;
/// FDT Instance IDs that are set aside, and as many again as four renewals of all pages take.
const INSTANCES_AHEAD: u32 = 256;
/// Versions of ROUTE's signalling by which the next headend is ahead: there are 256.
const SIGNALLING_AHEAD: u8 = 16;
/// FDT Instance IDs have 20 bits.
const INSTANCE_MASK: u32 = 0xf_ffff;

/// Numbers that the holder has used, and those that it has set aside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Monotonic time of the holder, which the times of objects are of.
    pub now_ms: u64,
    /// Its wall clock, for documents with a date.
    pub wall_ms: i64,
    /// Versions of signatures up to this one are set aside.
    pub versions: u64,
    /// Its sessions.
    pub sessions: Vec<SessionState>,
    /// Commands to receivers that are in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<Vec<Value>>,
}

/// A session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// Address and TSI.
    pub name: String,
    /// TOIs below this one are set aside.
    pub toi: u64,
    /// FDT Instance IDs before this one are set aside.
    pub instance_id: u32,
    /// Version of ROUTE's signalling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u8>,
    /// Objects on the air.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_air: Vec<(u64, u64)>,
    /// Its objects, a line each.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub objects: String,
    /// Name of the table that has them, if there are many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// To be added to the times in the table, if it is of an earlier holder, whose clock was another.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub table_later_ms: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(it: &i64) -> bool {
    *it == 0
}

impl SessionState {
    /// The numbers of a session, with a reserve; without its objects.
    pub fn of(numbers: SessionNumbers) -> Self {
        let pages = u32::try_from(numbers.pages).unwrap_or(INSTANCE_MASK / 8);
        let ahead = INSTANCES_AHEAD + 4 * pages.min(INSTANCE_MASK / 16);
        Self {
            name: numbers.name,
            toi: numbers.next_toi + TOIS_AHEAD,
            instance_id: (numbers.next_instance_id + ahead) & INSTANCE_MASK,
            version: numbers.version,
            on_air: numbers.on_air,
            objects: String::new(),
            table: None,
            table_later_ms: 0,
        }
    }

    /// Whether what is set aside is enough for numbers that are to be used now, and for two renewals of all pages.
    pub fn covers(&self, toi: u64, instance_id: u32, pages: usize) -> bool {
        let needed = u32::try_from(pages).unwrap_or(INSTANCE_MASK).saturating_mul(2).saturating_add(1);
        let left = self.instance_id.wrapping_sub(instance_id) & INSTANCE_MASK;
        toi <= self.toi && left >= needed && left <= INSTANCE_MASK / 2
    }
}

impl State {
    /// The state for a headend that takes over `later_ms` after this was written, by name of the session. `table` gives the
    /// content of a table.
    pub fn numbers<'a>(
        &self,
        later_ms: u64,
        table: impl Fn(&str) -> Option<&'a str>,
    ) -> HashMap<String, Numbers> {
        let now_ms = self.now_ms + later_ms;
        let of_session = |session: &SessionState| {
            let of_table = session.table.as_deref().and_then(&table).unwrap_or_default();
            let aged = |mut known: KnownObject, now_ms: u64| {
                known.started_ms = known.started_ms.map(|ms| now_ms.saturating_sub(ms));
                (known.key, known)
            };
            // By the clock that the table is of.
            let of_table_ms = now_ms.saturating_add_signed(session.table_later_ms.saturating_neg());
            let of_table = read_objects(of_table).map(|known| aged(known, of_table_ms));
            let objects = read_objects(&session.objects).map(|known| aged(known, now_ms)).chain(of_table);
            Numbers {
                first_toi: session.toi,
                first_instance_id: session.instance_id,
                version: session.version.map(|it| it.wrapping_add(SIGNALLING_AHEAD)),
                objects: objects.collect(),
                on_air: session.on_air.clone(),
            }
        };
        self.sessions.iter().map(|it| (it.name.clone(), of_session(it))).collect()
    }

    /// Names of its tables.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.sessions.iter().filter_map(|it| it.table.as_deref())
    }
}

/// A line for each object.
pub fn write_objects(objects: &[KnownObject]) -> String {
    let mut out = String::with_capacity(objects.len() * 56);
    for it in objects {
        let key = to_hex(&it.key);
        let started = it.started_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        let _ = writeln!(out, "{key} {} {started} {}", it.toi, u8::from(it.is_complete));
    }
    out
}

/// Objects of such lines. A line of another form is left out: its object gets a new TOI.
fn read_objects(text: &str) -> impl Iterator<Item = KnownObject> {
    text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let key: ObjectKey = from_hex(words.next()?)?.try_into().ok()?;
        let toi = words.next()?.parse().ok()?;
        let started_ms = match words.next()? {
            "-" => None,
            ms => Some(ms.parse().ok()?),
        };
        Some(KnownObject { key, toi, started_ms, is_complete: words.next()? == "1" })
    })
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    holder: Option<String>,
    instance: u64,
    generation: u64,
    sequence: u64,
    #[serde(flatten)]
    state: State,
}

/// The document as bytes.
pub fn write(lease: &Lease, state: &State) -> Vec<u8> {
    let document = Document {
        format: FORMAT,
        holder: lease.holder.as_ref().map(|it| it.node.clone()),
        instance: lease.holder.as_ref().map_or(0, |it| it.instance),
        generation: lease.generation,
        sequence: lease.sequence,
        state: state.clone(),
    };
    serde_json::to_vec(&document).unwrap_or_default()
}

/// Lease and state of a document.
///
/// # Errors
/// The fault.
pub fn read(bytes: &[u8]) -> Result<(Lease, State), String> {
    let wrong = |err: serde_json::Error| format!("it is not a lease of headends (line {})", err.line());
    let value: Value = serde_json::from_slice(bytes).map_err(wrong)?;
    match value["format"].as_u64() {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => return Err(format!("it has form {format}, which is of a newer headend")),
        None => return Err("it is not a lease of headends".to_owned()),
    }
    let document: Document = serde_json::from_value(value).map_err(wrong)?;
    let instance = document.instance;
    let holder = document.holder.map(|node| Holder { node, instance });
    let lease = Lease { holder, generation: document.generation, sequence: document.sequence };
    Ok((lease, document.state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(first: u8, toi: u64, started_ms: Option<u64>) -> KnownObject {
        KnownObject { key: [first; 16], toi, started_ms, is_complete: first.is_multiple_of(2) }
    }

    #[test]
    fn what_is_written_is_read() {
        let numbers = SessionNumbers {
            name: "239.1.1.1:5000/10".to_owned(),
            next_toi: 7,
            next_instance_id: INSTANCE_MASK,
            pages: 2,
            objects: 2,
            changes: 9,
            version: Some(250),
            on_air: vec![(3, 400)],
        };
        let objects = [known(1, 3, Some(900)), known(2, 4, None)];
        let mut session = SessionState::of(numbers);
        session.objects = write_objects(&objects[..1]);
        session.table = Some("tables/1".to_owned());
        let state = State { now_ms: 1000, wall_ms: 5, versions: 6, sessions: vec![session], commands: None };
        let holder = Holder { node: "a".to_owned(), instance: u64::MAX };
        let lease = Lease { holder: Some(holder), generation: 3, sequence: 4 };
        let text = write(&lease, &state);
        assert_eq!(read(&text).unwrap(), (lease, state.clone()));
        let table = write_objects(&objects[1..]) + "no such line\n";
        let numbers =
            &state.numbers(50, |name| (name == "tables/1").then_some(table.as_str()))["239.1.1.1:5000/10"];
        assert_eq!((numbers.first_toi, numbers.version, &numbers.on_air), (1031, Some(10), &vec![(3, 400)]));
        assert_eq!(numbers.first_instance_id, 256 + 8 - 1, "it begins again behind its width");
        assert_eq!(numbers.objects[&[1; 16]], known(1, 3, Some(150)), "150 ms ago");
        assert_eq!(numbers.objects[&[2; 16]], known(2, 4, None));
        assert_eq!(numbers.objects.len(), 2);
        let free = write(&Lease { holder: None, generation: 3, sequence: 5 }, &State::default());
        assert_eq!(read(&free).unwrap().0.holder, None);
    }

    #[test]
    fn what_is_no_lease_is_refused_in_words() {
        for (text, why) in [
            ("", "not a lease of headends"),
            ("{}", "not a lease of headends"),
            ("{\"format\":2}", "newer headend"),
            ("{\"format\":1}", "not a lease of headends"),
        ] {
            let refused = read(text.as_bytes()).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn a_reserve_is_enough_or_not() {
        let session = SessionState { toi: 100, instance_id: 5, ..SessionState::default() };
        assert!(session.covers(100, 0, 2) && !session.covers(101, 0, 2));
        assert!(
            session.covers(1, 0, 2) && !session.covers(1, 1, 2),
            "two renewals of both pages, and one more"
        );
        assert!(session.covers(1, INSTANCE_MASK, 2), "behind its width");
        assert!(!session.covers(1, 6, 0), "beyond it");
    }
}
