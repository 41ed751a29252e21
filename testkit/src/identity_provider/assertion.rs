//! Client assertions (`private_key_jwt`): a key registered for a client and the check of a token signed with it.

use std::time::Duration;

use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents};
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::Value;
use x509_cert::Certificate;
use x509_cert::der::{DecodePem as _, Encode as _};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::clock::system_time;
use super::keys::decode;

/// The value of `client_assertion_type`.
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How far a client's clock may be ahead.
const CLOCK_SKEW_SECONDS: f64 = 300.0;

/// A public RSA key registered for a client's assertions (RS256 or PS256).
#[derive(Debug, Clone)]
pub struct AssertionKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

/// Why a PEM text is no assertion key.
#[derive(Debug, thiserror::Error)]
pub enum AssertionKeyError {
    /// Not an RSA public key (`BEGIN PUBLIC KEY`).
    #[error("not an RSA public key in PEM")]
    PublicKey(#[from] rsa::pkcs8::spki::Error),
    /// Not a certificate (`BEGIN CERTIFICATE`).
    #[error("not a certificate in PEM")]
    Certificate(#[from] x509_cert::der::Error),
}

impl AssertionKey {
    /// The key of a certificate (`BEGIN CERTIFICATE`) or a bare public key (`BEGIN PUBLIC KEY`), of type RSA.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn from_pem(pem: &str) -> Result<Self, AssertionKeyError> {
        let key = match pem.contains("BEGIN CERTIFICATE") {
            true => key_of_certificate(pem)?,
            false => RsaPublicKey::from_public_key_pem(pem)?,
        };
        Ok(Self { modulus: key.n().to_bytes_be(), exponent: key.e().to_bytes_be() })
    }

    fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let algorithm = match decode(header)?.get("alg")?.as_str()? {
            "RS256" => &RSA_PKCS1_2048_8192_SHA256,
            "PS256" => &RSA_PSS_2048_8192_SHA256,
            _ => return None,
        };
        let public = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        public.verify(algorithm, signed.as_bytes(), &signature).ok()?;
        decode(claims)
    }
}

fn key_of_certificate(pem: &str) -> Result<RsaPublicKey, AssertionKeyError> {
    let certificate = Certificate::from_pem(pem)?;
    let public = certificate.tbs_certificate.subject_public_key_info.to_der()?;
    Ok(RsaPublicKey::from_public_key_der(&public)?)
}

/// What is wrong with a client assertion.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AssertionFault {
    Signature,
    Issuer,
    Audience,
    Time,
}

/// Checks an assertion of `client_id` for an audience that ends with one of `audiences`; `now` is the provider's time.
///
/// The client lives in the system's time while the provider's may be ahead, so either may find the assertion valid.
pub(super) fn check(
    assertion: &str,
    keys: &[AssertionKey],
    client_id: &str,
    audiences: &[String],
    now: u64,
) -> Result<(), AssertionFault> {
    let claims = keys.iter().find_map(|key| key.verify(assertion)).ok_or(AssertionFault::Signature)?;
    let names = |claim: &str| claims[claim].as_str().is_some_and(|id| id.eq_ignore_ascii_case(client_id));
    if !names("iss") || !names("sub") {
        return Err(AssertionFault::Issuer);
    }
    let audience = claims["aud"].as_str().unwrap_or_default();
    if !audiences.iter().any(|accepted| audience.ends_with(accepted)) {
        return Err(AssertionFault::Audience);
    }
    match is_current(&claims, now) || is_current(&claims, system_time().as_secs()) {
        true => Ok(()),
        false => Err(AssertionFault::Time),
    }
}

fn is_current(claims: &Value, now: u64) -> bool {
    // Seconds may have a fraction: MSAL for Python writes one.
    let seconds = |claim: &str| claims[claim].as_f64().unwrap_or_default();
    let (expires, begins) = (seconds("exp"), seconds("nbf"));
    let now = Duration::from_secs(now).as_secs_f64();
    now < expires && begins <= now + CLOCK_SKEW_SECONDS
}
