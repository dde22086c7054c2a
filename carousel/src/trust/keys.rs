//! Keys, certificates of online keys, and revocation lists; each as bytes on the air and as text in files.
//!
//! A root key stays offline. It signs a [`Certificate`] for each online key, which signs the carousel, and the
//! [`RevocationList`] of online keys that are no longer valid. Receivers pin only root keys.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::bytes::{Reader, WireError, Writer};
use crate::digest::{Digest, from_base64, to_base64};
use crate::limits;

limits! {
    /// Names of services in one certificate, together.
    pub const MAX_CERTIFIED_BYTES: usize = 1024, "bytes" {
        why: "A headend signs for a handful of services; their names are URIs.",
        full: "The certificate cannot be read: what it signs is refused as `malformed`.",
        free: "Holds for one certificate.",
        test: "a_certificate_with_too_many_names_is_refused",
    }

    /// Keys in one revocation list.
    pub const MAX_REVOKED: usize = 256, "keys" {
        why: "Each key takes 8 bytes of every FDT Instance; a root revokes a handful in its life.",
        full: "The list cannot be read, and the one before it stays in force.",
        free: "Holds for one list.",
        test: "a_revocation_list_that_is_too_long_is_refused",
    }
}

const CERTIFICATE_CONTEXT: &[u8] = b"skycache certificate 1\0";
const REVOCATION_CONTEXT: &[u8] = b"skycache revocation 1\0";
/// Prefix of public keys in configurations.
const PREFIX: &str = "ed25519:";

/// An Ed25519 public key (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Its short name: the first 64 bits of its SHA-256.
    pub fn id(&self) -> KeyId {
        let Digest(digest) = Digest::of(&self.0);
        KeyId(std::array::from_fn(|at| digest[at]))
    }

    /// Verifies `signature` over `message`. Strict: no key of small order, no second form of a signature.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }

    /// Reads `ed25519:` and base64, as [`fmt::Display`] writes it.
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes: [u8; 32] = from_base64(text.trim().strip_prefix(PREFIX)?)?.try_into().ok()?;
        VerifyingKey::from_bytes(&bytes).is_ok().then_some(Self(bytes))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", to_base64(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Short name of a key: 16 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// Reads 16 hexadecimal digits.
    pub fn from_text(text: &str) -> Option<Self> {
        let value = u64::from_str_radix(text.trim(), 16).ok().filter(|_| text.trim().len() == 16)?;
        Some(Self(value.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret key. It is wiped when it is dropped, and prints its public half only.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of this seed. The caller takes it from the system's random numbers.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads the base64 of a seed.
    pub fn from_text(text: &str) -> Option<Self> {
        Some(Self::from_seed(&from_base64(text)?.try_into().ok()?))
    }

    /// The base64 of its seed, for the key's file and nothing else.
    pub fn to_secret_text(&self) -> String {
        to_base64(self.0.as_bytes())
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

/// Statement of a root key about an online key. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The root key.
    pub root: PublicKey,
    /// The online key.
    pub key: PublicKey,
    /// Versions restart with a higher epoch: for a headend whose clock or versions ran ahead.
    pub epoch: u32,
    /// Number of the certificate under its root.
    pub serial: u32,
    /// Valid from.
    pub from: u64,
    /// Valid until.
    pub until: u64,
    /// Services that the key may sign for; none: all.
    pub services: Vec<String>,
    /// The root's signature.
    pub signature: [u8; 64],
}

impl Certificate {
    /// A certificate for `key`, signed by `root`.
    pub fn issue(
        root: &SecretKey,
        key: PublicKey,
        (epoch, serial): (u32, u32),
        (from, until): (u64, u64),
        services: Vec<String>,
    ) -> Self {
        let mut certificate =
            Self { root: root.public(), key, epoch, serial, from, until, services, signature: [0; 64] };
        certificate.signature = root.sign(&certificate.signed());
        certificate
    }

    /// Whether its root has signed it.
    pub fn is_genuine(&self) -> bool {
        self.root.verify(&self.signed(), &self.signature)
    }

    /// Whether the key may sign for `service`.
    pub fn covers(&self, service: &str) -> bool {
        self.services.is_empty() || self.services.iter().any(|it| it == service)
    }

    fn signed(&self) -> Vec<u8> {
        let mut out = CERTIFICATE_CONTEXT.to_vec();
        self.write_fields(&mut out);
        out
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        let names = self.services.join("\n");
        let mut writer = Writer::new(out);
        writer.bytes(&self.root.0).bytes(&self.key.0).u32(self.epoch).u32(self.serial);
        writer.uint::<8>(self.from).uint::<8>(self.until);
        writer.u16(names.len() as u16).bytes(names.as_bytes());
    }

    /// Appends its bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_fields(out);
        out.extend_from_slice(&self.signature);
    }

    /// Reads its bytes, without verifying it.
    ///
    /// # Errors
    /// If they end early or names are not text.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let root = PublicKey(reader.array("root key")?);
        let key = PublicKey(reader.array("online key")?);
        let (epoch, serial) = (reader.u32("epoch")?, reader.u32("serial")?);
        let (from, until) = (reader.uint::<8>("from")?, reader.uint::<8>("until")?);
        let length = usize::from(reader.u16("services")?);
        let names = text(reader, length, MAX_CERTIFIED_BYTES, "services")?;
        let services = names.split('\n').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        Ok(Self { root, key, epoch, serial, from, until, services, signature: reader.array("signature")? })
    }

    /// Base64 of its bytes.
    pub fn to_text(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        to_base64(&out)
    }

    /// Reads base64, which must be all of one certificate.
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = from_base64(text)?;
        let mut reader = Reader::new(&bytes);
        Self::read(&mut reader).ok().filter(|_| reader.remaining() == 0)
    }
}

