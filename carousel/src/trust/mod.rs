//! Authentication of carousels: the signer of a document, and whether the document is accepted.
//!
//! ```text
//! headend   root key (offline) ─ Certificate ─▶ online key ─ Sealer ─▶ document with its Seal ─▶ the air
//! box       pinned root keys ─▶ Trust ◀─ document: certificate, revocation, session, version, time, signature ─▶ SignedBy
//! ```
//!
//! An FDT Instance has the SHA-256 of each of its objects, so its signature covers the objects too, and with them every
//! document that is sent as an object. `DESIGN.md` beside this file says why the signature is an attribute of the FDT Instance,
//! and what is checked in which order.

mod keys;
mod memory;
mod prepared;
mod seal;
mod verifier;

pub use keys::{Certificate, KeyId, MAX_CERTIFIED_BYTES, MAX_REVOKED, PublicKey, RevocationList, SecretKey};
pub use seal::{BLANK, Edition, HeadScan, Kind, NAMESPACE, Seal, Sealed, Sealer, Stream, open, unsealed};
pub use verifier::{
    Allowance, Anchor, AnchorState, Judged, MAX_ROOTS, Mode, Policy, ServicePolicy, SignedBy, StreamState,
    Trust, TrustDrop, TrustReport, WrongObjects, WrongSignatures,
};

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::LazyLock;

    use super::*;

    pub(crate) static ROOT: LazyLock<SecretKey> = LazyLock::new(|| SecretKey::from_seed(&[1; 32]));

    /// Valid from 100 s to 10^10 s after 1970.
    pub(crate) static SEALER: LazyLock<Sealer> = LazyLock::new(|| sealer(2, (0, 1)));

    pub(crate) fn sealer(seed: u8, number: (u32, u32)) -> Sealer {
        let online = SecretKey::from_seed(&[seed; 32]);
        let certificate =
            Certificate::issue(&ROOT, online.public(), number, (100, 10_000_000_000), Vec::new());
        Sealer::new(online, certificate, None, 0).unwrap()
    }

    pub(crate) fn stream() -> Stream {
        Stream { service: "tag:a".to_owned(), name: "239.1.1.1:5000/7".to_owned(), tsi: 7 }
    }
}
