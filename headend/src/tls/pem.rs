//! PEM files of a configuration: certificates and private keys.

use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Reads the certificates of a PEM file, one at least.
///
/// # Errors
/// One line with the table of the configuration, the file and the fix.
pub(crate) fn read_chain(table: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(unusable(table, file, "it has no certificate")),
        Err(err) => Err(unusable(table, file, &of_pem(err))),
    }
}

/// Reads the private key of a PEM file.
///
/// # Errors
/// As for [`read_chain`].
pub(crate) fn read_key(table: &str, file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|err| match err {
        PemError::NoItemsFound => format!(
            "[{table}] {}: it has no private key, or one with a passphrase; give one without, as PEM",
            file.display()
        ),
        err => unusable(table, file, &of_pem(err)),
    })
}

fn of_pem(err: PemError) -> String {
    match err {
        PemError::Io(err) => carousel::config::plain(&err),
        err => err.to_string(),
    }
}

/// Line for a PEM file that cannot be used.
pub(crate) fn unusable(table: &str, file: &Path, why: &str) -> String {
    format!("[{table}] {}: {why}; give a PEM file that this user may read", file.display())
}
