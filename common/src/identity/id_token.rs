//! Checking id tokens: who issued them, for whom, for which sign-in, and until when.

use std::fmt;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use openidconnect::core::{
    CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, ClaimsVerificationError, IdTokenVerifier, IssuerUrl, JsonWebKey as _, Nonce,
    SignatureVerificationError,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::discovery::{Issuer, is_same};
use super::keys::KeySet;
use crate::account::{ClientId, ObjectId, TenantId};

/// How far clocks may differ: what Microsoft's libraries allow.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

type ProviderIdToken =
    openidconnect::IdToken<TenantClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;
type Claims = openidconnect::IdTokenClaims<TenantClaims, CoreGenderClaim>;

/// Why an id token was refused. It never repeats a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    /// The answer has none.
    #[error("there is no id token in the answer")]
    Missing,
    /// It is no signed JWT with the claims of an id token.
    #[error("the id token is not a signed JWT with the claims that OpenID Connect requires")]
    Malformed,
    /// No key of the provider has its key id.
    #[error("the id token is signed with a key that the provider does not publish")]
    UnknownKey,
    /// The signature is wrong, or made in a way that is not accepted.
    #[error("the signature of the id token is wrong")]
    Signature,
    /// It is another issuer's.
    #[error("the id token is of another issuer")]
    Issuer,
    /// It is for another app.
    #[error("the id token is for another client")]
    Audience,
    /// It has expired.
    #[error("the id token has expired; compare the clocks")]
    Expired,
    /// It is not valid yet.
    #[error("the id token is not valid yet; compare the clocks")]
    NotYetValid,
    /// It belongs to another sign-in.
    #[error("the id token belongs to another sign-in")]
    Nonce,
    /// The access token beside it is another one than it was issued with.
    #[error("the id token was not issued with this access token")]
    AccessTokenHash,
    /// Users of this tenant may not sign in.
    #[error("users of this tenant may not sign in here")]
    Tenant,
}

/// Who signed in, by a checked id token. `Debug` leaves the names out.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityClaims {
    /// `iss`.
    pub issuer: String,
    /// `sub`: the user as this provider tells them to this app.
    pub subject: String,
    /// `oid`: the user in the tenant of the token.
    pub object_id: Option<ObjectId>,
    /// `tid`: the tenant of the token, for a guest the one they are a guest in.
    pub tenant_id: Option<TenantId>,
    /// What the user signs in with: `preferred_username`, `upn` or `email`.
    pub username: Option<String>,
    /// The user's display name.
    pub name: Option<String>,
    /// `email`, where the provider says it.
    pub email: Option<String>,
}

impl IdentityClaims {
    /// The user in the tenant of the token: their object id, else the subject.
    pub(super) fn local_account_id(&self) -> String {
        self.object_id.as_ref().map_or(self.subject.as_str(), ObjectId::as_str).to_owned()
    }
}

impl fmt::Debug for IdentityClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityClaims")
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .field("tenant_id", &self.tenant_id)
            .finish_non_exhaustive()
    }
}

/// The claims beside OpenID Connect's own that are read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct TenantClaims {
    #[serde(default)]
    tid: Option<String>,
    #[serde(default)]
    oid: Option<String>,
    #[serde(default)]
    upn: Option<String>,
    #[serde(default)]
    nbf: Option<i64>,
}

impl AdditionalClaims for TenantClaims {}

/// What an id token must agree with.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a Issuer,
    /// What the provider says it signs by.
    pub(super) algorithms: &'a [String],
    pub(super) client_id: &'a ClientId,
    pub(super) allowed_tenants: &'a [TenantId],
    pub(super) now: Timestamp,
}

/// An id token that was read and not checked.
pub(super) struct IdToken(ProviderIdToken);

impl IdToken {
    pub(super) fn parse(token: &SecretString) -> Result<Self, IdTokenError> {
        token.expose_secret().parse().map(Self).map_err(|_| IdTokenError::Malformed)
    }

