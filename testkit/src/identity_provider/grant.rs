//! The grants of the token endpoint: who a request is about, and what it is granted.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::client::Client;
use super::codes::{CodeFault, CodeGrant};
use super::error::EntraError;
use super::families::{Family, RefreshFault};
use super::form::Form;
use super::scope::Scopes;
use super::state::{Provider, State};
use super::tenant::TenantSegment;
use super::user::User;

pub(super) const AUTHORIZATION_CODE: &str = "authorization_code";
pub(super) const REFRESH_TOKEN: &str = "refresh_token";
pub(super) const CLIENT_CREDENTIALS: &str = "client_credentials";
pub(super) const ON_BEHALF_OF: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// What a token request is granted.
pub(super) struct Grant {
    pub(super) client: Arc<Client>,
    pub(super) tenant_id: String,
    pub(super) scopes: Scopes,
    pub(super) subject: Subject,
}

/// Whom the tokens are for.
pub(super) enum Subject {
    /// The app itself.
    App,
    /// A user.
    User {
        user: Arc<User>,
        family: Uuid,
        nonce: Option<String>,
        /// Whether an answer has a refresh token.
        refreshable: bool,
    },
}

/// The user and tenant a request is about, as far as the grant tells; nothing is used up.
pub(super) fn peek(provider: &Provider, form: &Form) -> Option<(Arc<User>, String)> {
    match form.get("grant_type")? {
        AUTHORIZATION_CODE => {
            let state = provider.state();
            let grant = state.codes.peek(form.get("code")?)?;
            Some((Arc::clone(&grant.user), grant.tenant_id.clone()))
        }
        REFRESH_TOKEN => {
            let state = provider.state();
            let family = state.families.peek(form.get("refresh_token")?)?;
            Some((Arc::clone(&family.user), family.tenant_id.clone()))
        }
        ON_BEHALF_OF => {
            let claims = provider.live_claims(form.get("assertion")?)?;
            Some((user_of(&claims, provider)?, claims["tid"].as_str()?.to_owned()))
        }
        _ => None,
    }
}

/// Checks the grant and uses it up.
pub(super) fn redeem(
    provider: &Provider,
    tenant: &TenantSegment,
    client: Arc<Client>,
    form: &Form,
) -> Result<Grant, EntraError> {
    match form.require("grant_type")? {
        AUTHORIZATION_CODE => redeem_code(provider, tenant, client, form),
        REFRESH_TOKEN => redeem_refresh_token(provider, tenant, client, form),
        CLIENT_CREDENTIALS => for_the_app(tenant, client, form),
        ON_BEHALF_OF => on_behalf_of(provider, tenant, client, form),
        other => Err(EntraError::new(
            "unsupported_grant_type",
            70_003,
            format!("The app requested an unsupported grant type '{other}'."),
        )),
    }
}

fn redeem_code(
    provider: &Provider,
    tenant: &TenantSegment,
    client: Arc<Client>,
    form: &Form,
) -> Result<Grant, EntraError> {
    let code = form.require("code")?;
    let now = provider.clock.unix_seconds();
    let mut state = provider.state();
    if let Some(grant) = state.codes.peek(code) {
        check_code(grant, tenant, &client, form)?;
    }
    let grant = state.codes.redeem(code, now).map_err(describe_code_fault)?;
    let scopes = form.get("scope").map_or(grant.scopes.clone(), Scopes::parse);
    let family = state.families.begin(Arc::clone(&grant.user), &grant.tenant_id, &client.id);
    // What was consented to decides, not what the redemption repeats.
    let refreshable = grant.scopes.has("offline_access");
    let subject = Subject::User { user: grant.user, family, nonce: grant.nonce, refreshable };
    Ok(Grant { client, tenant_id: grant.tenant_id, scopes, subject })
}

fn check_code(grant: &CodeGrant, tenant: &TenantSegment, client: &Client, form: &Form) -> Result<(), EntraError> {
    if grant.client_id != client.id {
        return Err(EntraError::invalid_grant(70_000, "The provided authorization code was issued to another client."));
    }
    check_tenant(tenant, &grant.tenant_id)?;
    let redirect_uri = form.require("redirect_uri")?;
    if redirect_uri != grant.redirect_uri {
        let text = format!(
            "The reply address '{redirect_uri}' does not match the reply address '{}' provided when requesting Authorization code.",
            grant.redirect_uri
        );
        return Err(EntraError::invalid_client(500_112, text));
    }
    check_verifier(grant.code_challenge.as_deref(), form.get("code_verifier"))
}

fn check_verifier(challenge: Option<&str>, verifier: Option<&str>) -> Result<(), EntraError> {
    let expected = verifier.map(|verifier| URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)));
    match (challenge, expected) {
        (None, None) => Ok(()),
        (Some(challenge), Some(expected)) if challenge == expected => Ok(()),
        (Some(_), None) => Err(EntraError::missing("code_verifier")),
        _ => Err(EntraError::invalid_grant(
            501_481,
            "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
        )),
    }
}

fn check_tenant(tenant: &TenantSegment, tenant_id: &str) -> Result<(), EntraError> {
    match tenant {
        TenantSegment::One(own) if own != tenant_id => {
            Err(EntraError::invalid_grant(700_005, "The provided grant is intended to use against another tenant."))
        }
        _ => Ok(()),
    }
}

