//! The users of a simulation: the same number is always the same user, with a cache shaped like MSAL's.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::account::CacheKey;
use common::token_cache::msal::{TokenCacheBlob, TokenResponse};
use rand::RngCore as _;
use uuid::Uuid;

const ENVIRONMENT: &str = "login.microsoftonline.com";
const CLIENT_ID: &str = "5b0c7d9e-2f43-4c1a-9d6e-7a8b9c0d1e2f";
/// Sizes of an Entra ID sign-in with a handful of claims: together a blob of about 7 KB.
const ACCESS_TOKEN_BYTES: usize = 1800;
const REFRESH_TOKEN_BYTES: usize = 1200;
const ID_TOKEN_BYTES: usize = 1000;

/// Users who are spread over tenants round-robin.
#[derive(Debug, Clone, Copy)]
pub struct Population {
    /// Sets two populations apart.
    pub seed: u64,
    /// How many tenants the users are spread over, at least 1.
    pub tenants: u32,
    /// How long an access token lives.
    pub access_token_lifetime: Duration,
}

/// One user of a [`Population`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedUser {
    /// The user's object id.
    pub object_id: Uuid,
    /// The user's tenant.
    pub tenant_id: Uuid,
    /// The username.
    pub username: String,
}

impl Population {
    /// The user of this number.
    pub fn user(&self, number: u64) -> SimulatedUser {
        let tenant = number % u64::from(self.tenants.max(1));
        SimulatedUser {
            object_id: self.id(1, number),
            tenant_id: self.id(2, tenant),
            username: format!("user{number}@tenant{tenant}.example"),
        }
    }

    fn id(&self, kind: u64, number: u64) -> Uuid {
        let high = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (kind << 60);
        uuid::Builder::from_random_bytes(pair(high, number)).into_uuid()
    }

    /// A fresh blob of the user, as a web app's MSAL would hold it after a sign-in at `now` (Unix seconds).
    /// Its tokens are random bytes that no provider ever issued.
    pub fn blob(&self, user: &SimulatedUser, now: i64) -> Vec<u8> {
        let mut blob = TokenCacheBlob::default();
        blob.save(&self.answer(user), now);
        blob.serialize().into_owned()
    }

    fn answer(&self, user: &SimulatedUser) -> TokenResponse {
        TokenResponse {
            home_account_id: user.cache_key().to_string(),
            environment: ENVIRONMENT.to_owned(),
            client_id: CLIENT_ID.to_owned(),
            realm: user.tenant_id.to_string(),
            scopes: ["User.Read", "openid", "profile", "offline_access"].map(str::to_owned).to_vec(),
            access_token: fake_token(ACCESS_TOKEN_BYTES).into(),
            expires_in: self.access_token_lifetime,
            ext_expires_in: Some(self.access_token_lifetime * 2),
            refresh_in: None,
            refresh_token: Some(fake_token(REFRESH_TOKEN_BYTES).into()),
            family_id: None,
            id_token: Some(fake_token(ID_TOKEN_BYTES).into()),
            client_info: None,
            username: Some(user.username.clone()),
            name: Some(format!("User {}", user.username)),
            local_account_id: Some(user.object_id.to_string()),
            authority_type: Some("MSSTS".to_owned()),
            assertion_hash: None,
        }
    }
}

impl SimulatedUser {
    /// The key of the user's blob: the home account id.
    pub fn cache_key(&self) -> CacheKey {
        CacheKey::of_user(self.object_id, self.tenant_id)
    }
}

/// Mixes two numbers into 16 bytes, so that ids do not sort by number.
fn pair(high: u64, low: u64) -> [u8; 16] {
    let mixed = low.wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(31) ^ high;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mixed.to_be_bytes());
    bytes[8..].copy_from_slice(&low.wrapping_add(high).to_be_bytes());
    bytes
}

fn fake_token(bytes: usize) -> String {
    let mut random = vec![0; bytes * 3 / 4];
    rand::rng().fill_bytes(&mut random);
    URL_SAFE_NO_PAD.encode(random)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const POPULATION: Population = Population { seed: 7, tenants: 3, access_token_lifetime: Duration::from_secs(3600) };

    #[test]
    fn a_number_is_always_the_same_user_and_another_number_another() {
        assert_eq!(POPULATION.user(5), POPULATION.user(5));
        assert_ne!(POPULATION.user(5).object_id, POPULATION.user(6).object_id);
        assert_eq!(POPULATION.user(5).tenant_id, POPULATION.user(8).tenant_id);
        let other = Population { seed: 8, ..POPULATION };
        assert_ne!(POPULATION.user(5).object_id, other.user(5).object_id);
    }

    #[test]
    fn a_blob_is_a_cache_of_its_user_of_a_usual_size() {
        let user = POPULATION.user(1);
        let bytes = POPULATION.blob(&user, 1_795_400_000);
        let blob = TokenCacheBlob::parse(&bytes).unwrap();
        let summary = blob.summary(user.cache_key().as_str(), 1_795_400_000);
        assert_eq!(summary.home_account_id, Some(user.cache_key().as_str()));
        assert_eq!(summary.access_token_expires_on, Some(1_795_403_600));
        assert!(summary.has_refresh_token && (5_000..9_000).contains(&bytes.len()), "{}", bytes.len());
    }
}