    /// Checks the token of a sign-in: its signature and every claim.
    pub(super) fn verify(
        &self,
        keys: &KeySet,
        nonce: &Nonce,
        access_token: &SecretString,
        expected: &Expected<'_>,
    ) -> Result<IdentityClaims, IdTokenError> {
        let verifier = expected.verifier(keys)?;
        let claims = self.0.claims(&verifier, nonce).map_err(|error| meaning(&error))?;
        let key = self.0.signing_key(&verifier).map_err(|_| IdTokenError::UnknownKey)?;
        expected.check_begin(claims)?;
        let identity = expected.check(claims)?;
        let tenant = identity.tenant_id.as_ref().map(TenantId::as_str);
        if !keys.may_sign(key.key_id().map(|id| id.as_str()), &identity.issuer, tenant) {
            return Err(IdTokenError::Signature);
        }
        self.check_access_token(claims, key, access_token)?;
        Ok(identity)
    }

    /// Checks the token of a refresh or another back-channel grant: its claims, and that is all, as OpenID Connect
    /// Core 3.1.3.7 (6) allows for what came straight from the token endpoint. A rotated refresh token must not be
    /// lost because the keys cannot be read just now, nor because our clock and the provider's differ: the token was
    /// issued for this call, so its times are not looked at.
    pub(super) fn check_claims(&self, expected: &Expected<'_>) -> Result<IdentityClaims, IdTokenError> {
        let verifier: IdTokenVerifier<'_, CoreJsonWebKey> = IdTokenVerifier::new_insecure_without_verification();
        let verifier = verifier.set_time_fn(|| SystemTime::UNIX_EPOCH.into());
        let claims = self.0.claims(&verifier, |_: Option<&Nonce>| Ok(())).map_err(|error| meaning(&error))?;
        expected.check_audience(claims)?;
        expected.check(claims)
    }

    fn check_access_token(
        &self,
        claims: &Claims,
        key: &CoreJsonWebKey,
        access_token: &SecretString,
    ) -> Result<(), IdTokenError> {
        let Some(hash) = claims.access_token_hash() else {
            return Ok(());
        };
        let algorithm = self.0.signing_alg().map_err(|_| IdTokenError::Signature)?;
        let token = openidconnect::AccessToken::new(access_token.expose_secret().to_owned());
        match AccessTokenHash::from_token(&token, algorithm, key) {
            Ok(own) if own == *hash => Ok(()),
            _ => Err(IdTokenError::AccessTokenHash),
        }
    }
}

impl Expected<'_> {
    fn verifier<'k>(&self, keys: &'k KeySet) -> Result<IdTokenVerifier<'k, CoreJsonWebKey>, IdTokenError> {
        let client = openidconnect::ClientId::new(self.client_id.as_str().to_owned());
        // The issuer depends on a claim where there is one for each tenant; `check` compares it.
        let issuer = IssuerUrl::new(self.issuer.name().to_owned()).map_err(|_| IdTokenError::Issuer)?;
        let verifier = IdTokenVerifier::new_public_client(client, issuer, keys.keys.clone());
        self.verifier_of(verifier.require_issuer_match(false).set_allowed_algs(self.algorithms()))
    }

    /// The verifier with our time: what has expired within the skew counts as valid.
    fn verifier_of<'k>(
        &self,
        verifier: IdTokenVerifier<'k, CoreJsonWebKey>,
    ) -> Result<IdTokenVerifier<'k, CoreJsonWebKey>, IdTokenError> {
        let time = self.now.checked_sub(CLOCK_SKEW).map_err(|_| IdTokenError::Expired)?;
        Ok(verifier.set_time_fn(move || SystemTime::from(time).into()))
    }

    /// The algorithms the provider signs by, of those whose keys it publishes.
    fn algorithms(&self) -> Vec<CoreJwsSigningAlgorithm> {
        let named = self.algorithms.iter().filter_map(|name| asymmetric(name));
        let named: Vec<_> = named.collect();
        if named.is_empty() { vec![CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256] } else { named }
    }

    /// That its time has begun, but for clocks that differ.
    fn check_begin(&self, claims: &Claims) -> Result<(), IdTokenError> {
        let latest = self.now.as_second().saturating_add(CLOCK_SKEW.as_secs());
        let not_before = claims.additional_claims().nbf.unwrap_or(i64::MIN);
        let begins = not_before.max(claims.issue_time().timestamp());
        if begins > latest { Err(IdTokenError::NotYetValid) } else { Ok(()) }
    }

    /// Everything that needs neither keys nor a clock: authorized party, tenant and issuer.
    fn check(&self, claims: &Claims) -> Result<IdentityClaims, IdTokenError> {
        let additional = claims.additional_claims();
        let is_ours = |party: &openidconnect::ClientId| party.as_str().eq_ignore_ascii_case(self.client_id.as_str());
        if claims.authorized_party().is_some_and(|party| !is_ours(party)) {
            return Err(IdTokenError::Audience);
        }
        let tenant = additional.tid.as_deref().and_then(|tid| TenantId::new(tid).ok());
        let issuer = self.issuer.of(tenant.as_ref()).ok_or(IdTokenError::Tenant)?;
        if **claims.issuer() != issuer {
            return Err(IdTokenError::Issuer);
        }
        if !self.lets_in(tenant.as_ref()) {
            return Err(IdTokenError::Tenant);
        }
        Ok(identity_of(claims, tenant))
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), IdTokenError> {
        let is_ours = claims.audiences().iter().any(|audience| audience.as_str() == self.client_id.as_str());
        if is_ours { Ok(()) } else { Err(IdTokenError::Audience) }
    }

    fn lets_in(&self, tenant: Option<&TenantId>) -> bool {
        self.allowed_tenants.is_empty()
            || tenant.is_some_and(|tenant| self.allowed_tenants.iter().any(|allowed| is_same(allowed, tenant)))
    }
}

