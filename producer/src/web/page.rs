//! The pages: HTML that is escaped by the macro that makes it, and one style sheet.

use std::time::Duration;

use axum::response::Html;
use common::event::FailureReason;
use common::identity::TokenSource;
use jiff::{SignedDuration, Timestamp};
use maud::{DOCTYPE, Markup, html};
use url::Url;

use super::account::{Call, Tokens};
use super::api::ApiAnswer;
use super::problem::Problem;
use super::routes;
use super::session::{Session, User};

pub(super) const STYLE: &str = include_str!("style.css");
pub(super) const ICON: &str = include_str!("icon.svg");

const TITLE: &str = "Token cache activity";

/// The first page, for who is not signed in.
pub(super) fn home() -> Html<String> {
    page(
        "Sign in",
        None,
        html! {
            section.hero {
                h1 { "Sign in once. Work goes on while you are away." }
                p.lead {
                    "This app keeps your tokens in a token cache. Background workers find it by your activity, and act for "
                    "you until you sign out."
                }
                p { a.button href=(routes::SIGN_IN) { "Sign in" } }
            }
            ol.steps {
                li { b { "You sign in" } " at your identity provider. This app never sees your password." }
                li { b { "Your tokens are kept" } " in the cache, together with an event that says you were here." }
                li { b { "Workers find you" } " in the index, and renew your token silently when they need it." }
                li { b { "You sign out" } ": the cache is removed, and nobody brings it back but you." }
            }
        },
    )
}

