//! How many sessions and sign-ins there may be, and for how long.

use std::time::Duration;

use super::site::{ADA, GRACE, Site};

#[tokio::test]
async fn a_session_that_is_not_used_ends_after_an_hour() {
    let site = Site::start().await;
    let mut ada = site.signed_in(ADA).await;
    site.provider.advance(Duration::from_secs(3_599));
    assert!(ada.is_signed_in().await);
    site.provider.advance(Duration::from_secs(3_600));
    assert!(!ada.is_signed_in().await);
}

#[tokio::test]
async fn a_session_ends_after_twelve_hours_however_much_it_is_used() {
    let site = Site::start().await;
    let mut ada = site.signed_in(ADA).await;
    for _ in 0..23 {
        site.provider.advance(Duration::from_secs(1_800));
        assert!(ada.is_signed_in().await);
    }
    site.provider.advance(Duration::from_secs(1_800));
    assert!(!ada.is_signed_in().await);
}

#[tokio::test]
async fn one_session_too_many_ends_the_one_that_was_not_used_for_the_longest_time() {
    let site = Site::with(|settings| settings.sessions.most = 2).await;
    let mut first = site.signed_in(ADA).await;
    let mut second = site.signed_in(GRACE).await;
    assert!(first.is_signed_in().await);
    let mut third = site.signed_in(GRACE).await;
    assert_eq!(site.app.sessions(), 2);
    assert!(first.is_signed_in().await && third.is_signed_in().await);
    assert!(!second.is_signed_in().await);
}

#[tokio::test]
async fn a_flood_of_sign_ins_takes_bounded_memory_and_signs_nobody_out() {
    let site = Site::with(|settings| settings.sign_ins.most = 8).await;
    let mut ada = site.signed_in(ADA).await;
    for _ in 0..50 {
        site.browser().begin("/sign-in").await;
    }
    assert_eq!(site.app.sign_ins(), 8);
    assert!(ada.is_signed_in().await);
    site.signed_in(GRACE).await;
}

#[tokio::test]
async fn who_merely_visits_leaves_nothing() {
    let site = Site::start().await;
    let mut browser = site.browser();
    for path in ["/", "/account", "/signed-out", "/nowhere"] {
        assert!(browser.get(path).await.headers.get("set-cookie").is_none(), "{path}");
    }
    assert_eq!((site.app.sessions(), site.app.sign_ins()), (0, 0));
}