fn identity_of(claims: &Claims, tenant_id: Option<TenantId>) -> IdentityClaims {
    let additional = claims.additional_claims();
    let preferred = claims.preferred_username().map(|name| name.as_str().to_owned());
    let email = claims.email().map(|email| email.as_str().to_owned());
    IdentityClaims {
        issuer: claims.issuer().to_string(),
        subject: claims.subject().to_string(),
        object_id: additional.oid.as_deref().and_then(|oid| ObjectId::new(oid).ok()),
        tenant_id,
        username: preferred.or_else(|| additional.upn.clone()).or_else(|| email.clone()),
        name: claims.name().and_then(|name| name.get(None)).map(|name| name.as_str().to_owned()),
        email,
    }
}

fn asymmetric(name: &str) -> Option<CoreJwsSigningAlgorithm> {
    match name {
        "RS256" => Some(CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256),
        "RS384" => Some(CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384),
        "RS512" => Some(CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512),
        "PS256" => Some(CoreJwsSigningAlgorithm::RsaSsaPssSha256),
        "PS384" => Some(CoreJwsSigningAlgorithm::RsaSsaPssSha384),
        "PS512" => Some(CoreJwsSigningAlgorithm::RsaSsaPssSha512),
        "ES256" => Some(CoreJwsSigningAlgorithm::EcdsaP256Sha256),
        "ES384" => Some(CoreJwsSigningAlgorithm::EcdsaP384Sha384),
        "EdDSA" => Some(CoreJwsSigningAlgorithm::EdDsa),
        _ => None,
    }
}

