//! What a shard has decided about its lists, so that no account is in two of them that say the same.
//!
//! Of every account but a few the app is the same, and so is the tenant of many. A list of the main app's accounts, and a
//! list of all beside those of large tenants, would name the same accounts again, at some 100 bytes each. So there is no
//! list of the *main app*, and the accounts of up to 64 tenants *of their own* are in their tenant's list alone; what is asked of
//! all is put together of these and of the list of the others.
//!
//! Those that most accounts of the first batches are of are taken, and what is decided stays, else an account would have
//! to move for it. It is kept in the shard itself: a server that loses its last writes loses the decision after the
//! accounts that were written by it, never before. Each script that writes compares the id of what it was called for, and
//! a page compares it after its lists were read: an id never comes again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use redis::{AsyncCommands as _, RedisError};

use super::RedisGeneration;
use super::keys::{Keys, LAYOUT_CLIENT, LAYOUT_ID, LAYOUT_TENANT};
use crate::account::{ClientId, TenantId};
use crate::backend::BackendError;
use crate::redis_pool::AnyConnection;

/// How many tenants of a shard have lists of their own alone. Each is one more list to put together.
const OWN_TENANTS: usize = 64;

/// What a shard has decided.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Changes with the rest; empty where nothing is decided.
    pub(super) id: String,
    main_client: Option<ClientId>,
    own_tenants: HashSet<TenantId>,
}

impl Layout {
    /// Whether the accounts of `client` have no list of their own.
    pub(super) fn is_main(&self, client: &ClientId) -> bool {
        self.main_client.as_ref() == Some(client)
    }

    /// Whether the accounts of `tenant` are in its list alone.
    pub(super) fn is_own(&self, tenant: &TenantId) -> bool {
        self.own_tenants.contains(tenant)
    }

    /// Whether there is a main app.
    pub(super) fn has_main(&self) -> bool {
        self.main_client.is_some()
    }

    pub(super) fn own_tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.own_tenants.iter()
    }

    /// Whether the shard has a place left for this tenant among its own.
    pub(super) fn is_undecided_on(&self, tenant: &TenantId) -> bool {
        self.own_tenants.len() < OWN_TENANTS && !self.is_own(tenant)
    }

    fn of(fields: HashMap<String, String>) -> Self {
        let mut layout = Self::default();
        for (field, value) in fields {
            match field.strip_prefix(LAYOUT_TENANT) {
                Some(tenant) => layout.own_tenants.extend(TenantId::new(tenant)),
                None if field == LAYOUT_CLIENT => layout.main_client = ClientId::new(value).ok(),
                None if field == LAYOUT_ID => layout.id = value,
                None => {}
            }
        }
        layout
    }
}

/// The layouts that were read, by their keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Layouts(Arc<Mutex<HashMap<String, Arc<Layout>>>>);

impl Layouts {
    fn get(&self, keys: &Keys) -> Option<Arc<Layout>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(keys.layout()).cloned()
    }

    fn keep(&self, keys: &Keys, fields: HashMap<String, String>) -> Arc<Layout> {
        let layout = Arc::new(Layout::of(fields));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(keys.layout().to_owned(), Arc::clone(&layout));
        layout
    }

    /// Forgets one, to be read again.
    pub(super) fn forget(&self, keys: &Keys) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(keys.layout());
    }
}

/// Whether a script was called for a layout that is not the shard's any more.
pub(super) fn is_outdated(error: &RedisError) -> bool {
    error.code() == Some("LAYOUT")
}

impl RedisGeneration {
    /// What the shard has decided, as far as it is known here.
    pub(super) async fn layout(
        &self,
        connection: &mut AnyConnection,
        keys: &Keys,
    ) -> Result<Arc<Layout>, BackendError> {
        if let Some(known) = self.layouts.get(keys) {
            return Ok(known);
        }
        let fields = connection.hgetall(keys.layout()).await.map_err(|e| self.pool.error(e))?;
        Ok(self.layouts.keep(keys, fields))
    }

    /// Decides what is open; whoever comes first decides for all.
    pub(super) async fn decide(
        &self,
        connection: &mut AnyConnection,
        keys: &Keys,
        open: Undecided<'_>,
    ) -> Result<(), BackendError> {
        let mut call = self.scripts.layout.prepare_invoke();
        call.key(keys.layout()).key(keys.dropped()).arg(uuid::Uuid::new_v4().simple().to_string()).arg(OWN_TENANTS);
        call.arg(open.client.map_or("", |client| client.as_str()));
        for tenant in open.tenants.iter().take(OWN_TENANTS) {
            call.arg(tenant.as_str());
        }
        let fields = call.invoke_async(connection).await.map_err(|e| self.pool.error(e))?;
        self.layouts.keep(keys, fields);
        Ok(())
    }
}

/// What a batch is of that nothing is decided on, that of the most accounts first.
pub(super) struct Undecided<'a> {
    /// The app most accounts are of, where there is no main one.
    pub(super) client: Option<&'a ClientId>,
    pub(super) tenants: Vec<&'a TenantId>,
}
