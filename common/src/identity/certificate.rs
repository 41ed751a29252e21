//! A certificate as the app's credential: client assertions signed with its key (`private_key_jwt`).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use uuid::Uuid;

/// The `client_assertion_type` of these assertions.
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is valid: one call, and clocks that differ.
const LIFETIME_SECONDS: i64 = 300;

/// A certificate and its private RSA key. The key is never printed.
#[derive(Clone)]
pub struct ClientCertificate {
    key: Arc<RsaKeyPair>,
    x5t: String,
    x5t_s256: String,
    algorithm: Option<AssertionAlgorithm>,
}

/// How an assertion is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssertionAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256, what Microsoft Entra ID recommends.
    Ps256,
}

/// Files are not a certificate and its key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("the file {path} cannot be read")]
    File {
        /// Its path.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There is no certificate in PEM.
    #[error("there is no `BEGIN CERTIFICATE` in the certificate's PEM")]
    NoCertificate,
    /// There is no private key in PEM, or it is encrypted.
    #[error("there is no `BEGIN PRIVATE KEY` in the key's PEM; an encrypted key has to be decrypted first")]
    NoKey,
    /// The key is of another type than RSA, too short or damaged.
    #[error("the private key is not an RSA key of 2048 to 4096 bits")]
    KeyRefused,
    /// The key is another certificate's.
    #[error("the private key does not belong to the certificate")]
    OtherKey,
}

impl ClientCertificate {
    /// Reads the PEM files of the certificate and its key; both may be one file. Of a chain, the first one counts.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        Self::from_pem(&read(certificate)?, &read(key)?)
    }

    /// The same from PEM texts: the key as PKCS #8 or PKCS #1.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let certificate = CertificateDer::from_pem_slice(certificate).map_err(|_| CertificateError::NoCertificate)?;
        let key = match PrivateKeyDer::from_pem_slice(key) {
            Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            Ok(_) => return Err(CertificateError::KeyRefused),
            Err(_) => return Err(CertificateError::NoKey),
        };
        let key = key.map_err(|_| CertificateError::KeyRefused)?;
        if !holds_modulus(&certificate, &key) {
            return Err(CertificateError::OtherKey);
        }
        Ok(Self {
            key: Arc::new(key),
            x5t: URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &certificate)),
            x5t_s256: URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate)),
            algorithm: None,
        })
    }

    /// The same, signing by `algorithm` whatever the provider says it can check.
    #[must_use]
    pub fn signing_by(mut self, algorithm: AssertionAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// The certificate's SHA-256 thumbprint (`x5t#S256`).
    pub fn thumbprint(&self) -> &str {
        &self.x5t_s256
    }

    /// An assertion that the bearer is `client_id`, for the token endpoint `audience`, valid for five minutes.
    pub(super) fn assertion(
        &self,
        client_id: &str,
        audience: &str,
        default: AssertionAlgorithm,
        now: Timestamp,
    ) -> Result<String, ring::error::Unspecified> {
        let algorithm = self.algorithm.unwrap_or(default);
        let header = json!({"alg": algorithm.name(), "typ": "JWT", "x5t": self.x5t, "x5t#S256": self.x5t_s256});
        let now = now.as_second();
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": Uuid::now_v7().to_string(),
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME_SECONDS,
        });
        let text = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", text(&header), text(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(algorithm.encoding(), &SystemRandom::new(), signed.as_bytes(), &mut signature)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("thumbprint", &self.x5t_s256).finish_non_exhaustive()
    }
}

impl AssertionAlgorithm {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    fn encoding(self) -> &'static dyn RsaEncoding {
        match self {
            Self::Rs256 => &RSA_PKCS1_SHA256,
            Self::Ps256 => &RSA_PSS_SHA256,
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|source| CertificateError::File { path: path.display().to_string(), source })
}

/// Whether the certificate is for this key: an RSA modulus is far too long to stand in another certificate by chance.
fn holds_modulus(certificate: &[u8], key: &RsaKeyPair) -> bool {
    let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
    certificate.windows(public.n.len()).any(|part| part == public.n)
}
