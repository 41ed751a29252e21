//! TLS for `amqps://`: a private CA instead of the machine's where one is given, and a client certificate.

use std::io;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};

use crate::backend::{BackendError, TlsFiles, Trouble};

/// Reads the files once; connections share what comes of them.
pub(super) fn tls_connector(files: &TlsFiles, address: &str) -> Result<RustlsConnector, BackendError> {
    let trust = match files.read_ca(address)? {
        Some(ca) => RustlsConnectorConfig::default().with_parsable_certificates(certificates(&ca, address, "CA")?),
        None => RustlsConnectorConfig::new_with_native_certs()
            .map_err(|e| wrong(address, "the machine has no CA certificates; set the CA's file", e))?,
    };
    let connector = match files.read_client_pair(address)? {
        None => trust.connector_with_no_client_auth(),
        Some(pair) => {
            let chain = certificates(&pair.certificate, address, "client certificate")?;
            trust.connector_with_single_cert(chain, private_key(&pair.key, address)?)
        }
    };
    connector.map_err(|e: io::Error| wrong(address, "the TLS files do not fit together", e))
}

fn certificates(pem: &[u8], address: &str, which: &str) -> Result<Vec<CertificateDer<'static>>, BackendError> {
    let read: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    let message = || format!("the {which} file holds no PEM certificate");
    match read {
        Ok(certificates) if certificates.is_empty() => Err(BackendError::plain(Trouble::Refused, address, message())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(address, &message(), error)),
    }
}

fn private_key(pem: &[u8], address: &str) -> Result<PrivateKeyDer<'static>, BackendError> {
    // The cause is left out: it may repeat a line of the key.
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| BackendError::plain(Trouble::Refused, address, "the client key file holds no PEM private key"))
}

fn wrong(address: &str, message: &str, error: impl std::error::Error + Send + Sync + 'static) -> BackendError {
    BackendError::new(Trouble::Refused, address, message, error)
}
