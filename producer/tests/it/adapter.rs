//! The adapter over the embedded store: what is stored, what is emitted, and what the host's hook can and cannot do.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::account::{CacheKey, Username};
use common::event::{
    AccountDetails, Activity, ActivityEvent, EventSource, Properties, TraceParent, UsernameKey, UsernamePolicy,
};
use common::sqlite::Database;
use common::token_cache::{
    Expiry, ExpiryChange, Outbox, Precondition, SqliteTokenCache, SqliteTokenCacheOptions, TokenCacheStore,
    WriteOutcome,
};
use producer::adapter::{
    AdapterSettings, BeforeWrite, HookError, OnBeforeWrite, OnUnreadable, TokenCacheAdapter, WriteError,
};
use producer::simulate::{Population, SimulatedUser};
use serde_json::{Value, json};
use tempfile::TempDir;

const NOW: i64 = 1_795_300_000;
const POPULATION: Population = Population { seed: 7, tenants: 2, access_token_lifetime: Duration::from_secs(3600) };

struct Web {
    store: SqliteTokenCache,
    _folder: TempDir,
}

impl Web {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}/cache.db", folder.path().display());
        let database = Database::open(&url.parse().unwrap()).await.unwrap();
        let store = SqliteTokenCache::open(database, SqliteTokenCacheOptions::default()).await.unwrap();
        Self { store, _folder: folder }
    }

    fn adapter(&self, change: impl FnOnce(&mut AdapterSettings)) -> TokenCacheAdapter {
        let mut settings = AdapterSettings::new(EventSource::new("/apps/contoso-portal").unwrap());
        change(&mut settings);
        TokenCacheAdapter::new(Arc::new(self.store.clone()), settings)
    }

    /// The events since the last call.
    async fn events(&self) -> Vec<ActivityEvent> {
        let taken = self.store.take(100, Duration::from_secs(600), Duration::ZERO).await.unwrap();
        taken.into_iter().map(|entry| entry.event.open().unwrap()).collect()
    }

    async fn only_event(&self) -> ActivityEvent {
        let mut events = self.events().await;
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    async fn stored(&self, key: &CacheKey) -> Option<Vec<u8>> {
        self.store.read(key).await.unwrap()
    }
}

fn user() -> SimulatedUser {
    POPULATION.user(3)
}

fn key() -> CacheKey {
    user().cache_key()
}

fn blob() -> Vec<u8> {
    POPULATION.blob(&user(), NOW)
}

fn details_of(event: ActivityEvent) -> AccountDetails {
    match event.activity {
        Activity::UserActivity(details) => details,
        other => panic!("expected a user's activity, got {other:?}"),
    }
}

async fn write(adapter: &TokenCacheAdapter, blob: &[u8]) -> Result<(), WriteError> {
    adapter.write(&key(), blob, Expiry::default()).await
}

#[tokio::test]
async fn a_write_stores_the_blob_and_says_whose_it_is() {
    let web = Web::start().await;
    let adapter = web.adapter(|_| {});
    let blob = blob();
    write(&adapter, &blob).await.unwrap();
    assert_eq!(adapter.read(&key()).await.unwrap(), Some(blob));
    let event = web.only_event().await;
    assert_eq!(event.source.as_str(), "/apps/contoso-portal");
    assert_eq!(event.subject, key());
    let details = details_of(event);
    assert_eq!(details.home_account_id.as_str(), user().cache_key().as_str());
    assert_eq!(details.object_id.unwrap().as_str(), user().object_id.to_string());
    assert_eq!(details.tenant_id.unwrap().as_str(), user().tenant_id.to_string());
    assert_eq!(details.environment.as_str(), "login.microsoftonline.com");
    assert_eq!(details.username.unwrap().as_str(), user().username);
    assert_eq!(details.access_token_expires_on, Some(NOW + 3600));
    assert!(details.has_refresh_token);
    assert_eq!(adapter.counts().with_event, 1);
}