fn describe_code_fault(fault: CodeFault) -> EntraError {
    match fault {
        CodeFault::Unknown => {
            EntraError::invalid_grant(9_002_313, "Invalid request. The authorization code is malformed or invalid.")
        }
        CodeFault::Expired => EntraError::invalid_grant(
            70_008,
            "The provided authorization code has expired. Send a new interactive authorization request.",
        ),
        CodeFault::AlreadyRedeemed => EntraError::invalid_grant(
            54_005,
            "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.",
        ),
    }
}

fn redeem_refresh_token(
    provider: &Provider,
    tenant: &TenantSegment,
    client: Arc<Client>,
    form: &Form,
) -> Result<Grant, EntraError> {
    let token = form.require("refresh_token")?;
    let scopes = Scopes::parse(form.get("scope").unwrap_or("openid profile offline_access"));
    let now = provider.clock.unix_seconds();
    let mut state = provider.state();
    let tenant_id = match state.families.peek(token) {
        Some(family) => check_family(family, tenant, &client)?,
        None => return Err(describe_refresh_fault(&RefreshFault::Forged)),
    };
    let (family, owner) = state.families.redeem(token, now).map_err(|fault| describe_refresh_fault(&fault))?;
    let subject = Subject::User { user: owner.user, family, nonce: None, refreshable: true };
    Ok(Grant { client, tenant_id, scopes, subject })
}

/// The tenant that a refresh is for: a refresh token serves every tenant its user is in.
fn check_family(family: &Family, tenant: &TenantSegment, client: &Client) -> Result<String, EntraError> {
    if family.client_id != client.id {
        let error = EntraError::invalid_grant(70_000, "The provided refresh token was issued to another client.");
        return Err(error.with_suberror("client_mismatch"));
    }
    match tenant {
        TenantSegment::Any(_) => Ok(family.tenant_id.clone()),
        TenantSegment::One(_) => {
            tenant.of(&family.user).map_err(|error| EntraError { error: "invalid_grant", ..error })
        }
    }
}

fn describe_refresh_fault(fault: &RefreshFault) -> EntraError {
    match fault {
        RefreshFault::Forged => {
            EntraError::invalid_grant(9_002_313, "Invalid request. The refresh token is malformed or invalid.")
        }
        RefreshFault::Expired => EntraError::invalid_grant(700_082, "The refresh token has expired due to inactivity.")
            .with_suberror("token_expired"),
        RefreshFault::Revoked => EntraError::invalid_grant(
            50_173,
            "The provided grant has expired due to it being revoked, a fresh auth token is needed.",
        )
        .with_suberror("bad_token"),
        RefreshFault::Reused => EntraError::invalid_grant(
            50_173,
            "The refresh token was used before; all tokens of its sign-in are revoked.",
        )
        .with_suberror("bad_token"),
    }
}

fn for_the_app(tenant: &TenantSegment, client: Arc<Client>, form: &Form) -> Result<Grant, EntraError> {
    let scopes = Scopes::parse(form.require("scope")?);
    let TenantSegment::One(tenant_id) = tenant else {
        let text = format!("'{}' is not a tenant; client credentials need one.", tenant.as_str());
        return Err(EntraError::invalid_request(53_003, text));
    };
    if client.is_public() {
        return Err(EntraError::invalid_client(700_025, "Client is public so client credentials are not for it."));
    }
    if !form.require("scope")?.ends_with("/.default") {
        let text = "The provided value for the input parameter 'scope' is not valid: it must end with '/.default'.";
        return Err(EntraError::new("invalid_scope", 1_002_012, text));
    }
    Ok(Grant { client, tenant_id: tenant_id.clone(), scopes, subject: Subject::App })
}

fn on_behalf_of(
    provider: &Provider,
    tenant: &TenantSegment,
    client: Arc<Client>,
    form: &Form,
) -> Result<Grant, EntraError> {
    if form.require("requested_token_use")? != "on_behalf_of" {
        return Err(EntraError::invalid_request(900_144, "'requested_token_use' must be 'on_behalf_of'."));
    }
    let scopes = Scopes::parse(form.require("scope")?);
    let assertion = form.require("assertion")?;
    let claims = provider.live_claims(assertion).ok_or_else(|| {
        EntraError::invalid_grant(500_133, "Assertion is not within its valid time range, or was not issued here.")
    })?;
    if !claims["aud"].as_str().is_some_and(|audience| audience.eq_ignore_ascii_case(&client.id)) {
        let text = "Assertion audience does not match the Client app presenting the assertion.";
        return Err(EntraError::invalid_grant(500_131, text));
    }
    let user = user_of(&claims, provider)
        .ok_or_else(|| EntraError::invalid_grant(50_027, "The assertion is not of a user."))?;
    let tenant_id = claims["tid"].as_str().unwrap_or_default().to_owned();
    check_tenant(tenant, &tenant_id)?;
    let family = provider.state().families.begin(Arc::clone(&user), &tenant_id, &client.id);
    let refreshable = scopes.has("offline_access");
    Ok(Grant { client, tenant_id, scopes, subject: Subject::User { user, family, nonce: None, refreshable } })
}

fn user_of(claims: &Value, provider: &Provider) -> Option<Arc<User>> {
    let state: &State = &provider.state();
    state.user(claims["preferred_username"].as_str()?)
}