fn meaning(error: &ClaimsVerificationError) -> IdTokenError {
    match error {
        ClaimsVerificationError::Expired(_) => IdTokenError::Expired,
        ClaimsVerificationError::InvalidAudience(_) => IdTokenError::Audience,
        ClaimsVerificationError::InvalidIssuer(_) => IdTokenError::Issuer,
        ClaimsVerificationError::InvalidNonce(_) => IdTokenError::Nonce,
        ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => {
            IdTokenError::UnknownKey
        }
        ClaimsVerificationError::SignatureVerification(_) => IdTokenError::Signature,
        _ => IdTokenError::Malformed,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::{Value, json};

    use super::*;

    const TENANT: &str = "7d1f5a2c-3b64-4c1e-9a57-0c6d2e8f1b30";
    const OTHER_TENANT: &str = "11111111-3b64-4c1e-9a57-0c6d2e8f1b30";
    const NOW: i64 = 1_795_000_000;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            let random = SystemRandom::new();
            let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap())
        }

        fn sign(&self, header: &Value, claims: &Value) -> SecretString {
            let text = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
            let signed = format!("{}.{}", text(header), text(claims));
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into()
        }

        fn keys(&self, more: Value) -> KeySet {
            let point = self.0.public_key().as_ref();
            let mut key = json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": "one",
                "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..])});
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            KeySet::parse(json!({"keys": [key]})).unwrap()
        }
    }

    fn claims() -> Value {
        json!({
            "iss": format!("https://login.example/{TENANT}/v2.0"), "aud": "client", "sub": "subject",
            "exp": NOW + 3600, "iat": NOW, "nbf": NOW, "nonce": "nonce", "tid": TENANT, "oid": "object",
            "preferred_username": "ada@contoso.com", "name": "Ada",
        })
    }

    struct Case {
        signer: Signer,
        /// Whose key is published, where it is not the signer's.
        publisher: Option<Signer>,
        issuer: Issuer,
        header: Value,
        claims: Value,
        key: Value,
        allowed: Vec<TenantId>,
    }

    impl Case {
        fn good() -> Self {
            let url = format!("https://login.example/{TENANT}/v2.0");
            Self {
                signer: Signer::new(),
                publisher: None,
                issuer: Issuer::One { url, tenant: Some(TenantId::new(TENANT).unwrap()) },
                header: json!({"alg": "ES256", "kid": "one", "typ": "JWT"}),
                claims: claims(),
                key: json!({}),
                allowed: Vec::new(),
            }
        }

        fn multi_tenant() -> Self {
            let template = "https://login.example/{tenantid}/v2.0".to_owned();
            Self { issuer: Issuer::EachTenant { template, lets_personal_in: false }, ..Self::good() }
        }

        fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
            self.claims[claim] = value.into();
            self
        }

        fn verify(&self) -> Result<IdentityClaims, IdTokenError> {
            let expected = Expected {
                issuer: &self.issuer,
                algorithms: &["ES256".to_owned()],
                client_id: &ClientId::new("client").unwrap(),
                allowed_tenants: &self.allowed,
                now: Timestamp::from_second(NOW).unwrap(),
            };
            let token = IdToken::parse(&self.signer.sign(&self.header, &self.claims))?;
            let verified = token.verify(
                &self.publisher.as_ref().unwrap_or(&self.signer).keys(self.key.clone()),
                &Nonce::new("nonce".to_owned()),
                &"access token".to_owned().into(),
                &expected,
            );
            let refreshed = token.check_claims(&expected);
            match verified {
                // What needs a key or belongs to a sign-in is not looked at on the way of a refresh.
                Err(
                    IdTokenError::Signature
                    | IdTokenError::UnknownKey
                    | IdTokenError::Nonce
                    | IdTokenError::AccessTokenHash,
                ) => {}
                Err(IdTokenError::Expired | IdTokenError::NotYetValid) => assert!(refreshed.is_ok()),
                _ => assert_eq!(refreshed, verified),
            }
            verified
        }
    }

    #[test]
    fn a_good_token_says_who_signed_in() {
        let identity = Case::good().verify().unwrap();
        assert_eq!(identity.username.as_deref(), Some("ada@contoso.com"));
        assert_eq!(identity.tenant_id.unwrap().as_str(), TENANT);
        assert_eq!(identity.object_id.unwrap().as_str(), "object");
    }

    #[test]
    fn every_claim_that_does_not_fit_is_refused() {
        let cases = [
            ("iss", json!("https://evil.example/v2.0"), IdTokenError::Issuer),
            ("iss", json!(format!("https://login.example/{OTHER_TENANT}/v2.0")), IdTokenError::Issuer),
            ("tid", json!(OTHER_TENANT), IdTokenError::Tenant),
            ("tid", json!(null), IdTokenError::Tenant),
            ("aud", json!("another"), IdTokenError::Audience),
            ("aud", json!(["another"]), IdTokenError::Audience),
            ("azp", json!("another"), IdTokenError::Audience),
            ("exp", json!(NOW - 301), IdTokenError::Expired),
            ("nbf", json!(NOW + 301), IdTokenError::NotYetValid),
            ("iat", json!(NOW + 301), IdTokenError::NotYetValid),
            ("nonce", json!("another"), IdTokenError::Nonce),
            ("nonce", json!(null), IdTokenError::Nonce),
            ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA"), IdTokenError::AccessTokenHash),
            ("sub", json!(null), IdTokenError::Malformed),
        ];
        for (claim, value, error) in cases {
            assert_eq!(Case::good().with(claim, value.clone()).verify(), Err(error), "{claim} = {value}");
        }
    }

    #[test]
    fn clocks_may_differ_by_five_minutes() {
        for (claim, value) in [("exp", NOW - 299), ("nbf", NOW + 299), ("iat", NOW + 299)] {
            assert!(Case::good().with(claim, value).verify().is_ok(), "{claim}");
        }
    }

    #[test]
    fn the_hash_of_the_access_token_is_compared() {
        let digest = ring::digest::digest(&ring::digest::SHA256, b"access token");
        let hash = URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]);
        assert!(Case::good().with("at_hash", hash).verify().is_ok());
    }

    #[test]
    fn a_signature_of_another_key_is_refused() {
        let published = Case::good().signer;
        let case = Case { publisher: Some(published), ..Case::good() };
        assert_eq!(case.verify(), Err(IdTokenError::Signature));
    }

    #[test]
    fn an_unsigned_token_and_one_by_another_algorithm_are_refused() {
        for algorithm in ["none", "HS256", "RS256"] {
            let case = Case { header: json!({"alg": algorithm, "kid": "one"}), ..Case::good() };
            assert_eq!(case.verify(), Err(IdTokenError::Signature), "{algorithm}");
        }
    }

    #[test]
    fn a_key_id_that_is_not_published_is_told_apart() {
        let case = Case { header: json!({"alg": "ES256", "kid": "two"}), ..Case::good() };
        assert_eq!(case.verify(), Err(IdTokenError::UnknownKey));
    }

    #[test]
    fn under_a_multi_tenant_authority_the_issuer_is_that_of_the_tokens_own_tenant() {
        assert!(Case::multi_tenant().verify().is_ok());
        let other = format!("https://login.example/{OTHER_TENANT}/v2.0");
        assert!(Case::multi_tenant().with("iss", other.clone()).with("tid", OTHER_TENANT).verify().is_ok());
        assert_eq!(Case::multi_tenant().with("iss", other).verify(), Err(IdTokenError::Issuer));
        let template = "https://login.example/{tenantid}/v2.0";
        let unfilled = Case::multi_tenant().with("iss", template).with("tid", "{tenantid}");
        assert_eq!(unfilled.verify(), Err(IdTokenError::Tenant));
    }

    #[test]
    fn only_the_allowed_tenants_are_let_in() {
        let allowing =
            |tenant: &str| Case { allowed: vec![TenantId::new(tenant).unwrap()], ..Case::multi_tenant() }.verify();
        assert!(allowing(&TENANT.to_uppercase()).is_ok());
        assert_eq!(allowing(OTHER_TENANT), Err(IdTokenError::Tenant));
    }

    #[test]
    fn personal_accounts_are_no_members_of_an_organization() {
        const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
        let case = || {
            let issuer = format!("https://login.example/{PERSONAL}/v2.0");
            Case::multi_tenant().with("tid", PERSONAL).with("iss", issuer)
        };
        assert_eq!(case().verify(), Err(IdTokenError::Tenant));
        let template = "https://login.example/{tenantid}/v2.0".to_owned();
        assert!(Case { issuer: Issuer::EachTenant { template, lets_personal_in: true }, ..case() }.verify().is_ok());
    }

    #[test]
    fn a_key_of_one_issuer_does_not_sign_for_another() {
        let of = |issuer: &str| Case { key: json!({"issuer": issuer}), ..Case::multi_tenant() }.verify();
        assert!(of("https://login.example/{tenantid}/v2.0").is_ok());
        assert_eq!(of(&format!("https://login.example/{OTHER_TENANT}/v2.0")), Err(IdTokenError::Signature));
    }

    #[test]
    fn nobody_is_named_when_the_identity_is_printed() {
        let shown = format!("{:?}", Case::good().verify().unwrap());
        assert!(!shown.contains("ada") && !shown.contains("Ada"), "{shown}");
    }
}