#[tokio::test]
async fn a_username_leaves_the_web_side_as_the_policy_says() {
    let web = Web::start().await;
    let hashed = UsernamePolicy::Hashed(UsernameKey::new(vec![7; 32]).unwrap());
    let hash = hashed.apply(&Username::new(user().username).unwrap());
    for (policy, expected) in [(hashed, hash), (UsernamePolicy::Omitted, None)] {
        write(&web.adapter(|settings| settings.usernames = policy), &blob()).await.unwrap();
        assert_eq!(details_of(web.only_event().await).username, expected);
    }
}

#[tokio::test]
async fn a_trace_is_carried_into_the_event() {
    let web = Web::start().await;
    let trace = TraceParent::new("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
    let adapter = web.adapter(|_| {});
    let (key, blob) = (key(), blob());
    let traced = adapter.write_traced(&key, &blob, ExpiryChange::default(), Precondition::None, Some(trace.clone()));
    assert_eq!(traced.await.unwrap(), WriteOutcome::Written);
    assert_eq!(web.only_event().await.traceparent, Some(trace));
}

#[tokio::test]
async fn a_conflict_stores_nothing_and_emits_nothing() {
    let web = Web::start().await;
    let adapter = web.adapter(|_| {});
    let (first, second) = (blob(), blob());
    let attempt = async |read: Option<&[u8]>, blob: &[u8]| {
        adapter.write_if_unchanged(&key(), read, blob, Expiry::default()).await.unwrap()
    };
    assert_eq!(attempt(None, &first).await, WriteOutcome::Written);
    assert_eq!(attempt(None, &second).await, WriteOutcome::Conflict);
    assert_eq!(attempt(Some(&second), &second).await, WriteOutcome::Conflict);
    assert_eq!(web.stored(&key()).await, Some(first.clone()));
    assert_eq!(attempt(Some(&first), &second).await, WriteOutcome::Written);
    assert_eq!(web.events().await.len(), 2);
    assert_eq!(adapter.counts().with_event, 2);
}

#[tokio::test]
async fn a_removal_and_an_emptied_cache_say_that_it_is_gone() {
    let web = Web::start().await;
    let adapter = web.adapter(|_| {});
    // What MSAL for Python leaves after remove_account.
    let emptied = br#"{"Account": {}, "AccessToken": {}, "RefreshToken": {}, "IdToken": {},
        "AppMetadata": {"appmetadata-login.microsoftonline.com-app": {"client_id": "app", "environment": "login.microsoftonline.com"}}}"#;
    for how in ["removed", "emptied", "emptied by nothing"] {
        write(&adapter, &blob()).await.unwrap();
        web.events().await;
        match how {
            "removed" => assert!(adapter.remove(&key()).await.unwrap()),
            "emptied" => write(&adapter, emptied).await.unwrap(),
            _ => write(&adapter, b"").await.unwrap(),
        }
        assert_eq!(web.stored(&key()).await, None, "{how}");
        assert!(matches!(web.only_event().await.activity, Activity::Removed(_)), "{how}");
    }
    assert!(!adapter.remove(&key()).await.unwrap(), "it was gone before");
    assert_eq!(web.events().await.len(), 1, "which is said again, since another copy may have listed it");
    assert_eq!(adapter.counts().removed, 4);
}

#[tokio::test]
async fn emptying_a_cache_that_was_written_since_it_was_read_is_a_conflict() {
    let web = Web::start().await;
    let adapter = web.adapter(|_| {});
    let (old, new) = (blob(), blob());
    write(&adapter, &new).await.unwrap();
    web.events().await;
    let empty =
        async |read: &[u8]| adapter.write_if_unchanged(&key(), Some(read), b"{}", Expiry::default()).await.unwrap();
    assert_eq!(empty(&old).await, WriteOutcome::Conflict);
    assert_eq!(web.stored(&key()).await, Some(new.clone()));
    assert_eq!(web.events().await, []);
    assert_eq!(empty(&new).await, WriteOutcome::Written);
    assert!(matches!(web.only_event().await.activity, Activity::Removed(_)));
}

