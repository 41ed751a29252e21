//! TLS of a private server.

use std::path::PathBuf;

use crate::certificates::{CertificateAuthority, CertificateFiles};

/// A TLS listener beside the plain one.
#[derive(Debug, Clone)]
pub struct ServerTls {
    pub(super) authority: PathBuf,
    pub(super) files: CertificateFiles,
    pub(super) requires_client_certificate: bool,
}

impl ServerTls {
    /// A listener with a certificate of `authority`, which must outlive the server.
    #[must_use]
    pub fn of(authority: &CertificateAuthority) -> Self {
        Self { authority: authority.certificate(), files: authority.server(), requires_client_certificate: false }
    }

    /// The same, refusing clients without a certificate of the same authority.
    #[must_use]
    pub fn requiring_client_certificate(self) -> Self {
        Self { requires_client_certificate: true, ..self }
    }
}
