//! Opens the three ports where the settings say they are. A backend is chosen by the URL's scheme and by nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::backend::{BackendError, ServerUrl};
use crate::index::{
    ActivityStore, Claims, IndexGenerations, PartitionLeases, RedisIndex, RedisPartitionLeases, SqliteIndex,
    SqlitePartitionLeases,
};
use crate::log::{
    ActivityLog, DeadLetters, GrowError, Grown, LogError, RabbitMqLog, RabbitMqManagement, RabbitMqOptions, SqliteLog,
    TopologyOptions, retention_command,
};
use crate::redis_pool::RedisPool;
use crate::settings::{Connections, SettingsError};
use crate::sqlite::Database;
use crate::token_cache::encryption::{EncryptedTokenCache, Rewrap, RewrapOptions};
use crate::token_cache::{
    L1TokenCache, Outbox, OutboxErasure, RedisTokenCache, RedisTokenCacheOptions, RefreshLock, SqliteTokenCache,
    SqliteTokenCacheOptions, TokenCacheScan, TokenCacheStore,
};

/// How many connections to Redis a port may hold open.
const REDIS_CONNECTIONS: usize = 16;

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
    /// Who may refresh them.
    pub refresh_lock: Arc<dyn RefreshLock>,
    /// What makes the outbox forget an account.
    pub erasure: Arc<dyn OutboxErasure>,
    /// Which blobs there are; for an operator's tools.
    pub scan: Arc<dyn TokenCacheScan>,
}

/// How long a log keeps events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRetention {
    /// For so long, or a little longer.
    For(Duration),
    /// For ever.
    Forever,
    /// It does not say, or not here.
    NotTold,
}

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings do not fit.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// See [`BackendError`].
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The log was not grown.
#[derive(Debug, thiserror::Error)]
pub enum GrowLogError {
    /// See [`OpenError`].
    #[error(transparent)]
    Open(#[from] OpenError),
    /// See [`GrowError`].
    #[error(transparent)]
    Grow(#[from] GrowError),
}

impl TokenCache {
    /// All of them on one backend.
    pub fn of<T: TokenCacheStore + Outbox + OutboxErasure + RefreshLock + TokenCacheScan + Clone + 'static>(
        cache: T,
    ) -> Self {
        Self {
            store: Arc::new(cache.clone()),
            outbox: Arc::new(cache.clone()),
            refresh_lock: Arc::new(cache.clone()),
            erasure: Arc::new(cache.clone()),
            scan: Arc::new(cache),
        }
    }
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
        if url.scheme() == "sqlite" {
            let log = self.sqlite_log(&url).await?;
            return Ok(Log { log: Arc::new(log.clone()), dead_letters: Arc::new(log) });
        }
        let log = self.rabbitmq(url)?;
        Ok(Log { log: Arc::new(log.clone()), dead_letters: Arc::new(log) })
    }

