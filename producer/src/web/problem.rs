//! What a user is told when something does not work: a plain sentence and what to do; the details are in the log.

use std::error::Error;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use common::identity::{GrantError, IdTokenError, SignInError};

use super::page;
use super::token::RandomToken;

/// Something that a page tells.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    /// Stands on the page and in the log, so that the two are found together.
    pub(super) reference: Option<String>,
}

/// What kind of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is no such page.
    NotFound,
    /// The request is none that this app makes.
    Malformed,
    /// The address is there, and not for this method.
    WrongMethod,
    /// A form was not sent from a page of this session.
    Forged,
    /// The sign-in that came back was not begun in this browser, or too long ago, or came back before.
    NotBegunHere,
    /// The user, or somebody for them, said no.
    Denied,
    /// Users of this tenant may not sign in.
    OtherTenant,
    /// The provider's answer was refused, or the app by the provider.
    Refused,
    /// The provider does not answer.
    ProviderAway,
    /// The token cache does not answer.
    CacheAway,
    /// The request took too long.
    TooSlow,
}

/// How many characters of a random text a reference has.
const REFERENCE: usize = 8;

impl Problem {
    /// A problem with its cause, which goes to the log.
    pub(super) fn caused_by(kind: Kind, cause: &(dyn Error + 'static)) -> Self {
        let reference = RandomToken::fresh().expose()[..REFERENCE].to_owned();
        tracing::warn!(reference, error = cause, "{}", kind.title());
        Self { kind, reference: Some(reference) }
    }
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self { kind, reference: None }
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        Self::caused_by(Kind::of(&error), &error)
    }
}

impl Kind {
    fn of(error: &SignInError) -> Self {
        match error {
            SignInError::State | SignInError::Issuer => Self::NotBegunHere,
            SignInError::Denied { .. } => Self::Denied,
            SignInError::IdToken(IdTokenError::Tenant) => Self::OtherTenant,
            // The code was used up or has expired.
            SignInError::Grant(GrantError::InteractionRequired { .. } | GrantError::Revoked { .. }) => {
                Self::NotBegunHere
            }
            SignInError::Grant(_) | SignInError::Keys(_) if error.is_transient() => Self::ProviderAway,
            SignInError::Grant(_) | SignInError::Keys(_) | SignInError::IdToken(_) => Self::Refused,
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Malformed | Self::NotBegunHere => StatusCode::BAD_REQUEST,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Forged | Self::Denied | Self::OtherTenant => StatusCode::FORBIDDEN,
            Self::Refused => StatusCode::BAD_GATEWAY,
            Self::ProviderAway | Self::CacheAway => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooSlow => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::NotFound => "There is no such page",
            Self::Malformed | Self::WrongMethod => "This request cannot be read",
            Self::Forged => "This form is not from your session",
            Self::NotBegunHere => "This sign-in cannot be finished",
            Self::Denied => "You were not signed in",
            Self::OtherTenant => "Your organisation is not admitted here",
            Self::Refused => "The sign-in was refused",
            Self::ProviderAway => "The identity provider does not answer",
            Self::CacheAway => "Your tokens cannot be reached",
            Self::TooSlow => "This took too long",
        }
    }

    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::NotFound => "The address may be old, or mistyped.",
            Self::Malformed | Self::WrongMethod => "It is not one that a page of this app makes.",
            Self::Forged => "Nothing was done. Go to your account page and try again from there.",
            Self::NotBegunHere => {
                "It was begun in another browser, too long ago, or it has been finished already. Begin again."
            }
            Self::Denied => "The identity provider sent you back without signing you in. You can try again.",
            Self::OtherTenant => "Only users of certain organisations may sign in. Try another account.",
            Self::Refused => "Something is wrong between this app and the identity provider; its operator has to look.",
            Self::ProviderAway => "That passes by itself as a rule. Try again in a moment.",
            Self::CacheAway => "Nothing was changed. Try again in a moment.",
            Self::TooSlow => "The app gave up waiting. Try again in a moment.",
        }
    }

    /// Whether signing in is what helps.
    pub(super) fn is_about_a_sign_in(self) -> bool {
        matches!(self, Self::NotBegunHere | Self::Denied | Self::OtherTenant | Self::Refused | Self::ProviderAway)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.kind.status(), page::problem(&self)).into_response()
    }
}
