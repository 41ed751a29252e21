//! The app's cookies: for this host alone, out of reach of scripts and of requests that other sites make.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

use super::token::RandomToken;

/// A cookie of the app. The prefix has browsers refuse it unless it is `Secure`, for the whole host and for no other:
/// nobody on a neighbouring host can plant one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cookie {
    name: &'static str,
    /// How long the browser keeps it; until it is closed where this is not set.
    life: Option<Duration>,
}

/// Who is signed in.
pub(super) const SESSION: Cookie = Cookie { name: "__Host-session", life: None };

/// Which browser began a sign-in.
pub(super) const fn browser(life: Duration) -> Cookie {
    Cookie { name: "__Host-sign-in", life: Some(life) }
}

impl Cookie {
    /// What the browser sent. Nothing where it sent several: one of them would be somebody else's.
    pub(super) fn of(self, headers: &HeaderMap) -> Option<RandomToken> {
        let mut values = pairs(headers).filter(|(name, _)| *name == self.name).map(|(_, value)| value);
        let value = values.next()?;
        if values.next().is_some() { None } else { RandomToken::parse(value) }
    }

    /// `Set-Cookie`.
    pub(super) fn set(self, token: &RandomToken) -> Option<HeaderValue> {
        let life = self.life.map(|life| format!("; Max-Age={}", life.as_secs())).unwrap_or_default();
        sensitive(&format!("{}={}{ATTRIBUTES}{life}", self.name, token.expose()))
    }

    /// `Set-Cookie` that has the browser forget it.
    pub(super) fn forget(self) -> Option<HeaderValue> {
        sensitive(&format!("{}={ATTRIBUTES}; Max-Age=0", self.name))
    }
}

const ATTRIBUTES: &str = "; Path=/; Secure; HttpOnly; SameSite=Lax";

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn sent(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (header::COOKIE, line.parse().unwrap())).collect()
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let token = RandomToken::fresh();
        let headers = sent(&["a=b", &format!("c=d; __Host-session={}; e", token.expose())]);
        assert!(SESSION.of(&headers).unwrap().is(token.expose()));
        assert!(browser(Duration::from_secs(1)).of(&headers).is_none());
    }

    #[test]
    fn two_of_one_name_are_none() {
        let (one, other) = (RandomToken::fresh(), RandomToken::fresh());
        let both = format!("__Host-session={}; __Host-session={}", one.expose(), other.expose());
        assert!(SESSION.of(&sent(&[&both])).is_none());
    }

    #[test]
    fn a_value_of_another_form_is_none() {
        assert!(SESSION.of(&sent(&["__Host-session=1"])).is_none());
    }
}
