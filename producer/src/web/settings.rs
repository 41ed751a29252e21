//! What the web app is told.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use common::http_server::HttpBounds;
use common::identity::is_protected;
use url::Url;

use super::expiring::Bounds;
use super::routes;

/// How the web app behaves.
#[derive(Debug, Clone)]
pub struct WebSettings {
    /// Where browsers find the app.
    pub public_url: PublicUrl,
    /// The API that is called with the user's token; the provider's userinfo endpoint where this is not set.
    pub api_url: Option<Url>,
    /// How many users may be signed in, and for how long.
    pub sessions: Bounds,
    /// How many sign-ins may be under way, and for how long.
    pub sign_ins: Bounds,
    /// How long one request may take.
    pub request_time: Duration,
    /// What the server takes upon itself.
    pub http: HttpBounds,
}

impl WebSettings {
    /// The usual bounds: sessions of 12 hours that end after an hour unused, sign-ins of 10 minutes.
    pub fn new(public_url: PublicUrl) -> Self {
        let sign_in_time = Duration::from_mins(10);
        Self {
            public_url,
            api_url: None,
            sessions: Bounds { most: 100_000, life: Duration::from_hours(12), rest: Duration::from_hours(1) },
            sign_ins: Bounds { most: 10_000, life: sign_in_time, rest: sign_in_time },
            request_time: Duration::from_secs(60),
            http: HttpBounds::default(),
        }
    }
}

/// Where browsers find the app: scheme, host and port, `https` or on a loopback host `http`.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicUrl(Url);

/// A text is not where browsers find an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPublicUrl {
    /// It is no URL with a host.
    #[error("is not a URL such as https://app.contoso.com")]
    NotAUrl,
    /// Cookies and codes would travel in the clear.
    #[error("must begin with https:// (http:// is for 127.0.0.1 and localhost alone)")]
    InTheClear,
    /// It has more than a host.
    #[error("must be a scheme, a host and perhaps a port, such as https://app.contoso.com, and nothing else")]
    TooMuch,
}

impl PublicUrl {
    /// The URI to register at the identity provider for the sign-in.
    pub fn redirect_uri(&self) -> Url {
        self.at(routes::SIGNED_IN)
    }

    /// The URI to register there for the sign-out.
    pub fn post_logout_redirect_uri(&self) -> Url {
        self.at(routes::SIGNED_OUT)
    }

    /// Whether the app is reached over TLS.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// As the header `Origin` has it.
    pub(super) fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// As the header `Host` has it.
    pub(super) fn host(&self) -> &str {
        &self.0[url::Position::BeforeHost..url::Position::AfterPort]
    }

    /// Where a sign-in begins that comes back to `return_to`.
    pub(super) fn sign_in(&self, return_to: &str) -> Url {
        let mut url = self.at(routes::SIGN_IN);
        url.query_pairs_mut().append_pair("return_to", return_to);
        url
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(path);
        url
    }
}

impl FromStr for PublicUrl {
    type Err = InvalidPublicUrl;

    fn from_str(text: &str) -> Result<Self, InvalidPublicUrl> {
        let url = Url::parse(text).map_err(|_| InvalidPublicUrl::NotAUrl)?;
        if !url.has_host() {
            return Err(InvalidPublicUrl::NotAUrl);
        }
        if !is_protected(&url) {
            return Err(InvalidPublicUrl::InTheClear);
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidPublicUrl::TooMuch);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

impl fmt::Debug for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicUrl({self})")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_an_origin_that_keeps_secrets() {
        let url: PublicUrl = "https://app.contoso.com".parse().unwrap();
        assert_eq!(url.redirect_uri().as_str(), "https://app.contoso.com/signed-in");
        assert!("http://localhost:8080/".parse::<PublicUrl>().is_ok());
        for (text, error) in [
            ("app.contoso.com", InvalidPublicUrl::NotAUrl),
            ("http://app.contoso.com", InvalidPublicUrl::InTheClear),
            ("https://app.contoso.com/portal", InvalidPublicUrl::TooMuch),
            ("https://u:p@app.contoso.com", InvalidPublicUrl::TooMuch),
            ("https://app.contoso.com/?x", InvalidPublicUrl::TooMuch),
        ] {
            assert_eq!(text.parse::<PublicUrl>(), Err(error), "{text}");
        }
    }
}
