//! Signing in: what must come back from the provider, to which browser, and how often.

use std::time::Duration;

use common::token_cache::{CacheWrite, Expiry, Precondition, TokenCacheStore as _};
use testkit::identity_provider::{Endpoint, Fault, FaultRule};

use super::site::{ADA, GRACE, Site, key_of, parameter, with};

#[tokio::test]
async fn a_user_signs_in_and_blob_and_event_are_there() {
    let site = Site::start().await;
    let mut ada = site.signed_in(ADA).await;
    let shown = ada.get("/account").await;
    assert_eq!(shown.element("username"), Some(ADA));
    assert_eq!(shown.element("cache-key"), Some(key_of(ADA).as_str()));
    assert_eq!(shown.element("api-status"), Some("200"));
    assert_eq!(shown.element("token-source"), Some("taken from the cache"));
    assert!(site.blob(&key_of(ADA)).await.unwrap().refresh_tokens().next().is_some());
    assert_eq!(site.event_types().await, ["tokencache.user-activity.v1"]);
}

#[tokio::test]
async fn a_second_sign_in_keeps_what_others_wrote_into_the_cache() {
    let site = Site::start().await;
    site.signed_in(ADA).await;
    let before = site.blob(&key_of(ADA)).await.unwrap();
    site.signed_in(ADA).await;
    let after = site.blob(&key_of(ADA)).await.unwrap();
    assert_eq!(after.accounts().count(), before.accounts().count());
    assert_eq!(after.refresh_tokens().count(), 1);
}

#[tokio::test]
async fn one_user_signs_in_in_several_browsers_at_once() {
    let site = Site::start().await;
    let sign_ins = (0..3).map(|_| async {
        let mut browser = site.browser();
        browser.sign_in(ADA).await;
        browser.get("/account").await.status
    });
    assert_eq!(futures_util::future::join_all(sign_ins).await, [200; 3]);
    assert_eq!(site.blob(&key_of(ADA)).await.unwrap().refresh_tokens().count(), 1);
    assert_eq!(site.event_types().await.len(), 3);
}

#[tokio::test]
async fn a_cache_that_cannot_be_read_is_replaced_by_the_next_sign_in() {
    let site = Site::start().await;
    let key = key_of(ADA);
    let blob = b"\x09\xf0\xc9\xf0 another program's encryption";
    let write = CacheWrite {
        key: &key,
        blob,
        expiry: Expiry::default().into(),
        precondition: Precondition::None,
        event: None,
        fence: None,
    };
    site.cache.write(write).await.unwrap();
    let mut ada = site.signed_in(ADA).await;
    assert_eq!(ada.get("/account").await.element("api-status"), Some("200"));
}

