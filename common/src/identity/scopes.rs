//! Scopes: what an access token is asked for.

use std::fmt;
use std::str::FromStr;

/// OpenID Connect's own scopes that every request for a user's tokens carries.
const OPENID: [&str; 3] = ["openid", "profile", "offline_access"];

/// Scopes of one API, in their order and without duplicates; letters' case does not matter to compare them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scopes(Vec<String>);

/// A text is no list of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be scopes separated by spaces, of printable ASCII without quotes and backslashes")]
pub struct InvalidScopes;

impl Scopes {
    /// Each scope.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These scopes and `openid profile offline_access`, which bring the id token and the refresh token.
    #[must_use]
    pub fn with_openid(&self) -> Self {
        let mut scopes = self.clone();
        OPENID.into_iter().for_each(|scope| scopes.add(scope));
        scopes
    }

    fn add(&mut self, scope: &str) {
        if !self.0.iter().any(|own| own.eq_ignore_ascii_case(scope)) {
            self.0.push(scope.to_owned());
        }
    }
}

impl FromStr for Scopes {
    type Err = InvalidScopes;

    fn from_str(text: &str) -> Result<Self, InvalidScopes> {
        // RFC 6749, section 3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ).
        let is_lawful = |c: char| (c.is_ascii_graphic() && !matches!(c, '"' | '\\')) || c == ' ';
        if !text.chars().all(is_lawful) {
            return Err(InvalidScopes);
        }
        let mut scopes = Self::default();
        text.split_ascii_whitespace().for_each(|scope| scopes.add(scope));
        Ok(scopes)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn openid_s_own_scopes_are_added_once() {
        let scopes: Scopes = "User.Read OpenID".parse().unwrap();
        assert_eq!(scopes.with_openid().to_string(), "User.Read OpenID profile offline_access");
        assert_eq!(scopes.with_openid().with_openid(), scopes.with_openid());
    }

    #[test]
    fn a_text_with_quotes_or_control_characters_is_no_list_of_scopes() {
        for text in ["a\"b", "a\\b", "a\nb", "ä"] {
            assert_eq!(text.parse::<Scopes>(), Err(InvalidScopes));
        }
    }
}