/// The page of a signed-in user.
pub(super) fn account(session: &Session, tokens: &Tokens, now: Timestamp) -> Html<String> {
    let user = &session.user;
    page(
        "Your account",
        Some(session),
        html! {
            (notice(tokens))
            section.card.person {
                div.avatar aria-hidden="true" { (initial(user)) }
                div {
                    h1 #user { (user.shown()) }
                    @if let Some(username) = user.username.as_deref().filter(|username| *username != user.shown()) { p.quiet #username { (username) } }
                }
            }
            section.card {
                h2 { "Token cache" }
                dl {
                    dt { "Cache key" } dd { code #cache-key { (user.cache_key) } }
                    @if let Some(tenant) = &user.tenant { dt { "Tenant" } dd { code #tenant { (tenant) } } }
                    dt { "Issuer" } dd { code { (user.issuer) } }
                    dt { "Access token" } dd #token { (token(tokens, now)) }
                }
            }
            @if let Tokens::Acquired { api, .. } = tokens { (downstream(api.as_ref())) }
        },
    )
}

/// The page that leads on to the provider's sign-out.
pub(super) fn signing_out(provider: &Url) -> Html<String> {
    let refresh = format!("0; url={provider}");
    let lead_on = html! { meta http-equiv="refresh" content=(refresh); };
    document(
        "Signing out",
        &lead_on,
        None,
        html! {
            section.hero {
                h1 { "Signing you out" }
                p.lead { "Your token cache is removed. Your identity provider is next." }
                p { a.button href=(provider) { "Go on" } }
            }
        },
    )
}

/// The page after a sign-out.
pub(super) fn signed_out() -> Html<String> {
    page(
        "Signed out",
        None,
        html! {
            section.hero {
                h1 #signed-out { "You are signed out" }
                p.lead { "Your token cache is removed, and the workers are told. Nothing acts for you any more." }
                p { a.button href=(routes::SIGN_IN) { "Sign in again" } }
            }
        },
    )
}

/// The page that tells a problem.
pub(super) fn problem(problem: &Problem) -> Html<String> {
    let kind = problem.kind;
    page(
        kind.title(),
        None,
        html! {
            section.hero {
                h1 #problem { (kind.title()) }
                p.lead { (kind.sentence()) }
                p {
                    @if kind.is_about_a_sign_in() {
                        a.button href=(routes::SIGN_IN) { "Sign in" }
                    } @else {
                        a.button href=(routes::HOME) { "To the start" }
                    }
                }
                @if let Some(reference) = &problem.reference {
                    p.quiet { "Reference for the operator: " code { (reference) } }
                }
            }
        },
    )
}

fn page(title: &str, session: Option<&Session>, content: Markup) -> Html<String> {
    document(title, &html! {}, session, content)
}

fn document(title: &str, head: &Markup, session: Option<&Session>, content: Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · " (TITLE) }
                link rel="icon" href=(routes::ICON) type="image/svg+xml";
                link rel="stylesheet" href=(routes::STYLE);
                (head)
            }
            body {
                header {
                    a.brand href=(routes::HOME) { img src=(routes::ICON) alt="" width="28" height="28"; (TITLE) }
                    @if let Some(session) = session { (sign_out_form(session)) }
                }
                main { (content) }
            }
        }
    };
    Html(page.into_string())
}

fn sign_out_form(session: &Session) -> Markup {
    html! {
        form method="post" action=(routes::SIGN_OUT) {
            input type="hidden" name="form_token" value=(session.form_token.expose());
            button.plain #sign-out { "Sign out" }
        }
    }
}

fn initial(user: &User) -> String {
    user.shown().chars().next().into_iter().flat_map(char::to_uppercase).collect()
}

fn notice(tokens: &Tokens) -> Markup {
    match tokens {
        Tokens::Acquired { .. } => html! {},
        Tokens::UserNeeded { reason, .. } => html! {
            section.card.notice role="alert" {
                h2 #sign-in-again { "Please sign in again" }
                p { (needed_for(*reason)) }
                p { a.button href={ (routes::SIGN_IN) "?return_to=" (routes::ACCOUNT) } { "Sign in again" } }
                p.quiet { "Reason: " code #reason { (reason.as_str()) } }
            }
        },
        Tokens::Later { reason, until } => html! {
            section.card.notice role="alert" {
                h2 #later { "No access token just now" }
                p { (later_for(*reason)) @if let Some(until) = until { " It asks to wait until " (time(*until)) "." } }
                p { a.button href=(routes::ACCOUNT) { "Try again" } }
                p.quiet { "Reason: " code #reason { (reason.as_str()) } }
            }
        },
    }
}

fn needed_for(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::CacheMissing => "Your token cache is gone: you signed out elsewhere, or it was removed.",
        FailureReason::InteractionRequired => "Your identity provider wants to see you before it gives another token.",
        FailureReason::Revoked => "Your sign-in was revoked, or is too old.",
        FailureReason::NoRefreshToken => "There is nothing in your token cache to renew the access token with.",
        _ => "Your token cache cannot be read. Signing in makes a new one.",
    }
}

fn later_for(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::Throttled => "Your identity provider gets too many requests.",
        FailureReason::StoreUnavailable => "Your token cache cannot be reached. You are still signed in.",
        _ => "Your identity provider gave none. You are still signed in.",
    }
}

fn token(tokens: &Tokens, now: Timestamp) -> Markup {
    let Tokens::Acquired { expires_on, source, .. } = tokens else {
        return html! { "none" };
    };
    let origin = match source {
        TokenSource::Cache => "taken from the cache",
        TokenSource::CacheRefreshDue => "taken from the cache, and being renewed",
        TokenSource::Refreshed => "renewed just now",
    };
    html! {
        "until " (time(*expires_on)) " (" (left(expires_on.duration_since(now))) "), "
        span #token-source { (origin) }
    }
}

/// To the second, in UTC.
fn time(time: Timestamp) -> Markup {
    let text = time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    html! { time datetime=(time) { (text) } }
}

fn left(left: SignedDuration) -> String {
    match left.as_secs() {
        ..=0 => "expired".to_owned(),
        seconds @ 1..=119 => format!("{seconds} s left"),
        seconds => format!("{} min left", seconds / 60),
    }
}

fn downstream(call: Option<&Call>) -> Markup {
    html! {
        section.card {
            h2 { "A call to an API, with this token" }
            @match call {
                None => p { "No API is set: give one by " code { "--api-url" } "." },
                Some(Call { url, answer }) => {
                    p { code { "GET " (url) } }
                    @match answer {
                        Ok(answer) => (answered(answer)),
                        Err(error) => p.bad #api-status { (error) },
                    }
                }
            }
        }
    }
}

fn answered(answer: &ApiAnswer) -> Markup {
    let is_good = (200..300).contains(&answer.status);
    html! {
        p {
            span.badge.good[is_good].bad[!is_good] #api-status { (answer.status) }
            " in " (milliseconds(answer.took))
        }
        @if answer.fields.is_empty() {
            p.quiet { "The answer is no JSON object with anything to show." }
        } @else {
            dl #api-fields {
                @for (name, value) in &answer.fields { dt { (name) } dd { (value) } }
            }
        }
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
