//! Accounts that are due, in tenants of given sizes, and `consumer work` processes that share them.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use common::account::{CacheKey, TenantId};
use common::index::{AccountActivity, Filter, ListRequest, Query};
use common::token_cache::Expiry;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::identity_provider::{Client, IdentityProvider, Options, Rotation, User};
use tokio::process::{Child, Command};

use crate::pipeline::{PATIENCE, Pipeline, consumer};

const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
const SECRET: &str = "the-secret-of-the-app";
const AT_ONCE: usize = 64;

/// A provider, a pipeline, and accounts whose access tokens have expired.
pub(crate) struct DueAccounts {
    pub(crate) provider: IdentityProvider,
    pub(crate) pipeline: Pipeline,
    pub(crate) tenants: Vec<String>,
    pub(crate) accounts: u64,
    flags: Vec<String>,
}

/// One `consumer work`.
pub(crate) struct Process {
    pub(crate) child: Child,
}

impl DueAccounts {
    /// One tenant for each of `sizes`.
    pub(crate) async fn of(sizes: &[usize], rotation: Rotation, flags: Vec<String>) -> Self {
        let provider = IdentityProvider::start(Options { rotation, ..Options::default() }).await.unwrap();
        provider.register_client(Client::confidential(CLIENT, SECRET));
        let pipeline = Pipeline::on(&flags).await;
        let tenants = (0..sizes.len()).map(|number| format!("7d1f5a2c-3b64-4c1e-9a57-{number:012}")).collect();
        let accounts = sizes.iter().sum::<usize>() as u64;
        let due = Self { provider, pipeline, tenants, accounts, flags };
        let users: Vec<Member> =
            due.tenants.iter().zip(sizes).flat_map(|(tenant, size)| members(tenant, *size)).collect();
        due.provider.register_users(users.iter().map(Member::user));
        futures_util::stream::iter(&users).for_each_concurrent(AT_ONCE, |user| due.sign_in(user)).await;
        testkit::wait_until(PATIENCE, async || due.pipeline.listed().await == accounts).await;
        due
    }

    async fn sign_in(&self, user: &Member) {
        let key: CacheKey = user.user().home_account_id().parse().unwrap();
        let blob = serde_json::to_vec(&self.blob(user)).unwrap();
        self.pipeline.adapter.write(&key, &blob, Expiry::default()).await.unwrap();
    }

    /// As an MSAL library leaves it, an hour and more after the sign-in.
    fn blob(&self, user: &Member) -> Value {
        let (home, tenant) = (user.user().home_account_id(), &user.tenant);
        let environment = "127.0.0.1";
        let then = Timestamp::now().as_second() - 7_200;
        let of = |more: Value| {
            let mut entity = json!({"home_account_id": home, "environment": environment, "client_id": CLIENT});
            entity.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entity
        };
        let refresh_token = self.provider.refresh_token(CLIENT, &user.name).unwrap();
        json!({
            "AccessToken": {format!("{home}-{environment}-accesstoken-{CLIENT}-{tenant}-user.read"): of(json!({
                "credential_type": "AccessToken", "secret": "expired", "realm": tenant, "target": "User.Read",
                "token_type": "Bearer", "cached_at": then.to_string(), "expires_on": (then + 3_600).to_string(),
                "extended_expires_on": (then + 3_600).to_string(),
            }))},
            "RefreshToken": {format!("{home}-{environment}-refreshtoken-{CLIENT}--"): of(json!({
                "credential_type": "RefreshToken", "secret": refresh_token,
            }))},
            "Account": {format!("{home}-{environment}-{tenant}"): {
                "home_account_id": home, "environment": environment, "realm": tenant, "username": user.name,
                "local_account_id": home.split('.').next(), "authority_type": "MSSTS",
            }},
            "AppMetadata": {format!("appmetadata-{environment}-{CLIENT}"): {
                "client_id": CLIENT, "environment": environment,
            }},
        })
    }

    /// Starts a worker with these flags beside those for the servers.
    pub(crate) fn worker(&self, flags: &[&str]) -> Process {
        let child = Command::new(consumer())
            .args(["work", "--json", "--poll", "100ms"])
            .args(flags)
            .args(&self.flags)
            .env("IDP_AUTHORITY", self.provider.base_url())
            .env("IDP_TENANT", "organizations")
            .env("IDP_CLIENT_ID", CLIENT)
            .env("IDP_CLIENT_SECRET", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Process { child }
    }

    pub(crate) fn refreshes(&self) -> u64 {
        self.provider.all_token_requests().with_grant("refresh_token")
    }

    /// How many accounts the index knows to be hydrated.
    pub(crate) async fn hydrated(&self) -> usize {
        self.hydrations().await.values().map(Vec::len).sum()
    }

    /// When the accounts of each tenant were hydrated.
    pub(crate) async fn hydrations(&self) -> BTreeMap<&str, Vec<Timestamp>> {
        let mut hydrations = BTreeMap::new();
        for tenant in &self.tenants {
            let accounts = self.of_tenant(tenant).await;
            hydrations.insert(tenant.as_str(), accounts.iter().filter_map(|account| account.last_hydration).collect());
        }
        hydrations
    }

    /// The one account that was hydrated.
    pub(crate) async fn hydrated_key(&self) -> CacheKey {
        let accounts = self.of_tenant(&self.tenants[0]).await;
        accounts.into_iter().find(|account| account.last_hydration.is_some()).unwrap().cache_key
    }

    async fn of_tenant(&self, tenant: &str) -> Vec<AccountActivity> {
        let filter = Filter { tenant: Some(TenantId::new(tenant).unwrap()), ..Filter::default() };
        let query = Query::ActiveSince(Timestamp::UNIX_EPOCH);
        let mut request = ListRequest { query, filter, limit: ListRequest::MAX_LIMIT, cursor: None };
        let mut accounts = Vec::new();
        loop {
            let page = self.pipeline.index.list(&request).await.unwrap();
            accounts.extend(page.accounts);
            match page.next {
                Some(next) => request.cursor = Some(next),
                None => return accounts,
            }
        }
    }
}

/// A user of a tenant.
#[derive(Clone)]
struct Member {
    tenant: String,
    name: String,
}

impl Member {
    fn user(&self) -> User {
        User::new(&self.tenant, &self.name, &self.name)
    }
}

fn members(tenant: &str, size: usize) -> impl Iterator<Item = Member> {
    let named = |number| format!("user{number}@{}.example", &tenant[24..]);
    (0..size).map(move |number| Member { tenant: tenant.to_owned(), name: named(number) })
}

impl Process {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Tells it to stop, and gives its report.
    pub(crate) async fn stop(self) -> Value {
        self.signal(rustix::process::Signal::TERM);
        let output = tokio::time::timeout(Duration::from_secs(60), self.child.wait_with_output()).await;
        let output = output.expect("it stops").unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
