//! The authorization endpoint, its page, and sign-out.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use reqwest::StatusCode;
use support::*;
use testkit::identity_provider::{DEFAULT_TENANT, Options};
use url::Url;

#[tokio::test]
async fn an_unregistered_client_or_redirect_address_gets_a_page_and_no_redirect() {
    let app = App::start().await;
    for (name, value, number) in [
        ("client_id", "nobody", "AADSTS700016"),
        ("redirect_uri", "https://evil.example/", "AADSTS50011"),
        ("redirect_uri", "javascript:alert(1)", "AADSTS50011"),
        ("redirect_uri", "<script>", "AADSTS50011"),
    ] {
        let url = app.authorize_url(TENANT, "ada@contoso.com", &[(name, Some(value))]);
        let answer = app.http.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let page = answer.text().await.unwrap();
        assert!(page.contains(number), "{page}");
        assert!(!page.contains("<script>"));
    }
}

#[tokio::test]
async fn protocol_errors_are_redirected_with_the_state() {
    let app = App::start().await;
    for (name, value, error) in [
        ("response_type", Some("token"), "unsupported_response_type"),
        ("response_mode", Some("fragment"), "invalid_request"),
        ("code_challenge_method", Some("plain"), "invalid_request"),
        ("scope", None, "invalid_request"),
    ] {
        let answer = app.authorize(TENANT, "ada@contoso.com", &[(name, value)]).await;
        assert_eq!((answer["error"].as_str(), answer["state"].as_str()), (error, "the state"));
    }
}

#[tokio::test]
async fn nobody_is_asked_under_prompt_none() {
    let app = App::start().await;
    let prompt = ("prompt", Some("none"));
    let answer = app.authorize(TENANT, "stranger@contoso.com", &[prompt]).await;
    assert_eq!(answer["error"], "login_required");
    assert!(app.authorize(TENANT, "ada@contoso.com", &[prompt]).await.contains_key("code"));
}

async fn page_at(app: &App, url: Url) -> String {
    let answer = app.http.get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.text().await.unwrap()
}

#[tokio::test]
async fn without_a_known_hint_or_without_auto_approval_a_page_asks() {
    let app = App::start().await;
    let manual = App::with(Options { auto_approve: false, ..Options::default() }).await;
    let select = [("prompt", Some("select_account"))];
    for page in [
        page_at(&app, app.authorize_url(TENANT, "stranger@contoso.com", &[])).await,
        page_at(&app, app.authorize_url(TENANT, "ada@contoso.com", &select)).await,
        page_at(&manual, manual.authorize_url(TENANT, "ada@contoso.com", &[])).await,
    ] {
        assert!(page.contains("ada@contoso.com") && page.contains("grace@contoso.com"));
    }
}

#[tokio::test]
async fn the_page_escapes_what_it_was_sent() {
    let app = App::start().await;
    let page = page_at(&app, app.authorize_url(TENANT, "\"><script>x", &[("state", Some("<script>"))])).await;
    assert!(!page.contains("<script>"));
    assert!(page.contains("&lt;script&gt;"));
}

#[tokio::test]
async fn a_chosen_user_is_signed_in_and_a_new_name_becomes_a_user() {
    let app = App::with(Options { auto_approve: false, ..Options::default() }).await;
    for (tenant, username, home) in
        [(TENANT, "ada@contoso.com", TENANT), ("common", "new@fabrikam.com", DEFAULT_TENANT)]
    {
        let answer = app.authorize(tenant, username, &[("dev_chosen", Some("1"))]).await;
        let (status, tokens) = app.token(tenant, &code_form(&answer["code"])).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(claims(&tokens["id_token"])["preferred_username"], username);
        assert_eq!(claims(&tokens["id_token"])["tid"], home);
    }
}

#[tokio::test]
async fn going_back_is_access_denied() {
    let app = App::start().await;
    let answer = app.authorize(TENANT, "ada@contoso.com", &[("dev_cancelled", Some("1"))]).await;
    assert_eq!(answer["error"], "access_denied");
}

#[tokio::test]
async fn signing_out_leads_back_to_the_app() {
    let app = App::start().await;
    let back = "http://localhost:8000/signed-out";
    let path = format!("/{TENANT}/oauth2/v2.0/logout");
    let url = Url::parse_with_params(&app.url(&path), [("post_logout_redirect_uri", back)]).unwrap();
    let answer = app.http.get(url).send().await.unwrap();
    assert_eq!((answer.status(), answer.headers()["location"].to_str().unwrap()), (StatusCode::SEE_OTHER, back));
    assert_eq!(app.get(&path).await.status(), StatusCode::OK);
}
