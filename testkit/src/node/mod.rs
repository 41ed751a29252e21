//! Node.js: a certified OpenID provider, and a real browser.

mod browser;
mod oidc_provider;
mod script;

pub use browser::Browser;
pub use oidc_provider::{OidcClient, OidcCounts, OidcProvider};
