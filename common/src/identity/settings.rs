//! What an app registration gives: where its identity provider is, which app this is, and how it proves that.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use url::{Host, Url};

use super::certificate::ClientCertificate;
use super::scopes::Scopes;
use crate::account::{ClientId, Environment, TenantId};

/// How a confidential client reaches its identity provider, and who it is there.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Microsoft Entra ID: the cloud, such as `https://login.microsoftonline.com`, with [`tenant`](Self::tenant) set.
    /// Any other OpenID provider: its issuer, without a tenant.
    pub authority: Authority,
    /// Whose users may sign in, at Microsoft Entra ID.
    pub tenant: Option<Tenant>,
    /// The application (client) id.
    pub client_id: ClientId,
    /// What proves that this is the app.
    pub credential: Credential,
    /// Where the browser comes back to after the sign-in; a worker needs none.
    pub redirect_uri: Option<Url>,
    /// What is asked for at the sign-in, besides `openid profile offline_access`.
    pub scopes: Scopes,
    /// Under a multi-tenant authority, the only tenants whose users may sign in; all of them where this is empty.
    pub allowed_tenants: Vec<TenantId>,
    /// What kind of provider it is; seen in its configuration where this is not set.
    pub kind: Option<ProviderKind>,
    /// The environment to write into blobs; the host of the authority where this is not set.
    pub environment: Option<Environment>,
    /// Bounds of the calls.
    pub http: HttpSettings,
}

impl ProviderSettings {
    /// The settings that every app has; the rest is at its default.
    pub fn new(authority: Authority, client_id: ClientId, credential: Credential) -> Self {
        Self {
            authority,
            tenant: None,
            client_id,
            credential,
            redirect_uri: None,
            scopes: Scopes::default(),
            allowed_tenants: Vec::new(),
            kind: None,
            environment: None,
            http: HttpSettings::default(),
        }
    }
}

/// What proves to the provider that this is the app.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A client secret.
    ClientSecret(SecretString),
    /// A certificate whose key signs client assertions (`private_key_jwt`).
    Certificate(ClientCertificate),
}

/// Bounds of the calls to the provider.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a call may take, its body included.
    pub timeout: Duration,
    /// PEM certificates of a private CA, trusted instead of the machine's.
    pub ca_file: Option<PathBuf>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), timeout: Duration::from_secs(30), ca_file: None }
    }
}

/// What kind of provider it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// Microsoft Entra ID: tenants, `client_info`, one issuer for each tenant.
    Entra,
    /// Any other OpenID provider.
    Generic,
}

/// Whose users may sign in at Microsoft Entra ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenant {
    /// Users of any tenant, and personal accounts.
    Common,
    /// Users of any tenant.
    Organizations,
    /// Members and guests of one tenant, by its id, a domain of it, or `consumers`.
    One(TenantId),
}

/// A text names no tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a tenant id, a domain such as contoso.com, `common` or `organizations`")]
pub struct InvalidTenant;

impl Tenant {
    /// The segment of the authority's path.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Common => "common",
            Self::Organizations => "organizations",
            Self::One(tenant) => tenant.as_str(),
        }
    }
}

impl FromStr for Tenant {
    type Err = InvalidTenant;

    fn from_str(text: &str) -> Result<Self, InvalidTenant> {
        let text = text.to_ascii_lowercase();
        match text.as_str() {
            "common" => Ok(Self::Common),
            "organizations" => Ok(Self::Organizations),
            _ if is_segment(&text) => TenantId::new(text).map(Self::One).map_err(|_| InvalidTenant),
            _ => Err(InvalidTenant),
        }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the text may stand in the path of an authority: what ids and domains are made of.
pub(super) fn is_segment(text: &str) -> bool {
    let is_lawful = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_lawful)
}

/// The URL of an identity provider: `https`, or `http` on a loopback host, without user, query and fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority(Url);

/// A text is not the URL of an identity provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAuthority {
    /// It is no URL with a host.
    #[error("is not a URL such as https://login.microsoftonline.com")]
    NotAUrl,
    /// Tokens would travel in the clear.
    #[error("must begin with https:// (http:// is for 127.0.0.1 and localhost alone)")]
    InTheClear,
    /// It has parts that an issuer does not have.
    #[error("must have no user, password, query or fragment")]
    TooMuch,
}

impl Authority {
    /// The URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The URL without a slash at its end.
    pub(super) fn base(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }
}

impl FromStr for Authority {
    type Err = InvalidAuthority;

    fn from_str(text: &str) -> Result<Self, InvalidAuthority> {
        let url = Url::parse(text).map_err(|_| InvalidAuthority::NotAUrl)?;
        if !url.has_host() {
            return Err(InvalidAuthority::NotAUrl);
        }
        if !is_protected(&url) {
            return Err(InvalidAuthority::InTheClear);
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidAuthority::TooMuch);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({self})")
    }
}

/// Whether secrets may be sent there: over TLS, or without leaving the machine.
pub fn is_protected(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_loopback_hosts_alone() {
        for text in ["https://login.example", "http://127.0.0.1:8080/x", "http://localhost", "http://[::1]:1/"] {
            assert!(text.parse::<Authority>().is_ok(), "{text}");
        }
        for text in ["http://login.example", "http://127.0.0.1.example", "ftp://127.0.0.1", "http://10.0.0.1"] {
            assert_eq!(text.parse::<Authority>().unwrap_err(), InvalidAuthority::InTheClear, "{text}");
        }
    }

    #[test]
    fn an_authority_has_no_credentials_and_no_query() {
        for text in ["https://user@login.example", "https://u:p@login.example", "https://a.example/?x", "https://a/#b"]
        {
            assert_eq!(text.parse::<Authority>().unwrap_err(), InvalidAuthority::TooMuch, "{text}");
        }
        assert_eq!("login.example".parse::<Authority>().unwrap_err(), InvalidAuthority::NotAUrl);
    }

    #[test]
    fn a_tenant_is_one_segment_of_a_path() {
        assert_eq!("COMMON".parse(), Ok(Tenant::Common));
        assert_eq!("contoso.com".parse::<Tenant>().unwrap().as_str(), "contoso.com");
        for text in ["", "a/b", "..", "a?b", "a b", "%2e"] {
            assert_eq!(text.parse::<Tenant>(), Err(InvalidTenant), "{text}");
        }
    }
}
