//! The routes and the document about them, made together so that they cannot differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::ProblemDocument;
use super::{Inner, account, claims, complete, counts, due, hand_out, list, schedule};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Token cache activity",
        description = "Who has a token cache, when it was last used, and whose turn it is: for workers in any language. \
                       Every refusal is a problem document (RFC 9457) whose `type` stays the same.",
        license(name = "MIT OR Apache-2.0")
    ),
    components(schemas(ProblemDocument)),
    modifiers(&Bearer)
)]
struct About;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.description = Some(
            "An entry of the token file has the scopes `read`, `claim`, `admin` and `token`; none includes another."
                .to_owned(),
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The routes, each with what the document says of it.
pub(super) fn routes() -> OpenApiRouter<Arc<Inner>> {
    OpenApiRouter::with_openapi(About::openapi())
        .routes(routes!(list::list))
        .routes(routes!(account::show, account::remove))
        .routes(routes!(counts::counts))
        .routes(routes!(due::due))
        .routes(routes!(claims::claim))
        .routes(routes!(claims::renew))
        .routes(routes!(complete::complete))
        .routes(routes!(claims::release))
        .routes(routes!(hand_out::hand_out))
        .routes(routes!(schedule::schedule))
        .routes(routes!(schedule::forget_hold))
        .route("/openapi.json", axum::routing::get(async || Json(document())))
}

/// The OpenAPI document of the API. `openapi.json` holds it as JSON.
pub fn document() -> Document {
    let (_, document) = routes().split_for_parts();
    document
}

/// Answers that are problem documents, by status.
macro_rules! refusals {
    ($(#[$doc:meta])* $name:ident, $($status:literal: $description:literal),+) => {
        $(#[$doc])*
        pub(super) enum $name {}

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(($status.to_owned(), RefOr::T(refusal($description)))),+].into()
            }
        }
    };
}

fn refusal(description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}

refusals!(
    /// What may happen to any request.
    Refusals,
    "400": "The request cannot be read, or its cursor is none of this list.",
    "401": "No token, or none that is known.",
    "403": "The token lacks the scope.",
    "429": "Too many requests with this token; Retry-After says when to come back.",
    "431": "The headers are too many or too long.",
    "500": "Something is wrong on the server.",
    "503": "A store does not answer, or there are too many requests at once; Retry-After says when to come back.",
    "504": "The answer was not ready in time."
);
refusals!(
    /// What may happen to a request about one account.
    Missing,
    "404": "There is no such account, or none that this token may know of."
);
refusals!(
    /// What may happen to a request about a claim.
    Stale,
    "409": "The claim is not held any more; nothing was changed."
);
refusals!(
    /// What may happen to a request with a body.
    BodyRefusals,
    "408": "The body did not come in time.",
    "413": "The body is longer than 64 KiB.",
    "415": "The body is not JSON."
);
