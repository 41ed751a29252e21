//! The pages that a person sees: choosing a user, and errors that cannot be redirected.

use axum::response::Html;

use super::authorize::{CANCELLED, CHOSEN};
use super::error::EntraError;
use super::form::Form;
use super::state::Provider;

const MOST_USERS_SHOWN: usize = 20;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:4rem auto;padding:0 1rem}\
button,input{font:inherit;padding:.5rem .75rem;margin:.25rem 0;width:100%;box-sizing:border-box;text-align:left}";

/// The sign-in page: a button per user, a field for another name, a way back.
pub(super) fn choose(provider: &Provider, form: &Form) -> Html<String> {
    let hidden: String = form
        .iter()
        .filter(|(name, _)| !matches!(*name, "login_hint" | "prompt"))
        .map(|(name, value)| format!(r#"<input type="hidden" name="{}" value="{}">"#, escape(name), escape(value)))
        .collect();
    let users: String = usernames(provider).iter().map(|username| user_form(&hidden, username)).collect();
    let hint = escape(form.get("login_hint").unwrap_or_default());
    page(
        "Sign in",
        &format!(
            r#"<p>Development identity provider. Nothing here is secret.</p>{users}
<form method="get">{hidden}<input type="hidden" name="{CHOSEN}" value="1">
<input name="login_hint" value="{hint}" placeholder="someone@example.com" aria-label="User name" required>
<button id="sign-in">Sign in</button></form>
<form method="get">{hidden}<input type="hidden" name="{CANCELLED}" value="1"><button id="cancel">Back</button></form>"#
        ),
    )
}

/// An error that nobody else can be told.
pub(super) fn error(error: &EntraError) -> Html<String> {
    page("Sign in failed", &format!("<p>{}</p>", escape(&error.description())))
}

fn usernames(provider: &Provider) -> Vec<String> {
    let state = provider.state();
    let mut names: Vec<String> = state.users.values().map(|user| user.username.clone()).collect();
    names.sort();
    names.truncate(MOST_USERS_SHOWN);
    names
}

fn user_form(hidden: &str, username: &str) -> String {
    let username = escape(username);
    format!(
        r#"<form method="get">{hidden}<input type="hidden" name="{CHOSEN}" value="1">
<button name="login_hint" value="{username}">{username}</button></form>"#
    )
}

fn page(title: &str, content: &str) -> Html<String> {
    Html(format!(
        r#"<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{content}</html>"#
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
