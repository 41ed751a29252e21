//! What the API's document says of the words that are shared with the rest: their kinds and limits, from the code.

use std::borrow::Cow;

use common::account as words;
use common::event as events;
use common::index;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::claims::MOST_WORKER_BYTES;

/// Gives a word of the domain a schema of its name.
macro_rules! schema {
    ($name:ident, $schema:expr) => {
        pub(crate) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::Object($schema.build()))
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    };
}

/// What all texts of the contract have in common.
const NO_CONTROL_CHARACTERS: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

fn text(longest: usize, description: &str) -> ObjectBuilder {
    let object = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    object.min_length(Some(1)).max_length(Some(longest)).pattern(Some(NO_CONTROL_CHARACTERS))
}

fn one_of(words: impl IntoIterator<Item = &'static str>, description: &str) -> ObjectBuilder {
    let object = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    object.enum_values(Some(words))
}

schema!(CacheKey, text(words::CacheKey::MAX_BYTES, "The key of a user's cache, such as the home account id."));
schema!(HomeAccountId, text(words::HomeAccountId::MAX_BYTES, "`uid.utid`, or the provider's own `sub`."));
schema!(ObjectId, text(words::ObjectId::MAX_BYTES, "The user's object id in the home tenant."));
schema!(TenantId, text(words::TenantId::MAX_BYTES, "A tenant's id."));
schema!(Environment, text(words::Environment::MAX_BYTES, "The host of the authority, as the blob names it."));
schema!(ClientId, text(words::ClientId::MAX_BYTES, "The application (client) id."));
schema!(Username, text(words::Username::MAX_BYTES, "The username, or its keyed hash, by setting of the web app."));
schema!(WorkerName, text(MOST_WORKER_BYTES, "The worker process: claims are of the token and of this name."));
schema!(
    Fence,
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .description(Some("A fencing token: of two claims of one account, the later one has the higher."))
);
schema!(ErrorCode, text(events::ErrorCode::MAX_BYTES, "An OAuth `error` or `suberror` code."));
schema!(
    FailureReason,
    one_of(events::FailureReason::ALL.map(events::FailureReason::as_str), "Why a token could not be had.")
);
schema!(
    AccountState,
    one_of(
        ["ready", "backing_off", "parked", "removed"],
        "`ready`: no failure is in force. `backing_off`: one is that passes by itself. `parked`: one is that needs the \
         user. `removed`: the cache is gone."
    )
);
schema!(
    DueReason,
    one_of(
        [
            index::DueReason::AccessTokenExpires,
            index::DueReason::RefreshTokenIdle,
            index::DueReason::Retry,
            index::DueReason::Scheduled,
        ]
        .map(index::DueReason::as_str),
        "Why an account is due: its access token expires, its refresh token would die of idleness, what failed may work \
         now, or a job asked for it."
    )
);
schema!(JobReason, text(index::JobReason::MAX_BYTES, "Why a job wants an account: one line, no personal data."));
schema!(
    Properties,
    ObjectBuilder::new().schema_type(Type::Object).description(Some("What the host app adds: names and JSON values."))
);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_states_of_the_document_are_the_code_s_states() {
        let schema = serde_json::to_value(AccountState::schema()).unwrap();
        let named: Vec<index::AccountState> = serde_json::from_value(schema["enum"].clone()).unwrap();
        let all = [
            index::AccountState::Ready,
            index::AccountState::BackingOff,
            index::AccountState::Parked,
            index::AccountState::Removed,
        ];
        assert_eq!(named, all);
    }
}
