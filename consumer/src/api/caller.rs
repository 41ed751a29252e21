//! Who asks: the token of a request, what it may be used for, and whose accounts it may know of.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use common::account::TenantId;
use common::index::AccountActivity;
use tokio::time::Instant;

use super::Inner;
use super::problem::{Kind, Problem};
use super::scope::Scope;
use super::token_file::KnownToken;

/// A use that needs a scope.
pub(super) trait Use: Send {
    const SCOPE: Scope;
}

pub(super) enum Read {}
pub(super) enum Claim {}
pub(super) enum Admin {}
pub(super) enum Token {}

impl Use for Read {
    const SCOPE: Scope = Scope::Read;
}

impl Use for Claim {
    const SCOPE: Scope = Scope::Claim;
}

impl Use for Admin {
    const SCOPE: Scope = Scope::Admin;
}

impl Use for Token {
    const SCOPE: Scope = Scope::Token;
}

/// Somebody who may make this use of the API. A handler takes it before all else, so that a stranger learns nothing.
pub(super) struct Allowed<U> {
    token: Arc<KnownToken>,
    r#use: PhantomData<fn() -> U>,
}

/// Where the name of who asks is left for the log.
#[derive(Clone, Default)]
pub(super) struct CallerName(Arc<OnceLock<String>>);

impl CallerName {
    pub(super) fn get(&self) -> &str {
        self.0.get().map_or("-", String::as_str)
    }
}

impl<U: Use> FromRequestParts<Arc<Inner>> for Allowed<U> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Inner>) -> Result<Self, Problem> {
        let token = authenticated(&parts.headers, api)?;
        if let Some(name) = parts.extensions.get::<CallerName>() {
            // It is set once for each request, here.
            let _ = name.0.set(token.entry.name.clone());
        }
        let rate = api.settings.rate;
        token.bucket.take(rate, Instant::now()).map_err(|wait| Problem::from(Kind::RateLimited).retry_after(wait))?;
        if !token.entry.scopes.contains(&U::SCOPE) {
            return Err(Kind::MissingScope(U::SCOPE).into());
        }
        Ok(Self { token, r#use: PhantomData })
    }
}

fn authenticated(headers: &HeaderMap, api: &Inner) -> Result<Arc<KnownToken>, Problem> {
    let given = bearer(headers)?;
    let known = api.tokens.borrow().find(given);
    known.ok_or_else(|| Kind::Unauthenticated { was_given: true }.into())
}

/// The one bearer token of the request.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut lines = headers.get_all(AUTHORIZATION).into_iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return Err(Kind::Unauthenticated { was_given: false }.into()),
        (Some(line), None) => line,
        (Some(_), Some(_)) => return Err(Kind::Unauthenticated { was_given: true }.into()),
    };
    let token = line.to_str().ok().and_then(|line| {
        let (scheme, token) = line.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
    });
    token.ok_or_else(|| Kind::Unauthenticated { was_given: true }.into())
}

impl<U> Allowed<U> {
    /// What the token is called.
    pub(super) fn name(&self) -> &str {
        &self.token.entry.name
    }

    /// The tenants it may know of; all where there is none.
    pub(super) fn tenants(&self) -> Option<&BTreeSet<TenantId>> {
        self.token.entry.tenants.as_ref()
    }

    /// The tenants to ask for, one by one, where `asked` was asked for: `[None]` is all of them at once, and nothing
    /// is what it may know nothing of.
    pub(super) fn narrowed(&self, asked: Option<TenantId>) -> Vec<Option<TenantId>> {
        match (self.tenants(), asked) {
            (None, asked) => vec![asked],
            (Some(tenants), None) => tenants.iter().cloned().map(Some).collect(),
            (Some(tenants), Some(asked)) => tenants.contains(&asked).then_some(Some(asked)).into_iter().collect(),
        }
    }

    /// Whether it may know of this account. Nobody but those who may know of all may know of one of no tenant.
    pub(super) fn knows(&self, account: &AccountActivity) -> bool {
        match self.tenants() {
            None => true,
            Some(tenants) => account.tenant_id().is_some_and(|tenant| tenants.contains(tenant)),
        }
    }
}