/// Online keys that are no longer valid, signed by their root. A list with a higher number replaces one with a lower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    /// The root key.
    pub root: PublicKey,
    /// Number of the list; grows.
    pub number: u32,
    /// The keys.
    pub revoked: Vec<KeyId>,
    /// The root's signature.
    pub signature: [u8; 64],
}

impl RevocationList {
    /// A list signed by `root`.
    pub fn issue(root: &SecretKey, number: u32, revoked: Vec<KeyId>) -> Self {
        let mut list = Self { root: root.public(), number, revoked, signature: [0; 64] };
        list.signature = root.sign(&list.signed());
        list
    }

    /// Whether its root has signed it.
    pub fn is_genuine(&self) -> bool {
        self.root.verify(&self.signed(), &self.signature)
    }

    fn signed(&self) -> Vec<u8> {
        let mut out = REVOCATION_CONTEXT.to_vec();
        out.extend_from_slice(&self.root.0);
        self.write_fields(&mut out);
        out
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.u32(self.number).u16(self.revoked.len() as u16);
        for KeyId(id) in &self.revoked {
            writer.bytes(id);
        }
    }

    /// Appends its bytes, without the root key, which a seal has already.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_fields(out);
        out.extend_from_slice(&self.signature);
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// If they end early, or there are more than [`MAX_REVOKED`].
    pub fn read(reader: &mut Reader<'_>, root: PublicKey) -> Result<Self, WireError> {
        let (number, count) = (reader.u32("list number")?, usize::from(reader.u16("revoked keys")?));
        if count > MAX_REVOKED {
            return Err(WireError::Illegal {
                what: "revoked keys",
                value: count as u64,
                clause: "MAX_REVOKED",
            });
        }
        let mut revoked = Vec::with_capacity(count);
        for _ in 0..count {
            revoked.push(KeyId(reader.array("revoked key")?));
        }
        Ok(Self { root, number, revoked, signature: reader.array("signature")? })
    }

    /// Base64 of the root key and the list.
    pub fn to_text(&self) -> String {
        let mut out = self.root.0.to_vec();
        self.write(&mut out);
        to_base64(&out)
    }

    /// Reads the output of [`RevocationList::to_text`].
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = from_base64(text)?;
        let mut reader = Reader::new(&bytes);
        let root = PublicKey(reader.array("root key").ok()?);
        Self::read(&mut reader, root).ok().filter(|_| reader.remaining() == 0)
    }
}