    /// Declares the log where it is not declared yet; what is there already stays as it is.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn declare_log(&self) -> Result<(), OpenError> {
        let url = self.settings.log_url()?;
        if url.scheme() == "sqlite" {
            return self.log().await.map(drop);
        }
        Ok(self.rabbitmq(url)?.declare().await?)
    }

    /// Adds partitions to a log in use until there are `partitions`.
    ///
    /// # Errors
    /// [`GrowLogError`].
    pub async fn grow_log(&self, partitions: u32) -> Result<Grown, GrowLogError> {
        let url = self.settings.log_url().map_err(OpenError::from)?;
        if url.scheme() == "sqlite" {
            let database = self.database(&url).await.map_err(OpenError::from)?;
            return Ok(SqliteLog::open(database, 1).await.map_err(OpenError::from)?.grow(partitions).await?);
        }
        Ok(self.rabbitmq(url).map_err(OpenError::from)?.grow(partitions).await?)
    }

    /// How long the log keeps events.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn log_retention(&self) -> Result<LogRetention, OpenError> {
        let url = self.settings.log_url()?;
        let kept = match self.settings.log_management_url()? {
            _ if url.scheme() == "sqlite" => self.sqlite_log(&url).await?.retention().await?,
            Some(management) => RabbitMqManagement::new(&management, &url, &self.settings.tls())?.retention().await?,
            None => return Ok(LogRetention::NotTold),
        };
        Ok(kept.map_or(LogRetention::Forever, LogRetention::For))
    }

    /// Has the log keep events for this long; gives the command that does it where it cannot be done from here.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn set_log_retention(&self, max_age: Duration) -> Result<Option<String>, OpenError> {
        let url = self.settings.log_url()?;
        match self.settings.log_management_url()? {
            _ if url.scheme() == "sqlite" => self.sqlite_log(&url).await?.set_retention(max_age).await?,
            Some(management) => {
                RabbitMqManagement::new(&management, &url, &self.settings.tls())?.set_retention(max_age).await?;
            }
            None => return Ok(Some(retention_command(&url, max_age)?)),
        }
        Ok(None)
    }

    async fn sqlite_log(&self, url: &ServerUrl) -> Result<SqliteLog, BackendError> {
        SqliteLog::open(self.database(url).await?, self.settings.log_partitions).await
    }

    fn rabbitmq(&self, url: ServerUrl) -> Result<RabbitMqLog, BackendError> {
        let topology = TopologyOptions { partitions: self.settings.log_partitions, ..TopologyOptions::default() };
        let options = RabbitMqOptions { tls: self.settings.tls(), topology, ..RabbitMqOptions::new(url) };
        RabbitMqLog::connect(&options)
    }

    /// The activity index.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn index(&self) -> Result<Arc<dyn ActivityStore>, OpenError> {
        let url = self.settings.index_url()?;
        if url.scheme() == "sqlite" {
            return Ok(Arc::new(SqliteIndex::open(self.database(&url).await?).await?));
        }
        Ok(Arc::new(self.redis_index(&url).await?))
    }

    /// The generations of the activity index.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn index_generations(&self) -> Result<Arc<dyn IndexGenerations>, OpenError> {
        let url = self.settings.index_url()?;
        if url.scheme() == "sqlite" {
            return Ok(Arc::new(SqliteIndex::open(self.database(&url).await?).await?));
        }
        Ok(Arc::new(self.redis_index(&url).await?))
    }

    /// The claims on accounts of the activity index.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn claims(&self) -> Result<Arc<dyn Claims>, OpenError> {
        let url = self.settings.index_url()?;
        if url.scheme() == "sqlite" {
            return Ok(Arc::new(SqliteIndex::open(self.database(&url).await?).await?));
        }
        Ok(Arc::new(self.redis_index(&url).await?))
    }

    /// What projectors share the partitions by, beside the index.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn partition_leases(&self) -> Result<Arc<dyn PartitionLeases>, OpenError> {
        let url = self.settings.index_url()?;
        if url.scheme() == "sqlite" {
            return Ok(Arc::new(SqlitePartitionLeases::open(self.database(&url).await?).await?));
        }
        Ok(Arc::new(RedisPartitionLeases::new(self.redis(&url)?, &self.settings.index_prefix)))
    }

    async fn redis_index(&self, url: &ServerUrl) -> Result<RedisIndex, BackendError> {
        let Connections { index_prefix, index_shards, .. } = &self.settings;
        RedisIndex::open_sharded(self.redis(url)?, index_prefix, *index_shards).await
    }

    /// The token cache with its outbox; kept in memory and encrypted where that is set.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn token_cache(&self) -> Result<TokenCache, OpenError> {
        let cipher = self.settings.cache_cipher()?;
        let mut cache = self.stored_token_cache().await?;
        if let Some(options) = self.settings.cache_l1() {
            cache.store = Arc::new(L1TokenCache::new(cache.store, options));
        }
        if let Some(cipher) = cipher {
            let address = self.settings.cache_url()?.to_string();
            cache.store = Arc::new(EncryptedTokenCache::new(cache.store, cipher, address));
        }
        Ok(cache)
    }

    /// What moves the blobs of the token cache to the active key.
    ///
    /// # Errors
    /// [`OpenError`]; wrong settings where no keys are set.
    pub async fn rewrap(&self, options: RewrapOptions) -> Result<Rewrap, OpenError> {
        let cipher = self.settings.cache_cipher()?.ok_or(SettingsError::NoEncryptionKeys)?;
        let cache = self.stored_token_cache().await?;
        Ok(Rewrap::new(cache.store, cache.scan, cipher, options))
    }

    /// The token cache as it is stored, whatever is set about encryption.
    async fn stored_token_cache(&self) -> Result<TokenCache, OpenError> {
        let url = self.settings.cache_url()?;
        if url.scheme() == "sqlite" {
            let options = SqliteTokenCacheOptions::default();
            let cache = SqliteTokenCache::open(self.database(&url).await?, options).await?;
            return Ok(TokenCache::of(cache));
        }
        let options = RedisTokenCacheOptions {
            instance_name: self.settings.cache_instance_name.clone(),
            layout: self.settings.cache_layout,
            ..RedisTokenCacheOptions::default()
        };
        Ok(TokenCache::of(RedisTokenCache::open(self.redis(&url)?, options).await?))
    }

    fn redis(&self, url: &ServerUrl) -> Result<RedisPool, BackendError> {
        RedisPool::new(url, &self.settings.tls(), REDIS_CONNECTIONS)
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
