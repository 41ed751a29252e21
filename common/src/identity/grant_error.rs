//! What a token endpoint's refusal means: who has to do something, and when to ask again.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::http::{Answer, CallError, is_transient_status};
use super::id_token::IdTokenError;
use super::secret::ClaimsChallenge;
use crate::event::{ErrorCode, FailureReason};

/// How long a provider that throttles without `Retry-After` is left alone: MSAL's own default.
const DEFAULT_THROTTLE: SignedDuration = SignedDuration::from_secs(60);

/// A grant brought no tokens.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GrantError {
    /// The provider wants the user: consent, MFA, a conditional access policy, a new password.
    #[error("the identity provider wants the user to sign in again ({answer})")]
    InteractionRequired {
        /// The error codes.
        answer: ErrorAnswer,
        /// What the next authorization request has to carry.
        claims: Option<ClaimsChallenge>,
    },
    /// The refresh token is revoked or expired.
    #[error("the refresh token is revoked or expired, so the user has to sign in again ({answer})")]
    Revoked {
        /// The error codes.
        answer: ErrorAnswer,
    },
    /// The refresh token was issued to another client than this one.
    #[error("the refresh token is another client's ({answer})")]
    OtherClient {
        /// The error codes.
        answer: ErrorAnswer,
    },
    /// The provider asked to be left alone for a while, now or in an answer before.
    #[error("the identity provider asked to be left alone until {until}")]
    Throttled {
        /// When it may be asked again.
        until: Timestamp,
        /// The error codes, where it was asked.
        answer: ErrorAnswer,
    },
    /// The provider did not answer, or answered that it cannot for now.
    #[error("the identity provider is not available ({answer})")]
    Unavailable {
        /// When it may be asked again, where it says so.
        retry_after: Option<Timestamp>,
        /// The error codes, if it answered.
        answer: ErrorAnswer,
        /// What the call came to.
        #[source]
        source: CallError,
    },
    /// The provider says that the request is wrong: the registration, the credential or the scopes need a change.
    #[error("the identity provider refuses this client's request ({answer}); {advice}", advice = answer.advice())]
    Refused {
        /// The error codes.
        answer: ErrorAnswer,
    },
    /// The provider's answer cannot be used.
    #[error("the identity provider's answer cannot be used")]
    Unusable(#[source] UnusableAnswer),
    /// The key of the certificate did not sign.
    #[error("the client assertion could not be signed with the certificate's key")]
    Signing,
}

/// What is wrong with an answer that should have been tokens.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnusableAnswer {
    /// It is not the JSON of a token response.
    #[error("it is not a token response (line {line}, column {column})")]
    NotTokens {
        /// The line, from 1.
        line: usize,
        /// The column.
        column: usize,
    },
    /// The access token is not a bearer token.
    #[error("its token type is not Bearer")]
    NotBearer,
    /// Its id token was refused.
    #[error(transparent)]
    IdToken(#[from] IdTokenError),
    /// Nothing in it says whose tokens they are.
    #[error("it does not say whose tokens they are")]
    NoAccount,
    /// It is about another account than was asked for.
    #[error("its tokens are of another account than the one asked for")]
    OtherAccount,
}

/// The error codes of an answer: never its description, which may hold names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// The HTTP status; 0 where there was no answer.
    pub status: u16,
    /// `error`.
    pub error: Option<ErrorCode>,
    /// `suberror`.
    pub suberror: Option<ErrorCode>,
    /// The number of a Microsoft Entra ID error (`AADSTS…`).
    pub number: Option<u32>,
}

