//! Queue of documents that are signed by themselves, such as commands and offers of firmware, until they are judged.
//!
//! Anybody can send any number of them, and a carousel's repeats are not handed in again, so a document gets its place by what is
//! known of its signature: those of untrusted senders push out none of a trusted root.

use carousel::time::Instant;
use carousel::trust::{KeyId, Kind, Trust, open};

carousel::limits! {
    /// Documents of one kind that wait to be judged.
    const MAX_DOCUMENTS: usize = 4, "documents" {
        why: "Headends of several networks may send one each; all are repeated.",
        full: "Unsigned ones make room first, then those of unknown root keys, then those whose signature was not examined; of the same standing the oldest.",
        free: "When the documents are judged, every second.",
        test: "untrusted_documents_push_out_none_of_a_trusted_root",
    }

    /// Signatures of waiting documents that are examined each second.
    const MAX_EXAMINED_PER_S: u32 = 16, "signatures" {
        why: "Two verifications each, of up to a millisecond on the smallest boxes; operators give a few documents an hour.",
        full: "Documents get the place of those whose signature was not examined.",
        free: "With the next second.",
        test: "signatures_of_waiting_documents_are_examined_up_to_a_number_each_second",
    }
}

/// What is known of a document's signature; the higher keeps its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It has none that can be read.
    Unsigned,
    /// It names a root key that this box does not know.
    UnknownRoot,
    /// It names a known one.
    Unexamined,
    /// It is of a known root key.
    Genuine,
}

#[derive(Debug)]
struct Waiting {
    standing: Standing,
    /// Root key, name of the stream, and version behind the epoch, if it is genuine.
    edition: Option<(KeyId, String, (u32, u64))>,
    document: Vec<u8>,
}

/// Documents of one kind that wait to be judged.
#[derive(Debug)]
pub(crate) struct DocumentQueue {
    kind: Kind,
    waiting: Vec<Waiting>,
    /// Second in which signatures were examined last, and their number.
    examined: (u64, u32),
}

impl DocumentQueue {
    /// An empty queue.
    pub(crate) const fn new(kind: Kind) -> Self {
        Self { kind, waiting: Vec::new(), examined: (0, 0) }
    }

    /// Adds a document. Of the genuine ones of a stream only the newest waits.
    pub(crate) fn push(&mut self, trust: &Trust, now: Instant, document: Vec<u8>) {
        if self.waiting.iter().any(|it| it.document == document) {
            return;
        }
        let (standing, edition) = self.standing(trust, now, &document);
        if let Some((root, stream, order)) = &edition {
            let of_stream =
                |it: &Waiting| it.edition.as_ref().is_some_and(|of| (&of.0, &of.1) == (root, stream));
            if self
                .waiting
                .iter()
                .any(|it| of_stream(it) && it.edition.as_ref().is_some_and(|of| of.2 > *order))
            {
                return;
            }
            self.waiting.retain(|it| !of_stream(it));
        }
        if self.waiting.len() >= MAX_DOCUMENTS {
            // The first of the lowest standing is the oldest of them.
            let lowest = (0..self.waiting.len()).min_by_key(|&at| self.waiting[at].standing);
            let Some(lowest) = lowest.filter(|&at| self.waiting[at].standing <= standing) else { return };
            self.waiting.remove(lowest);
        }
        self.waiting.push(Waiting { standing, edition, document });
    }

