//! Opens the three ports where the settings say they are. A backend is chosen by the URL's scheme and by nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::backend::{BackendError, ServerUrl};
use crate::index::{ActivityStore, SqliteActivityStore};
use crate::log::{ActivityLog, DeadLetters, LogError, SqliteLog};
use crate::settings::{Connections, SettingsError};
use crate::sqlite::Database;
use crate::token_cache::{Outbox, SqliteTokenCache, SqliteTokenCacheOptions, TokenCacheStore};

/// Opens the ports on demand. Ports that live in one SQLite file share it.
#[derive(Debug)]
pub struct Backends {
    settings: Connections,
    databases: Mutex<HashMap<String, Database>>,
}

/// The log and the place for what it holds and nobody can apply.
#[derive(Debug, Clone)]
pub struct Log {
    /// The log.
    pub log: Arc<dyn ActivityLog>,
    /// Its dead letters.
    pub dead_letters: Arc<dyn DeadLetters>,
}

/// The token cache and the outbox beside it.
#[derive(Debug, Clone)]
pub struct TokenCache {
    /// The blobs.
    pub store: Arc<dyn TokenCacheStore>,
    /// The events that were written with them.
    pub outbox: Arc<dyn Outbox>,
}

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings do not fit.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// See [`BackendError`].
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
}

impl Backends {
    /// Opens nothing yet.
    pub fn new(settings: Connections) -> Self {
        Self { settings, databases: Mutex::default() }
    }

    /// What was set.
    pub fn settings(&self) -> &Connections {
        &self.settings
    }

    /// The log.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn log(&self) -> Result<Log, OpenError> {
        let url = self.settings.log_url()?;
        let log = SqliteLog::open(self.database(&url).await?, self.settings.log_partitions).await?;
        Ok(Log { log: Arc::new(log.clone()), dead_letters: Arc::new(log) })
    }

    /// The activity index.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn index(&self) -> Result<Arc<dyn ActivityStore>, OpenError> {
        let url = self.settings.index_url()?;
        Ok(Arc::new(SqliteActivityStore::open(self.database(&url).await?).await?))
    }

    /// The token cache with its outbox.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn token_cache(&self) -> Result<TokenCache, OpenError> {
        let url = self.settings.cache_url()?;
        let cache = SqliteTokenCache::open(self.database(&url).await?, SqliteTokenCacheOptions::default()).await?;
        Ok(TokenCache { store: Arc::new(cache.clone()), outbox: Arc::new(cache) })
    }

    async fn database(&self, url: &ServerUrl) -> Result<Database, BackendError> {
        let mut databases = self.databases.lock().await;
        if let Some(database) = databases.get(url.expose()) {
            return Ok(database.clone());
        }
        let database = Database::open(url).await?;
        databases.insert(url.expose().to_owned(), database.clone());
        Ok(database)
    }
}
