//! What a silent acquisition costs whose token is valid in the cache, and what reading a blob costs.
//!
//! `cargo bench -p common --bench silent [-- SECONDS]`; the targets are 20,000 acquisitions per second on one core,
//! and 30 µs for the blob. Everything runs on one thread. The store in memory costs next to nothing, so its figure is
//! this project's own work; SQLite's has the file's cost in it. Where the system tells a process its CPU time (Linux),
//! that is what counts, so that whatever else the machine does is not in the figures.

#![allow(clippy::print_stdout, reason = "the figures are what a benchmark is for")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::account::{CacheKey, HomeAccountId};
use common::backend::BackendError;
use common::event::EventDraft;
use common::identity::{
    CacheWriter, Credential, IdentityClient, ProviderSettings, SilentRequest, TokenAcquirer, TokenResponse, TokenSource,
};
use common::sqlite::Database;
use common::token_cache::msal::TokenCacheBlob;
use common::token_cache::{
    CacheWrite, ExpiryChange, Precondition, SqliteTokenCache, SqliteTokenCacheOptions, TokenCacheStore, WriteOutcome,
};
use secrecy::SecretString;
use testkit::identity_provider::{Client, IdentityProvider, Options, User};

type Failure = Box<dyn std::error::Error>;

const TENANT: &str = "7d1f5a2c-3b64-4c1e-9a57-0c6d2e8f1b30";
const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
const SECRET: &str = "the-secret-of-the-app";
const USERS: usize = 100;
/// A blob of a user of several APIs, which is what makes it typical.
const APIS: [&str; 3] = ["User.Read", "api://orders/Read", "api://mail/Send"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let time = Duration::from_secs(arguments.next().map_or(Ok(5), |text| text.parse())?);
    let provider = IdentityProvider::start(Options::default()).await?;
    provider.register_client(Client::confidential(CLIENT, SECRET));
    let client = client(&provider).await?;
    let mut users = Vec::with_capacity(USERS);
    for number in 0..USERS {
        users.push(sign_in(&provider, &client, &format!("user{number}@contoso.com")).await?);
    }

    parsing(&users[0].blob, time);
    let in_memory = users.iter().map(|user| (user.request.cache_key.clone(), user.blob.clone())).collect();
    acquiring("memory", Arc::new(InMemory(in_memory)), &client, &users, time).await?;
    let folder = tempfile::tempdir()?;
    let database = Database::open(&format!("sqlite://{}/bench.db", folder.path().display()).parse()?).await?;
    let sqlite = Arc::new(SqliteTokenCache::open(database, SqliteTokenCacheOptions::default()).await?);
    for user in &users {
        let (key, blob) = (&user.request.cache_key, user.blob.as_slice());
        let (expiry, precondition) = (ExpiryChange::default(), Precondition::None);
        sqlite.write(CacheWrite { key, blob, expiry, precondition, event: None, fence: None }).await?;
    }
    acquiring("sqlite", sqlite, &client, &users, time).await
}

struct SignedIn {
    request: SilentRequest,
    blob: Vec<u8>,
}

async fn client(provider: &IdentityProvider) -> Result<IdentityClient, Failure> {
    let credential = Credential::ClientSecret(SECRET.into());
    let mut settings = ProviderSettings::new(provider.base_url().parse()?, CLIENT.parse()?, credential);
    settings.tenant = Some(TENANT.parse()?);
    Ok(IdentityClient::discover(settings).await?)
}

async fn sign_in(provider: &IdentityProvider, client: &IdentityClient, name: &str) -> Result<SignedIn, Failure> {
    let user = User::new(TENANT, name, name);
    let home: HomeAccountId = user.home_account_id().parse()?;
    provider.register_user(user);
    let answer = provider.sign_in(CLIENT, TENANT, name, "openid profile offline_access User.Read")?;
    let refresh_token = SecretString::from(answer["refresh_token"].as_str().unwrap_or_default());
    let mut blob = TokenCacheBlob::empty();
    for api in APIS {
        let tokens: TokenResponse = client.refresh(&refresh_token, &home, &api.parse()?).await?;
        tokens.save_into(&mut blob);
    }
    let request = SilentRequest::new(CacheKey::new(home.as_str())?, home, APIS[0].parse()?);
    Ok(SignedIn { request, blob: blob.serialize().into_owned() })
}

fn parsing(blob: &[u8], time: Duration) {
    let (watch, mut count) = (Watch::start(), 0_u32);
    while watch.begun.elapsed() < time {
        for _ in 0..100 {
            black_box(TokenCacheBlob::parse(black_box(blob)).is_ok());
        }
        count += 100;
    }
    watch.report("parse", &format!("{} bytes", blob.len()), count);
}

async fn acquiring(
    name: &str,
    store: Arc<dyn TokenCacheStore>,
    client: &IdentityClient,
    users: &[SignedIn],
    time: Duration,
) -> Result<(), Failure> {
    let acquirer = TokenAcquirer::new(client.clone(), store, Arc::new(NoWriter), None);
    let (watch, mut count) = (Watch::start(), 0_u32);
    while watch.begun.elapsed() < time {
        for user in users {
            let acquired = acquirer.acquire_token_silent(&user.request).await?;
            if acquired.source != TokenSource::Cache {
                return Err("the token did not come from the cache".into());
            }
        }
        count += u32::try_from(users.len())?;
    }
    watch.report("acquire", name, count);
    Ok(())
}

/// Measures how long something takes, by the clock on the wall and by the CPU.
struct Watch {
    begun: Instant,
    cpu: Option<Duration>,
}

impl Watch {
    fn start() -> Self {
        Self { begun: Instant::now(), cpu: cpu_time() }
    }

    fn report(&self, what: &str, with: &str, count: u32) {
        let wall = self.begun.elapsed();
        let cpu = cpu_time().zip(self.cpu).map_or(wall, |(now, begun)| now.saturating_sub(begun));
        let [wall, cpu] = [wall, cpu].map(|time| time.as_secs_f64() * 1e6 / f64::from(count));
        println!("{what:<8} {with:<11} {cpu:>7.1} µs of a core, {:>9.0} per second ({wall:.1} µs passed)", 1e6 / cpu);
    }
}

/// What all threads of this process have used. Linux counts it in hundredths of a second.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; user and system time are the 12th and 13th fields after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 10))
}

/// Blobs in memory.
#[derive(Debug)]
struct InMemory(HashMap<CacheKey, Vec<u8>>);

#[async_trait]
impl TokenCacheStore for InMemory {
    async fn read(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(self.0.get(key).cloned())
    }

    async fn write(&self, _: CacheWrite<'_>) -> Result<WriteOutcome, BackendError> {
        Ok(WriteOutcome::Conflict)
    }

    async fn remove(&self, _: &CacheKey, _: Option<&EventDraft>) -> Result<bool, BackendError> {
        Ok(false)
    }
}

/// Nothing is refreshed here.
#[derive(Debug)]
struct NoWriter;

#[async_trait]
impl CacheWriter for NoWriter {
    async fn write_back(&self, _: &CacheKey, _: Option<&[u8]>, _: &[u8]) -> Result<WriteOutcome, BackendError> {
        Ok(WriteOutcome::Conflict)
    }
}
