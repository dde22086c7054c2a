//! PEM files of a configuration: certificates and private keys.

use std::fmt;
use std::path::Path;

use rustls::pki_types::CertificateDer;
#[cfg(feature = "kafka")]
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{Error, PemObject as _};

/// Fault of a PEM file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PemError {
    NoCertificate,
    /// No private key, or one with a passphrase.
    #[cfg(feature = "kafka")]
    NoKey,
    /// The words of the system, or of a decoder.
    Unreadable(String),
}

impl PemError {
    /// Remedy, where any PEM file is taken.
    #[cfg(feature = "kafka")]
    pub(crate) const fn fix(&self) -> &'static str {
        match self {
            Self::NoKey => "give one without, as PEM",
            Self::NoCertificate | Self::Unreadable(_) => "give a PEM file that this user may read",
        }
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("it has no certificate"),
            #[cfg(feature = "kafka")]
            Self::NoKey => f.write_str("it has no private key, or one with a passphrase"),
            Self::Unreadable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for PemError {}

impl From<Error> for PemError {
    fn from(err: Error) -> Self {
        Self::Unreadable(match err {
            Error::Io(err) => carousel::config::plain(&err),
            err => err.to_string(),
        })
    }
}

/// Reads the certificates of a PEM file, one at least.
pub(crate) fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let chain = CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() { Err(PemError::NoCertificate) } else { Ok(chain) }
}

/// Reads the private key of a PEM file.
#[cfg(feature = "kafka")]
pub(crate) fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_file(file).map_err(|err| match err {
        Error::NoItemsFound => PemError::NoKey,
        err => err.into(),
    })
}