#[tokio::test]
async fn the_cookies_are_for_this_host_secure_and_out_of_reach_of_scripts_and_other_sites() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let begun = browser.get("/sign-in").await;
    let line = begun.set_cookie("__Host-sign-in").unwrap();
    assert!(line.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600"), "{line}");
    let done = browser.sign_in_by("/sign-in", ADA).await;
    let line = done.set_cookie("__Host-session").unwrap();
    assert!(line.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{line}");
    assert!(!line.contains("Domain"));
}

#[tokio::test]
async fn a_session_id_from_before_the_sign_in_is_never_used_after_it() {
    let site = Site::start().await;
    let mut victim = site.browser();
    let planted = "A".repeat(43);
    victim.cookies.insert("__Host-session".to_owned(), planted.clone());
    victim.sign_in(ADA).await;
    assert_ne!(victim.cookies["__Host-session"], planted);

    let mut attacker = site.browser();
    attacker.cookies.insert("__Host-session".to_owned(), planted);
    assert!(!attacker.is_signed_in().await);

    let mut before = victim.clone();
    victim.sign_in(ADA).await;
    assert_ne!(victim.cookies["__Host-session"], before.cookies["__Host-session"]);
    assert!(!before.is_signed_in().await, "the session of the sign-in before has ended");
    assert_eq!(site.app.sessions(), 1);
}

#[tokio::test]
async fn a_callback_is_taken_by_the_browser_that_began_and_by_no_other() {
    let site = Site::start().await;
    let mut attacker = site.browser();
    let asked = attacker.begin("/sign-in").await;
    let back = attacker.at_provider(asked, GRACE).await;

    let mut victim = site.browser();
    assert_eq!(victim.get(&back).await.status, 400);
    victim.begin("/sign-in").await;
    assert_eq!(victim.get(&back).await.status, 400, "it has begun a sign-in, and not this one");
    assert!(!victim.is_signed_in().await);
    assert_eq!(attacker.get(&back).await.status, 303, "where it belongs it still works");
}

#[tokio::test]
async fn a_callback_with_another_state_is_refused_and_leaves_the_begun_sign_in_alone() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let asked = browser.begin("/sign-in").await;
    let state = parameter(&asked, "state").unwrap();
    let back = browser.at_provider(asked, ADA).await;
    for other in ["", "x", &state[1..]] {
        assert_eq!(browser.get(&back.replace(&state, other)).await.status, 400);
    }
    assert_eq!(browser.get("/signed-in?code=x").await.status, 400);
    assert_eq!(browser.get(&back).await.status, 303);
}

#[tokio::test]
async fn a_callback_serves_once() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let asked = browser.begin("/sign-in").await;
    let back = browser.at_provider(asked, ADA).await;
    assert_eq!(browser.get(&back).await.status, 303);
    let again = browser.get(&back).await;
    assert_eq!((again.status, again.set_cookie("__Host-session")), (400, None));
    assert!(browser.is_signed_in().await, "the session of the first time goes on");
    assert_eq!(site.provider.all_token_requests().with_grant("authorization_code"), 1);
}

#[tokio::test]
async fn an_id_token_with_another_nonce_signs_nobody_in() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let asked = browser.begin("/sign-in").await;
    let back = browser.at_provider(with(&asked, "nonce", "another"), ADA).await;
    assert_eq!(browser.get(&back).await.status, 502);
    assert!(!browser.is_signed_in().await);
    assert!(site.blob(&key_of(ADA)).await.is_none(), "nothing of it is kept");
}

#[tokio::test]
async fn a_code_that_was_had_for_another_sign_in_brings_no_tokens() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let (mine, other) = (browser.begin("/sign-in").await, browser.begin("/sign-in").await);
    let injected = with(&other, "state", &parameter(&mine, "state").unwrap());
    let back = browser.at_provider(injected, ADA).await;
    assert_eq!(browser.get(&back).await.status, 400, "PKCE binds the code to its sign-in");
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn several_tabs_sign_in_side_by_side() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let (one, other) = (browser.begin("/sign-in").await, browser.begin("/sign-in?return_to=/account?tab=2").await);
    let (one, other) = (browser.at_provider(one, ADA).await, browser.at_provider(other, ADA).await);
    assert_eq!(browser.get(&other).await.location(), "/account?tab=2");
    assert_eq!(browser.get(&one).await.location(), "/account");
}

#[tokio::test]
async fn the_request_has_pkce_a_state_and_a_nonce() {
    let site = Site::start().await;
    let asked = site.browser().begin("/sign-in").await;
    assert_eq!(parameter(&asked, "code_challenge_method").as_deref(), Some("S256"));
    for name in ["state", "nonce", "code_challenge"] {
        assert!(parameter(&asked, name).unwrap().len() >= 22, "{name}");
    }
    assert_eq!(parameter(&asked, "redirect_uri").unwrap(), format!("{}/signed-in", site.url));
}

