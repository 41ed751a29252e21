//! Faults on demand: what goes wrong, where, for whom and how often.

use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::error::EntraError;

/// What goes wrong.
///
/// As JSON (`POST /dev/faults`): `{"kind": "too_many_requests", "retry_after_seconds": 5}` and so on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// 429 with `Retry-After`; nothing is done.
    TooManyRequests {
        /// Seconds in `Retry-After`.
        retry_after_seconds: u64,
    },
    /// A 5xx with `temporarily_unavailable`; nothing is done.
    ServerError {
        /// The status, 500 to 599.
        status: u16,
        /// Seconds in `Retry-After`, if any.
        #[serde(default)]
        retry_after_seconds: Option<u64>,
    },
    /// `invalid_grant`; the grant is not used up.
    InvalidGrant {
        /// The `suberror`, for instance `bad_token` or `consent_required`.
        #[serde(default)]
        suberror: Option<String>,
    },
    /// `interaction_required`; the grant is not used up.
    InteractionRequired {
        /// The `claims` challenge to pass on; without it one for multi-factor authentication.
        #[serde(default)]
        claims: Option<String>,
    },
    /// The answer waits; then all goes on as it would.
    Delay {
        /// For how long, in milliseconds.
        millis: u64,
    },
    /// The connection closes before anything is done.
    DropConnection,
    /// The request is carried out, refresh token rotation included, and the connection closes without its answer.
    LoseAnswer,
}

/// Which endpoint a fault is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// The token endpoint.
    #[default]
    Token,
    /// The authorization endpoint.
    Authorize,
    /// The configuration document.
    Discovery,
    /// The signing keys.
    Keys,
    /// `/graph/me`.
    Graph,
}

/// A fault with its target; what is left out matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRule {
    /// The fault.
    pub fault: Fault,
    /// Where.
    #[serde(default)]
    pub endpoint: Endpoint,
    /// Only in this tenant: the tenant signed in to, or the one in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Only for this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// So many times; without it until cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

impl From<Fault> for FaultRule {
    fn from(fault: Fault) -> Self {
        Self { fault, endpoint: Endpoint::Token, tenant_id: None, username: None, times: None }
    }
}

impl FaultRule {
    /// The fault at another endpoint than the token endpoint.
    #[must_use]
    pub fn at(self, endpoint: Endpoint) -> Self {
        Self { endpoint, ..self }
    }

    /// Only in this tenant.
    #[must_use]
    pub fn in_tenant(self, tenant_id: &str) -> Self {
        Self { tenant_id: Some(tenant_id.to_owned()), ..self }
    }

    /// Only for this user.
    #[must_use]
    pub fn for_user(self, username: &str) -> Self {
        Self { username: Some(username.to_owned()), ..self }
    }

    /// So many times.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }
}

/// What a request is about, as far as it can be known before it is carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) tenant_id: &'a str,
    pub(super) username: Option<&'a str>,
}

/// What to do to a request.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) delay: Duration,
    pub(super) end: Option<End>,
}

/// How a request ends other than it would.
#[derive(Debug)]
pub(super) enum End {
    Refuse(EntraError),
    Drop,
    LoseAnswer,
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Vec<FaultRule>,
}

impl Faults {
    pub(super) fn add(&mut self, rule: FaultRule) {
        self.rules.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn rules(&self) -> &[FaultRule] {
        &self.rules
    }

    /// All delays that match and the first other fault that matches; each is counted off.
    pub(super) fn strike(&mut self, target: Target<'_>) -> Effects {
        let mut effects = Effects::default();
        for rule in &mut self.rules {
            let is_delay = matches!(rule.fault, Fault::Delay { .. });
            if !hits(rule, target) || (!is_delay && effects.end.is_some()) {
                continue;
            }
            rule.times = rule.times.map(|times| times.saturating_sub(1));
            apply(&rule.fault, &mut effects);
        }
        self.rules.retain(|rule| rule.times != Some(0));
        effects
    }
}

fn hits(rule: &FaultRule, target: Target<'_>) -> bool {
    let tenant = rule.tenant_id.as_deref().is_none_or(|id| id.eq_ignore_ascii_case(target.tenant_id));
    let user = rule
        .username
        .as_deref()
        .is_none_or(|name| target.username.is_some_and(|username| username.eq_ignore_ascii_case(name)));
    rule.endpoint == target.endpoint && tenant && user && rule.times != Some(0)
}

fn apply(fault: &Fault, effects: &mut Effects) {
    effects.end = match fault {
        Fault::Delay { millis } => {
            effects.delay += Duration::from_millis(*millis);
            return;
        }
        Fault::DropConnection => Some(End::Drop),
        Fault::LoseAnswer => Some(End::LoseAnswer),
        Fault::TooManyRequests { retry_after_seconds } => Some(End::Refuse(too_many_requests(*retry_after_seconds))),
        Fault::ServerError { status, retry_after_seconds } => {
            Some(End::Refuse(server_error(*status, *retry_after_seconds)))
        }
        Fault::InvalidGrant { suberror } => Some(End::Refuse(invalid_grant(suberror.as_deref()))),
        Fault::InteractionRequired { claims } => Some(End::Refuse(interaction_required(claims.as_deref()))),
    };
}

fn too_many_requests(retry_after_seconds: u64) -> EntraError {
    let text = "The request was throttled because there were too many. Try again later.";
    EntraError {
        status: StatusCode::TOO_MANY_REQUESTS,
        retry_after: Some(Duration::from_secs(retry_after_seconds)),
        ..EntraError::new("temporarily_unavailable", 90_055, text)
    }
}

fn server_error(status: u16, retry_after_seconds: Option<u64>) -> EntraError {
    EntraError {
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        retry_after: retry_after_seconds.map(Duration::from_secs),
        ..EntraError::new("temporarily_unavailable", 90_033, "A transient error has occurred. Please try again.")
    }
}

fn invalid_grant(suberror: Option<&str>) -> EntraError {
    let error = match suberror {
        Some("consent_required") => {
            EntraError::invalid_grant(65_001, "The user has not consented to use the application.")
        }
        Some("token_expired") => EntraError::invalid_grant(700_082, "The refresh token has expired due to inactivity."),
        _ => EntraError::invalid_grant(50_173, "The provided grant has expired due to it being revoked."),
    };
    match suberror {
        Some(suberror) => error.with_suberror(suberror),
        None => error,
    }
}

fn interaction_required(claims: Option<&str>) -> EntraError {
    let challenge =
        r#"{"access_token":{"capolids":{"essential":true,"values":["00000000-0000-0000-0000-0000000000ca"]}}}"#;
    let text =
        "Due to a policy of your administrator, you must use multi-factor authentication to access this resource.";
    EntraError {
        claims: Some(claims.unwrap_or(challenge).to_owned()),
        ..EntraError::new("interaction_required", 50_076, text).with_suberror("basic_action")
    }
}
