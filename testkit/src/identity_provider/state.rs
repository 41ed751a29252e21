//! What the provider knows and remembers.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::client::Client;
use super::clock::Clock;
use super::codes::Codes;
use super::counts::TokenRequests;
use super::families::Families;
use super::fault::{Effects, Faults, Target};
use super::keys::{KeyError, SigningKey};
use super::options::Options;
use super::record::Record;
use super::user::User;

/// Shared by all handlers.
pub(super) struct Provider {
    pub(super) options: Options,
    pub(super) base_url: String,
    pub(super) clock: Clock,
    pub(super) stopped: CancellationToken,
    /// Token requests that are not answered yet.
    pub(super) under_way: AtomicU64,
    keys: RwLock<Vec<Arc<SigningKey>>>,
    state: Mutex<State>,
}

/// The part that changes.
pub(super) struct State {
    pub(super) users: HashMap<String, Arc<User>>,
    pub(super) clients: HashMap<String, Arc<Client>>,
    pub(super) codes: Codes,
    pub(super) families: Families,
    pub(super) faults: Faults,
    pub(super) requests: BTreeMap<String, TokenRequests>,
    pub(super) record: Record,
}

impl Provider {
    pub(super) fn new(options: Options, base_url: String, key: Arc<SigningKey>) -> Self {
        let state = State {
            users: HashMap::new(),
            clients: HashMap::new(),
            codes: Codes::default(),
            families: Families::new(options.rotation),
            faults: Faults::default(),
            requests: BTreeMap::new(),
            record: Record::new(options.records_secrets),
        };
        Self {
            options,
            base_url,
            clock: Clock::default(),
            stopped: CancellationToken::new(),
            under_way: AtomicU64::new(0),
            keys: RwLock::new(vec![key]),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a handler leaves no half-made change worth hiding from the other tests.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn issuer(&self, tenant_id: &str) -> String {
        format!("{}/{tenant_id}/v2.0", self.base_url)
    }

    pub(super) fn strike(&self, target: Target<'_>) -> Effects {
        self.state().faults.strike(target)
    }

    pub(super) fn add_key(&self, key: SigningKey) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(key));
    }

    pub(super) fn keys(&self) -> Vec<Arc<SigningKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        // There is always the first key.
        let newest = self.keys().pop().ok_or(KeyError::Sign)?;
        newest.sign(claims)
    }

    /// The claims of an access token that this provider signed, has not expired and is not revoked.
    pub(super) fn live_claims(&self, token: &str) -> Option<Value> {
        let claims = self.keys().iter().find_map(|key| key.verify(token))?;
        if claims["exp"].as_u64()? <= self.clock.unix_seconds() || claims["uti"].is_null() {
            return None;
        }
        match claims["sid"].as_str() {
            None => Some(claims),
            Some(family) => self.state().families.is_live(Uuid::try_parse(family).ok()?).then_some(claims),
        }
    }
}

impl State {
    pub(super) fn user(&self, username: &str) -> Option<Arc<User>> {
        self.users.get(&username.to_lowercase()).cloned()
    }

    pub(super) fn add_user(&mut self, user: User) -> Arc<User> {
        let user = Arc::new(user);
        self.users.insert(user.username.to_lowercase(), Arc::clone(&user));
        user
    }

    pub(super) fn client(&self, id: &str) -> Option<Arc<Client>> {
        self.clients.get(&id.to_lowercase()).cloned()
    }
}