#[tokio::test]
async fn a_sign_in_begun_under_another_name_of_the_machine_goes_on_under_the_one_that_is_registered() {
    let site = Site::start().await;
    let port = site.url.rsplit(':').next().unwrap();
    let mut browser = site.browser();
    browser.at(&format!("http://localhost:{port}"));
    let shown = browser.get("/sign-in?return_to=/account?tab=1").await;
    assert_eq!(shown.location(), format!("{}/sign-in?return_to=%2Faccount%3Ftab%3D1", site.url));
    assert!(browser.cookies.is_empty());
}

#[tokio::test]
async fn the_browser_goes_back_to_a_path_of_this_app_and_nowhere_else() {
    let site = Site::start().await;
    let cases = [
        ("/account%3Ftab%3D1", "/account?tab=1"),
        ("%2F%2Fevil.example", "/account"),
        ("//evil.example", "/account"),
        ("/%5Cevil.example", "/account"),
        ("/%09/evil.example", "/account"),
        ("/%0D%0ASet-Cookie:%20a=b", "/account"),
        ("https://evil.example", "/account"),
        ("/.//evil.example", "/account"),
        ("/%252F%252Fevil.example", "/%2F%2Fevil.example"),
        ("/sign-in", "/account"),
        ("%FF%FE", "/account"),
    ];
    let mut browser = site.browser();
    for (asked, expected) in cases {
        let shown = browser.sign_in_by(&format!("/sign-in?return_to={asked}"), ADA).await;
        assert_eq!((shown.status, shown.location()), (303, expected), "{asked}");
    }
}

#[tokio::test]
async fn what_the_provider_says_in_words_is_not_shown() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let asked = browser.begin("/sign-in").await;
    let state = parameter(&asked, "state").unwrap();
    let back = format!(
        "/signed-in?error=access_denied&error_description=%3Cscript%3Ecall%20555-0100%3C/script%3E&error_uri=http://evil&state={state}"
    );
    let shown = browser.get(&back).await;
    assert_eq!(shown.status, 403);
    assert_eq!(shown.element("problem"), Some("You were not signed in"));
    assert!(!shown.text.contains("555-0100") && !shown.text.contains("evil"), "{}", shown.text);
    assert!(!shown.text.contains(&state));
}

#[tokio::test]
async fn a_sign_in_that_comes_back_too_late_is_refused() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let asked = browser.begin("/sign-in").await;
    site.provider.advance(Duration::from_secs(600));
    let back = browser.at_provider(asked, ADA).await;
    assert_eq!(browser.get(&back).await.status, 400);
}

#[tokio::test]
async fn parameters_given_twice_are_refused() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let asked = browser.begin("/sign-in").await;
    let back = browser.at_provider(asked, ADA).await;
    assert_eq!(browser.get(&format!("{back}&state=other")).await.status, 400);
    assert_eq!(browser.get("/sign-in?return_to=/a&return_to=/b").await.status, 400);
}

#[tokio::test]
async fn a_provider_that_is_away_is_told_from_a_user_who_said_no() {
    let site = Site::start().await;
    site.provider.inject(FaultRule::from(Fault::ServerError { status: 503, retry_after_seconds: None }));
    let shown = site.browser().sign_in_by("/sign-in", ADA).await;
    assert_eq!((shown.status, shown.element("problem")), (503, Some("The identity provider does not answer")));
    assert!(site.events().await.is_empty());
    site.provider.clear_faults();

    site.provider.inject(FaultRule::from(Fault::InteractionRequired { claims: None }).at(Endpoint::Authorize));
    let shown = site.browser().sign_in_by("/sign-in", ADA).await;
    assert_eq!(shown.status, 403);
}

#[tokio::test]
async fn nobody_is_signed_in_whose_tokens_cannot_be_kept() {
    let site = Site::start().await;
    site.store.take_down(true);
    let shown = site.browser().sign_in_by("/sign-in", ADA).await;
    assert_eq!((shown.status, shown.element("problem")), (503, Some("Your tokens cannot be reached")));
    assert_eq!(site.app.sessions(), 0);
}
