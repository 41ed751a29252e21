//! How the provider behaves.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::families::Rotation;

/// The tenant that `/common` and `/organizations` sign unknown users in to.
pub const DEFAULT_TENANT: &str = "7d1f5a2c-3b64-4c1e-9a57-0c6d2e8f1b30";

/// How the provider behaves; the defaults are Microsoft Entra ID's.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Life of access tokens and id tokens.
    pub access_token_lifetime: Duration,
    /// Life of a refresh token from its issue.
    pub refresh_token_lifetime: Duration,
    /// When set, answers carry `refresh_in`.
    pub refresh_in: Option<Duration>,
    /// What happens to a refresh token when it is used.
    pub rotation: Rotation,
    /// Sign a registered user named by `login_hint` in at once, without a page.
    pub auto_approve: bool,
    /// Remember every secret that is issued or presented, for [`IdentityProvider::secrets_seen`](super::IdentityProvider::secrets_seen).
    pub records_secrets: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            access_token_lifetime: Duration::from_secs(3_600),
            refresh_token_lifetime: Duration::from_secs(90 * 24 * 3_600),
            refresh_in: None,
            rotation: Rotation::Lenient,
            auto_approve: true,
            records_secrets: false,
        }
    }
}
