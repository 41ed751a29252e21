//! Real input: the real MSAL for Python signs users in, and they are found in the index.

use common::account::CacheKey;
use common::token_cache::Expiry;
use testkit::identity_provider::{Client, IdentityProvider, Options, User};
use testkit::python::{MsalClient, MsalSignIn};
use testkit::servers::{KeyPrefix, Vhost};

use crate::pipeline::{PATIENCE, Pipeline};

const TENANT: &str = "0b6c1a52-6c0e-4f0e-8f5d-3e1d7c5a9b01";
const USERS: [&str; 3] = ["ada@contoso.com", "grace@contoso.com", "Élodie@contoso.com"];

async fn signed_in_by_msal() -> Vec<MsalSignIn> {
    let provider = IdentityProvider::start(Options::default()).await.unwrap();
    provider.register_users(USERS.map(|name| User::new(TENANT, name, name)));
    provider.register_client(Client::confidential("client-1", "secret-1"));
    let client = MsalClient {
        provider: &provider,
        tenant: TENANT,
        client_id: "client-1",
        client_secret: "secret-1",
        scope: "User.Read",
    };
    client.sign_in(&USERS).await
}

async fn stored_and_found(pipeline: &Pipeline, sign_ins: &[MsalSignIn]) {
    for sign_in in sign_ins {
        let key = CacheKey::new(&sign_in.home_account_id).unwrap();
        pipeline.adapter.write(&key, sign_in.cache.as_bytes(), Expiry::default()).await.unwrap();
    }
    testkit::wait_until(PATIENCE, || async { pipeline.listed().await == sign_ins.len() as u64 }).await;
    for sign_in in sign_ins {
        let found = pipeline.of_user(&sign_in.username).await;
        assert_eq!(found.len(), 1, "{}", sign_in.username);
        let details = &found[0].details.as_ref().unwrap().value;
        assert_eq!(details.home_account_id.as_str(), sign_in.home_account_id);
        assert_eq!(details.client_id.as_str(), sign_in.client_id);
        assert!(details.has_refresh_token && details.access_token_expires_on.is_some());
        assert_eq!(pipeline.get(&sign_in.home_account_id).await.unwrap(), found[0]);
    }
    assert_eq!(pipeline.of_tenant(TENANT).await.len(), sign_ins.len());
}

#[tokio::test]
async fn users_signed_in_by_msal_for_python_are_found_by_username_tenant_and_home_account_id() {
    let sign_ins = signed_in_by_msal().await;
    assert_eq!(sign_ins.len(), USERS.len());

    let folder = tempfile::tempdir().unwrap();
    stored_and_found(&Pipeline::in_file(&folder.path().join("all.sqlite")).await, &sign_ins).await;

    let (vhost, prefix) = (Vhost::fresh().await, KeyPrefix::fresh().await);
    stored_and_found(&Pipeline::on_servers(&vhost.amqp_url(), &prefix).await, &sign_ins).await;
}