/// Reads `length` bytes of UTF-8.
pub(super) fn text(
    reader: &mut Reader<'_>,
    length: usize,
    most: usize,
    what: &'static str,
) -> Result<String, WireError> {
    let illegal = WireError::Illegal { what, value: length as u64, clause: "UTF-8, bounded" };
    if length > most {
        return Err(illegal);
    }
    std::str::from_utf8(reader.take(length, what)?).map(str::to_owned).map_err(|_| illegal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
    }

    #[test]
    fn vectors_of_rfc_8032_section_7_1() {
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                &[][..],
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                &[0x72][..],
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                &[0xaf, 0x82][..],
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let secret = SecretKey::from_seed(&hex(seed));
            assert_eq!(secret.public(), PublicKey(hex(public)));
            assert_eq!(secret.sign(message), hex(signature));
            assert!(secret.public().verify(message, &hex(signature)));
            let mut wrong: [u8; 64] = hex(signature);
            wrong[7] ^= 1;
            assert!(!secret.public().verify(message, &wrong));
        }
    }

    fn root() -> SecretKey {
        SecretKey::from_seed(&[1; 32])
    }

    fn certificate() -> Certificate {
        let online = SecretKey::from_seed(&[2; 32]).public();
        Certificate::issue(&root(), online, (0, 7), (100, 200), vec!["tag:a".into(), "tag:b".into()])
    }

    #[test]
    fn certificates_and_lists_survive_their_text_and_no_changed_bit() {
        let certificate = certificate();
        assert!(certificate.is_genuine());
        assert_eq!(Certificate::from_text(&certificate.to_text()), Some(certificate.clone()));
        let mut bytes = Vec::new();
        certificate.write(&mut bytes);
        for at in 0..bytes.len() {
            bytes[at] ^= 4;
            let read = Certificate::read(&mut Reader::new(&bytes));
            assert!(read.is_err() || !read.unwrap().is_genuine(), "byte {at}");
            bytes[at] ^= 4;
        }
        assert!(certificate.covers("tag:b") && !certificate.covers("tag:c"));
        let list = RevocationList::issue(&root(), 3, vec![certificate.key.id()]);
        assert!(list.is_genuine());
        assert_eq!(RevocationList::from_text(&list.to_text()), Some(list.clone()));
        assert!(!RevocationList { number: 4, ..list.clone() }.is_genuine());
        assert!(!RevocationList { revoked: Vec::new(), ..list }.is_genuine());
    }

    #[test]
    fn keys_survive_their_text_and_secrets_are_not_printed() {
        let secret = root();
        assert_eq!(PublicKey::from_text(&secret.public().to_string()), Some(secret.public()));
        assert_eq!(KeyId::from_text(&secret.public().id().to_string()), Some(secret.public().id()));
        let again = SecretKey::from_text(&secret.to_secret_text()).unwrap();
        assert_eq!(again.public(), secret.public());
        assert!(!format!("{secret:?}").contains(&secret.to_secret_text()));
        for bad in ["", "ed25519:", "ed25519:AAAA", "rsa:AAAA", &to_base64(&[1; 32])] {
            assert_eq!(PublicKey::from_text(bad), None, "{bad}");
        }
        assert_eq!(KeyId::from_text("0011"), None);
    }

    #[test]
    fn a_certificate_with_too_many_names_is_refused() {
        let names = |bytes: usize| vec!["x".repeat(bytes)];
        let issue = |services| Certificate::issue(&root(), root().public(), (0, 1), (0, 1), services);
        assert!(Certificate::from_text(&issue(names(MAX_CERTIFIED_BYTES)).to_text()).is_some());
        assert!(Certificate::from_text(&issue(names(MAX_CERTIFIED_BYTES + 1)).to_text()).is_none());
    }

    #[test]
    fn a_revocation_list_that_is_too_long_is_refused() {
        let list = |keys: usize| RevocationList::issue(&root(), 1, vec![KeyId([1; 8]); keys]);
        assert!(RevocationList::from_text(&list(MAX_REVOKED).to_text()).is_some());
        assert!(RevocationList::from_text(&list(MAX_REVOKED + 1).to_text()).is_none());
    }
}
