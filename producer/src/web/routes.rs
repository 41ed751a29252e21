//! The addresses of the app.

pub(super) const HOME: &str = "/";
pub(super) const ACCOUNT: &str = "/account";
pub(super) const SIGN_IN: &str = "/sign-in";
/// Where the provider sends the browser back to: the redirect URI.
pub(super) const SIGNED_IN: &str = "/signed-in";
pub(super) const SIGN_OUT: &str = "/sign-out";
/// Leads on to the provider, which signs out too.
pub(super) const SIGNING_OUT: &str = "/signing-out";
/// Where the provider sends the browser back to after it has signed out there.
pub(super) const SIGNED_OUT: &str = "/signed-out";
pub(super) const STYLE: &str = "/style.css";
pub(super) const ICON: &str = "/icon.svg";
/// Answers as long as the process serves.
pub(super) const LIVEZ: &str = "/livez";

/// Those that a sign-in must not come back to.
pub(super) const OF_SIGN_IN: [&str; 5] = [SIGN_IN, SIGNED_IN, SIGN_OUT, SIGNING_OUT, SIGNED_OUT];
