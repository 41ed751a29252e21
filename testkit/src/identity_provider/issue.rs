//! The token endpoint's answers: access token, id token, refresh token, client info.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::grant::{Grant, Subject};
use super::keys::{KeyError, encode};
use super::state::Provider;
use super::user::User;

/// The JSON a grant is answered with.
pub(super) fn answer(provider: &Provider, grant: &Grant, wants_client_info: bool) -> Result<Value, KeyError> {
    let answer = make_answer(provider, grant, wants_client_info)?;
    provider.state().record.note_issued(&answer);
    Ok(answer)
}

fn make_answer(provider: &Provider, grant: &Grant, wants_client_info: bool) -> Result<Value, KeyError> {
    let lifetime = provider.options.access_token_lifetime.as_secs();
    let mut answer = json!({
        "token_type": "Bearer",
        "expires_in": lifetime,
        "ext_expires_in": lifetime,
        "access_token": provider.sign(&access_token_claims(provider, grant))?,
    });
    if let Some(wait) = provider.options.refresh_in {
        answer["refresh_in"] = wait.as_secs().into();
    }
    let Subject::User { user, family, nonce, refreshable } = &grant.subject else {
        return Ok(answer);
    };
    answer["scope"] = grant.scopes.granted().into();
    if *refreshable {
        let expires_at = provider.clock.now() + provider.options.refresh_token_lifetime;
        answer["refresh_token"] = provider.state().families.issue(*family, expires_at.as_secs()).into();
    }
    if grant.scopes.has("openid") {
        let claims = id_token_claims(provider, grant, user, nonce.as_deref());
        answer["id_token"] = provider.sign(&claims)?.into();
    }
    if wants_client_info {
        answer["client_info"] = client_info(user).into();
    }
    Ok(answer)
}

/// `{"uid": …, "utid": …}` of the home tenant, in base64url.
pub(super) fn client_info(user: &User) -> String {
    encode(&json!({"uid": user.object_id, "utid": user.tenant_id}))
}

fn access_token_claims(provider: &Provider, grant: &Grant) -> Value {
    let now = provider.clock.unix_seconds();
    let mut claims = json!({
        "aud": grant.scopes.audience(),
        "iss": provider.issuer(&grant.tenant_id),
        "iat": now,
        "exp": now + provider.options.access_token_lifetime.as_secs(),
        "azp": grant.client.id,
        "tid": grant.tenant_id,
        "uti": URL_SAFE_NO_PAD.encode(Uuid::from_bytes(rand::random()).as_bytes()),
        "ver": "2.0",
    });
    match &grant.subject {
        Subject::App => {
            claims["idtyp"] = "app".into();
            claims["oid"] = grant.client.id.as_str().into();
            claims["sub"] = grant.client.id.as_str().into();
        }
        Subject::User { user, family, .. } => {
            claims["oid"] = user.object_id_in(&grant.tenant_id).into();
            claims["sub"] = pairwise(user, &grant.scopes.audience()).into();
            claims["name"] = user.name.as_str().into();
            claims["preferred_username"] = user.username.as_str().into();
            claims["scp"] = grant.scopes.permissions().into();
            claims["sid"] = family.to_string().into();
        }
    }
    claims
}

fn id_token_claims(provider: &Provider, grant: &Grant, user: &User, nonce: Option<&str>) -> Value {
    let now = provider.clock.unix_seconds();
    let mut claims = json!({
        "iss": provider.issuer(&grant.tenant_id),
        "aud": grant.client.id,
        "sub": pairwise(user, &grant.client.id),
        "oid": user.object_id_in(&grant.tenant_id),
        "tid": grant.tenant_id,
        "preferred_username": user.username,
        "name": user.name,
        "ver": "2.0",
        "iat": now,
        "exp": now + provider.options.access_token_lifetime.as_secs(),
    });
    if let Some(nonce) = nonce {
        claims["nonce"] = nonce.into();
    }
    claims
}

/// A subject that differs from one audience to the next.
fn pairwise(user: &User, audience: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{}|{audience}", user.home_account_id())))
}