    /// Takes the documents out, those of the highest standing first.
    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        let mut all = std::mem::take(&mut self.waiting);
        all.sort_by_key(|it| std::cmp::Reverse(it.standing));
        all.into_iter().map(|it| it.document).collect()
    }

    /// Whether a document waits.
    pub(crate) fn has(&self, document: &[u8]) -> bool {
        self.waiting.iter().any(|it| it.document == document)
    }

    #[expect(clippy::type_complexity, reason = "the fields of Waiting")]
    fn standing(
        &mut self,
        trust: &Trust,
        now: Instant,
        document: &[u8],
    ) -> (Standing, Option<(KeyId, String, (u32, u64))>) {
        let Ok(Some(sealed)) = open(document) else { return (Standing::Unsigned, None) };
        let certificate = &sealed.seal.certificate;
        if !trust.knows(&certificate.root) {
            return (Standing::UnknownRoot, None);
        }
        let second = now.as_nanos() / 1_000_000_000;
        if self.examined.0 != second {
            self.examined = (second, 0);
        }
        if self.examined.1 >= MAX_EXAMINED_PER_S {
            return (Standing::Unexamined, None);
        }
        self.examined.1 += 1;
        if !certificate.is_genuine() || !sealed.is_genuine(self.kind) {
            return (Standing::Unsigned, None);
        }
        let order = (certificate.epoch, sealed.seal.edition.version);
        let edition = (certificate.root.id(), sealed.seal.stream.name.clone(), order);
        (Standing::Genuine, Some(edition))
    }
}

#[cfg(test)]
mod tests {
    use carousel::command;
    use carousel::trust::{Certificate, Edition, Policy, Sealer, SecretKey};

    use super::*;

    fn root(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn document(of: u8, version: u64) -> Vec<u8> {
        let online = SecretKey::from_seed(&[2; 32]);
        let certificate = Certificate::issue(&root(of), online.public(), (0, 1), (0, 1 << 40), Vec::new());
        let sealer = Sealer::new(online, certificate, None, 0).unwrap();
        let edition = Edition { version, issued: 1000, until: 9000, ..Edition::default() };
        sealer.seal_xml(Kind::Command, &command::stream(), &edition, &command::to_xml(&[])).into_bytes()
    }

    /// The document of a known root key with another text, which is not in its signature.
    fn forged(number: usize) -> Vec<u8> {
        [document(1, 5), format!("<!-- {number} -->").into_bytes()].concat()
    }

    #[test]
    fn untrusted_documents_push_out_none_of_a_trusted_root() {
        let trust = Trust::new(Policy { keys: vec![root(1).public()], ..Policy::default() });
        let mut queue = DocumentQueue::new(Kind::Command);
        let now = Instant::default();
        let honest = document(1, 5);
        queue.push(&trust, now, honest.clone());
        for number in 0..200 {
            queue.push(&trust, now, format!("<Commands n=\"{number}\"/>").into_bytes());
            queue.push(&trust, now, document(9, number as u64));
            queue.push(&trust, now, forged(number));
        }
        assert_eq!(queue.waiting.len(), MAX_DOCUMENTS);
        assert_eq!(queue.take()[0], honest, "and it is judged first");
        // It comes last.
        for number in 0..200 {
            queue.push(&trust, now, document(9, number));
        }
        let later = Instant::from_nanos(1_000_000_000);
        queue.push(&trust, later, honest.clone());
        assert_eq!(queue.take()[0], honest);
        // Recordings of older versions take no places.
        for version in [4, 3, 7, 2, 6] {
            queue.push(&trust, later, document(1, version));
        }
        assert_eq!(queue.take(), [document(1, 7)]);
    }

    #[test]
    fn signatures_of_waiting_documents_are_examined_up_to_a_number_each_second() {
        let trust = Trust::new(Policy { keys: vec![root(1).public()], ..Policy::default() });
        let mut queue = DocumentQueue::new(Kind::Command);
        for number in 0..100 {
            queue.push(&trust, Instant::default(), forged(number));
        }
        assert_eq!(queue.examined.1, MAX_EXAMINED_PER_S);
        assert!(queue.waiting.iter().all(|it| it.standing == Standing::Unexamined));
        // A genuine one of the next second still has its place.
        let later = Instant::from_nanos(1_000_000_000);
        queue.push(&trust, later, document(1, 5));
        for number in 100..200 {
            queue.push(&trust, later, forged(number));
        }
        assert_eq!(queue.take()[0], document(1, 5));
    }
}