impl GrantError {
    /// The word of the contract for it.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::InteractionRequired { .. } => FailureReason::InteractionRequired,
            Self::Revoked { .. } => FailureReason::Revoked,
            Self::OtherClient { .. } => FailureReason::NoRefreshToken,
            Self::Throttled { .. } => FailureReason::Throttled,
            // The refresh token is another user's: trying again would only spend it.
            Self::Unusable(UnusableAnswer::OtherAccount) => FailureReason::MalformedCache,
            Self::Unavailable { .. } | Self::Refused { .. } | Self::Unusable(_) | Self::Signing => {
                FailureReason::IdentityProviderUnavailable
            }
        }
    }

    /// Whether the same may succeed later with nothing changed here and without the user.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unavailable { .. })
    }

    /// When the provider may be asked again, where it said so: at most an hour after its answer.
    pub fn retry_after(&self) -> Option<Timestamp> {
        match self {
            Self::Throttled { until, .. } => Some(*until),
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What the next authorization request has to carry, where the provider said so.
    pub fn claims(&self) -> Option<&ClaimsChallenge> {
        match self {
            Self::InteractionRequired { claims, .. } => claims.as_ref(),
            _ => None,
        }
    }

    /// The error codes of the answer, where there was one.
    pub fn answer(&self) -> Option<&ErrorAnswer> {
        match self {
            Self::InteractionRequired { answer, .. }
            | Self::Revoked { answer }
            | Self::OtherClient { answer }
            | Self::Throttled { answer, .. }
            | Self::Unavailable { answer, .. }
            | Self::Refused { answer } => Some(answer),
            Self::Unusable(_) | Self::Signing => None,
        }
    }

    /// Whether the provider blames the refresh token, so that a newer one may be better.
    pub(super) fn blames_the_token(&self) -> bool {
        let is_invalid_grant = |code: &ErrorCode| code.as_str() == "invalid_grant";
        self.answer().and_then(|answer| answer.error.as_ref()).is_some_and(is_invalid_grant)
    }

    /// A call that brought no answer.
    pub(super) fn no_answer(source: CallError) -> Self {
        Self::Unavailable { retry_after: None, answer: ErrorAnswer::default(), source }
    }

    /// What an answer that is no success means.
    pub(super) fn from_answer(answer: &Answer, now: Timestamp) -> Self {
        let body: ErrorBody = serde_json::from_slice(&answer.body).unwrap_or_default();
        let codes = body.codes(answer.status);
        if answer.status == 429 {
            let until = answer.retry_after.or_else(|| now.checked_add(DEFAULT_THROTTLE).ok()).unwrap_or(now);
            return Self::Throttled { until, answer: codes };
        }
        if is_transient_status(answer.status) || is_any(codes.error.as_ref(), &TRANSIENT) {
            let source = CallError::Status { status: answer.status, retry_after: answer.retry_after };
            return Self::Unavailable { retry_after: answer.retry_after, answer: codes, source };
        }
        if !is_any(codes.error.as_ref(), &ABOUT_THE_USER) {
            return Self::Refused { answer: codes };
        }
        match codes.suberror.as_ref().map(ErrorCode::as_str) {
            Some("bad_token" | "token_expired") => Self::Revoked { answer: codes },
            Some("client_mismatch") => Self::OtherClient { answer: codes },
            Some("protection_policy_required") => Self::Refused { answer: codes },
            _ => Self::InteractionRequired { answer: codes, claims: body.claims.map(ClaimsChallenge::new) },
        }
    }
}

const TRANSIENT: [&str; 2] = ["temporarily_unavailable", "server_error"];
const ABOUT_THE_USER: [&str; 4] = ["invalid_grant", "interaction_required", "consent_required", "login_required"];

fn is_any(code: Option<&ErrorCode>, of: &[&str]) -> bool {
    code.is_some_and(|code| of.contains(&code.as_str()))
}

/// What is read of an error answer: RFC 6749, section 5.2, and Microsoft Entra ID's additions.
#[derive(Debug, Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    suberror: Option<String>,
    #[serde(default)]
    claims: Option<String>,
    #[serde(default)]
    error_codes: Vec<u32>,
}

impl ErrorBody {
    fn codes(&self, status: u16) -> ErrorAnswer {
        ErrorAnswer {
            status,
            error: self.error.as_deref().and_then(error_code),
            suberror: self.suberror.as_deref().and_then(error_code),
            number: self.error_codes.first().copied(),
        }
    }
}

/// Takes a text for a code only if it looks like one: what a provider sends may be anything, and goes into events.
pub(super) fn error_code(text: &str) -> Option<ErrorCode> {
    const LONGEST: usize = 64;
    let is_code = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    ErrorCode::new(if text.chars().all(is_code) { text } else { "unrecognized_error" }).ok()
}

