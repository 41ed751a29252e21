//! A private certificate authority and the certificates it issues, as PEM files in a directory that is removed in the end.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, date_time_ymd,
};
use rsa::RsaPrivateKey;
use rsa::pkcs8::EncodePrivateKey as _;
use tempfile::TempDir;

const SERVER_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const RSA_BITS: usize = 2048;

/// A certificate authority nobody else trusts. All its methods panic when a certificate cannot be made or written.
pub struct CertificateAuthority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    issued: AtomicUsize,
}

/// A certificate and its private key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key, PKCS #8.
    pub key: PathBuf,
}

impl CertificateAuthority {
    /// A new authority.
    #[must_use]
    pub fn new() -> Self {
        let mut parameters = parameters("testkit private CA", &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = must("a key", KeyPair::generate());
        let certificate = must("the CA certificate", parameters.self_signed(&key));
        let directory = must("a directory", tempfile::tempdir());
        write(&directory.path().join("ca.pem"), &certificate.pem());
        Self { directory, issuer: Issuer::new(parameters, key), issued: AtomicUsize::new(0) }
    }

    /// The authority's certificate: what a client trusts.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for a server at `localhost`, `127.0.0.1` or `::1`.
    #[must_use]
    pub fn server(&self) -> CertificateFiles {
        self.server_named(&SERVER_NAMES)
    }

    /// A certificate for a server of these names and addresses.
    #[must_use]
    pub fn server_named(&self, names: &[&str]) -> CertificateFiles {
        let mut parameters = parameters(names.first().unwrap_or(&"server"), names);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(parameters, must("a key", KeyPair::generate()))
    }

    /// A certificate for a TLS client.
    #[must_use]
    pub fn client(&self, common_name: &str) -> CertificateFiles {
        let mut parameters = parameters(common_name, &[]);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(parameters, must("a key", KeyPair::generate()))
    }

    /// A certificate with an RSA key, as an app registration in Entra takes it for client assertions.
    ///
    /// Takes a few hundred milliseconds.
    #[must_use]
    pub fn app(&self, common_name: &str) -> CertificateFiles {
        let private = must("an RSA key", RsaPrivateKey::new(&mut rsa::rand_core::OsRng, RSA_BITS));
        let document = must("an RSA key", private.to_pkcs8_der());
        let document = document.as_bytes().into();
        let key = must("an RSA key", KeyPair::from_pkcs8_der_and_sign_algo(&document, &PKCS_RSA_SHA256));
        self.issue(parameters(common_name, &[]), key)
    }

    fn issue(&self, mut parameters: CertificateParams, key: KeyPair) -> CertificateFiles {
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = must("a certificate", parameters.signed_by(&key, &self.issuer));
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let files = CertificateFiles {
            certificate: self.directory.path().join(format!("{number}.pem")),
            key: self.directory.path().join(format!("{number}.key")),
        };
        write(&files.certificate, &certificate.pem());
        write(&files.key, &key.serialize_pem());
        files
    }
}

impl Default for CertificateAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("CertificateAuthority")
            .field("directory", &self.directory.path())
            .finish_non_exhaustive()
    }
}

impl CertificateFiles {
    /// The certificate's PEM text.
    ///
    /// # Panics
    /// When the file is gone: its authority was dropped.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        must("a certificate file", std::fs::read_to_string(&self.certificate))
    }

    /// The private key's PEM text.
    ///
    /// # Panics
    /// When the file is gone: its authority was dropped.
    #[must_use]
    pub fn key_pem(&self) -> String {
        must("a key file", std::fs::read_to_string(&self.key))
    }
}

fn parameters(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = must("certificate names", CertificateParams::new(names));
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2049, 1, 1);
    parameters
}

fn write(path: &Path, text: &str) {
    must("a certificate file", std::fs::write(path, text));
}

fn must<T, E: Display>(what: &str, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{what} could not be had: {error}"))
}
