//! The host app's say before each write: properties of its own for the event.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_trait::async_trait;
use common::account::CacheKey;
use common::event::{AccountDetails, InvalidProperties, Properties};
use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::time::timeout;

/// How long a hook may take: it stands between the user and the end of the sign-in.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// What the host app overrides: called before each cache write that is about a user.
///
/// A hook that fails, panics, takes longer than a second or adds too much never fails the write: the event then goes without
/// its properties, which is logged and counted.
#[async_trait]
pub trait OnBeforeWrite: Send + Sync {
    /// Looks at whose cache is about to be written, and may add properties. Never add a secret: they are kept in the
    /// log and in the index.
    ///
    /// # Errors
    /// Whatever the host could not do.
    async fn on_before_write(&self, write: &mut BeforeWrite<'_>) -> Result<(), HookError>;
}

/// Whose cache is about to be written.
#[derive(Debug)]
pub struct BeforeWrite<'a> {
    /// The cache key.
    pub key: &'a CacheKey,
    /// What was read out of the blob.
    pub details: &'a AccountDetails,
    properties: BTreeMap<String, Value>,
}

impl BeforeWrite<'_> {
    /// Adds a property to the event, or replaces the one of that name.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.properties.insert(name.into(), value.into());
    }
}

/// The host's hook added nothing.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It failed.
    #[error("the hook failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It panicked.
    #[error("the hook panicked")]
    Panicked,
    /// It took too long.
    #[error("the hook took longer than {TIME_LIMIT:?}")]
    TooSlow,
    /// What it added is not allowed.
    #[error("the hook's properties were refused")]
    Properties(#[from] InvalidProperties),
}

pub(super) async fn ask(
    hook: &dyn OnBeforeWrite,
    key: &CacheKey,
    details: &AccountDetails,
) -> Result<Properties, HookError> {
    let mut write = BeforeWrite { key, details, properties: BTreeMap::new() };
    // What it may have left half done is its properties, which are then not used.
    let said = AssertUnwindSafe(hook.on_before_write(&mut write)).catch_unwind();
    timeout(TIME_LIMIT, said).await.map_err(|_| HookError::TooSlow)?.map_err(|_| HookError::Panicked)??;
    Ok(Properties::new(write.properties)?)
}