impl ErrorAnswer {
    fn advice(&self) -> &'static str {
        match self.error.as_ref().map(ErrorCode::as_str) {
            Some("invalid_client") => "check the client secret or certificate, and that it has not expired",
            Some("unauthorized_client") => "check the client id and the tenant, and that the grant is allowed to it",
            Some("invalid_scope") => "check the scopes: all of one API, and consented to",
            Some("invalid_request") => "check the redirect URI and the scopes",
            _ => "look the code up in the provider's documentation",
        }
    }
}

impl fmt::Display for ErrorAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codes = [self.error.as_ref(), self.suberror.as_ref()];
        let codes: Vec<&str> = codes.into_iter().flatten().map(ErrorCode::as_str).collect();
        match (self.status, codes.is_empty()) {
            (0, true) => f.write_str("no answer")?,
            (status, true) => write!(f, "status {status}")?,
            (_, false) => f.write_str(&codes.join(", "))?,
        }
        match self.number {
            Some(number) => write!(f, ", AADSTS{number}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(status: u16, body: &serde_json::Value) -> GrantError {
        let answer = Answer { status, retry_after: None, body: body.to_string().into_bytes() };
        GrantError::from_answer(&answer, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn each_answer_has_its_reason() {
        use FailureReason::{IdentityProviderUnavailable, InteractionRequired, NoRefreshToken, Revoked, Throttled};
        let cases = [
            (400, "invalid_grant", None, InteractionRequired),
            (400, "invalid_grant", Some("basic_action"), InteractionRequired),
            (400, "invalid_grant", Some("consent_required"), InteractionRequired),
            (400, "invalid_grant", Some("bad_token"), Revoked),
            (400, "invalid_grant", Some("token_expired"), Revoked),
            (400, "invalid_grant", Some("client_mismatch"), NoRefreshToken),
            (400, "invalid_grant", Some("protection_policy_required"), IdentityProviderUnavailable),
            (400, "interaction_required", None, InteractionRequired),
            (400, "consent_required", None, InteractionRequired),
            (400, "login_required", None, InteractionRequired),
            (401, "invalid_client", None, IdentityProviderUnavailable),
            (400, "invalid_scope", None, IdentityProviderUnavailable),
            (429, "temporarily_unavailable", None, Throttled),
            (429, "invalid_grant", None, Throttled),
            (400, "temporarily_unavailable", None, IdentityProviderUnavailable),
            (408, "", None, IdentityProviderUnavailable),
            (500, "server_error", None, IdentityProviderUnavailable),
            (503, "invalid_grant", None, IdentityProviderUnavailable),
            (302, "", None, IdentityProviderUnavailable),
        ];
        for (status, code, suberror, reason) in cases {
            let error = error(status, &json!({"error": code, "suberror": suberror}));
            assert_eq!(error.reason(), reason, "{status} {code} {suberror:?}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_transient_and_nothing_else() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(error(status, &json!({})).is_transient(), "{status}");
        }
        for code in ["invalid_grant", "interaction_required", "invalid_client", "anything_else"] {
            assert!(!error(400, &json!({"error": code})).is_transient(), "{code}");
        }
    }

    #[test]
    fn the_claims_are_passed_on_and_not_printed() {
        let error = error(400, &json!({"error": "interaction_required", "claims": "{\"marker-claims\":1}"}));
        assert_eq!(error.claims().unwrap().expose(), "{\"marker-claims\":1}");
        assert!(!format!("{error:?} {error}").contains("marker-claims"));
    }

    #[test]
    fn a_description_and_a_code_that_is_none_are_never_printed() {
        let body = json!({
            "error": "User ada@contoso.com is blocked",
            "suberror": "ADA",
            "error_description": "ada@contoso.com",
            "error_codes": [50173],
        });
        let error = error(400, &body);
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains("ada") && !shown.contains("ADA"), "{shown}");
        assert!(shown.contains("AADSTS50173"));
    }

    #[test]
    fn a_provider_that_throttles_without_a_time_is_left_alone_for_a_minute() {
        assert_eq!(error(429, &json!({})).retry_after().unwrap().as_second(), 60);
    }
}
