//! The provider's signing keys and its JSON web tokens.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use rsa::RsaPrivateKey;
use rsa::pkcs8::EncodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const KEY_BITS: usize = 2048;

/// Why no signing key could be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The generator failed.
    #[error("no RSA key could be generated")]
    Generate(#[from] rsa::Error),
    /// The generated key could not be encoded.
    #[error("the generated RSA key could not be encoded")]
    Encode(#[from] rsa::pkcs8::Error),
    /// The generated key was refused for signing.
    #[error("the generated RSA key was refused: {0}")]
    Refused(ring::error::KeyRejected),
    /// A token could not be signed.
    #[error("the token could not be signed")]
    Sign,
}

/// One RS256 key.
pub(super) struct SigningKey {
    pair: RsaKeyPair,
    id: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl SigningKey {
    /// Generates a key; takes a few hundred milliseconds of processor time.
    pub(super) fn generate() -> Result<Self, KeyError> {
        let private = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, KEY_BITS)?;
        let document = private.to_pkcs8_der()?;
        let modulus = private.n().to_bytes_be();
        Ok(Self {
            pair: RsaKeyPair::from_pkcs8(document.as_bytes()).map_err(KeyError::Refused)?,
            id: URL_SAFE_NO_PAD.encode(&Sha256::digest(&modulus)[..20]),
            exponent: private.e().to_bytes_be(),
            modulus,
        })
    }

    /// The key that all providers of this process start with.
    pub(super) fn of_this_process() -> Result<Arc<Self>, KeyError> {
        static FIRST: OnceLock<Arc<SigningKey>> = OnceLock::new();
        if let Some(key) = FIRST.get() {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(Self::generate()?);
        Ok(Arc::clone(FIRST.get_or_init(|| key)))
    }

    /// A compact RS256 token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": self.id});
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| KeyError::Sign)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of `token`, when this key signed it.
    pub(super) fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (_, claims) = signed.split_once('.')?;
        let public = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        public.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).ok()?;
        decode(claims)
    }

    /// The public key as a JSON web key.
    pub(super) fn to_jwk(&self) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.id,
            "x5t": self.id,
            "n": URL_SAFE_NO_PAD.encode(&self.modulus),
            "e": URL_SAFE_NO_PAD.encode(&self.exponent),
        })
    }
}

/// JSON in base64url without padding.
pub(super) fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// The JSON in base64url without padding.
pub(super) fn decode(text: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