#[tokio::test]
async fn an_apps_own_tokens_are_stored_and_emit_nothing() {
    let web = Web::start().await;
    let adapter = web.adapter(|_| {});
    let app_only = json!({"AccessToken": {"-login.microsoftonline.com-accesstoken-app-tenant-.default": {
        "home_account_id": "", "environment": "login.microsoftonline.com", "client_id": "app", "realm": "tenant",
        "credential_type": "AccessToken", "secret": "app-secret", "target": ".default",
        "cached_at": "1795300000", "expires_on": "1795303600"}}})
    .to_string();
    write(&adapter, app_only.as_bytes()).await.unwrap();
    assert_eq!(web.stored(&key()).await, Some(app_only.into_bytes()));
    assert_eq!(web.events().await, []);
    assert_eq!(adapter.counts().app_only, 1);
}

#[tokio::test]
async fn a_blob_that_cannot_be_read_is_refused_unless_the_host_allows_it() {
    let web = Web::start().await;
    let nameless =
        json!({"RefreshToken": {"k": {"home_account_id": "u.t", "secret": "s3cret", "ext": "x"}}}).to_string();
    let unreadable: [(&[u8], &str); 4] = [
        (b"\x09\xF0\xC9\xF0s3cret", "Encrypt"),
        (b"s3cret", "JSON"),
        (b"{\"s3cret\": {\"s3cret\": 1}}", "MSAL token cache"),
        (nameless.as_bytes(), "MSAL token cache"),
    ];
    for (blob, hint) in unreadable {
        let adapter = web.adapter(|_| {});
        let error = write(&adapter, blob).await.unwrap_err();
        let chain = format!("{error}: {}", error.source().unwrap());
        assert!(matches!(&error, WriteError::Unreadable(_)) && !error.is_transient());
        assert!(chain.contains(hint) && !format!("{chain}{error:?}").contains("s3cret"), "{chain}");
        assert_eq!(web.stored(&key()).await, None, "nothing is stored without its event");
        assert_eq!(adapter.counts().refused, 1);

        let lenient = web.adapter(|settings| settings.on_unreadable = OnUnreadable::StoreWithoutEvent);
        write(&lenient, blob).await.unwrap();
        assert_eq!(web.stored(&key()).await.as_deref(), Some(blob));
        assert_eq!(web.events().await, []);
        assert_eq!(lenient.counts().unreadable, 1);
        web.store.remove(&key(), None).await.unwrap();
    }
}

/// What a host's hook does.
enum Hook {
    Adds(BTreeMap<&'static str, Value>),
    Fails,
    Panics,
    NeverAnswers,
}

#[async_trait]
impl OnBeforeWrite for Hook {
    async fn on_before_write(&self, write: &mut BeforeWrite<'_>) -> Result<(), HookError> {
        write.add("cache_key", write.key.as_str());
        match self {
            Self::Adds(properties) => properties.iter().for_each(|(name, value)| write.add(*name, value.clone())),
            Self::Fails => return Err(HookError::Failed("the directory is down".into())),
            Self::Panics => panic!("a mistake of the host's"),
            Self::NeverAnswers => std::future::pending().await,
        }
        Ok(())
    }
}

#[tokio::test]
async fn the_hosts_hook_adds_properties_to_the_event() {
    let web = Web::start().await;
    let hook = Hook::Adds([("department", json!("Sales")), ("level", json!(3))].into());
    let adapter = web.adapter(|settings| settings.on_before_write = Some(Arc::new(hook)));
    write(&adapter, &blob()).await.unwrap();
    let properties = details_of(web.only_event().await).properties;
    let expected = json!({"cache_key": key().as_str(), "department": "Sales", "level": 3});
    assert_eq!(serde_json::from_str::<Value>(&properties.to_json()).unwrap(), expected);
}

#[tokio::test]
async fn a_hook_that_goes_wrong_costs_its_properties_and_nothing_else() {
    let web = Web::start().await;
    let too_much = json!("x".repeat(Properties::MAX_JSON_BYTES));
    for hook in [Hook::Fails, Hook::Panics, Hook::NeverAnswers, Hook::Adds([("big", too_much)].into())] {
        let adapter = web.adapter(|settings| settings.on_before_write = Some(Arc::new(hook)));
        write(&adapter, &blob()).await.unwrap();
        assert!(details_of(web.only_event().await).properties.is_empty());
        assert_eq!((adapter.counts().hook_failures, adapter.counts().with_event), (1, 1));
    }
}
