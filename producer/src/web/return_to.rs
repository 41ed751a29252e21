//! Where a browser goes after the sign-in: a path of this app, and never anything else.

use url::Url;

use super::routes;

/// The longest address that is taken.
const MAX_BYTES: usize = 1024;
/// Where those without a lawful address go.
const DEFAULT: &str = routes::ACCOUNT;

/// A path and query of this app. It begins with one slash, so that no browser takes it for another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReturnTo(String);

impl ReturnTo {
    /// Takes a text from outside; what is not a path of this app becomes the account page.
    pub(super) fn parse(text: &str) -> Self {
        Self(own_path(text).unwrap_or_else(|| DEFAULT.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text as a browser would normalise it, if that is a path of this app.
fn own_path(text: &str) -> Option<String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if !is_plain || text.len() > MAX_BYTES || !text.starts_with('/') {
        return None;
    }
    let base = Url::parse("https://app.invalid").ok()?;
    let url = base.join(text).ok().filter(|url| url.origin() == base.origin())?;
    let is_other_host = url.path().starts_with("//");
    let is_part_of_a_sign_in = routes::OF_SIGN_IN.contains(&url.path());
    (!is_other_host && !is_part_of_a_sign_in)
        .then(|| url[url::Position::BeforePath..url::Position::AfterQuery].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_this_app_is_kept() {
        for path in ["/", "/account", "/account?tab=1&q=a%20b", "/a/b/c", "/%2F%2Fevil.example", "/%5Cevil.example"] {
            assert_eq!(ReturnTo::parse(path).as_str(), path);
        }
    }

    #[test]
    fn whatever_a_browser_could_take_for_another_place_becomes_the_account_page() {
        let long = format!("/{}", "a".repeat(MAX_BYTES));
        let texts = [
            "",
            "account",
            "https://evil.example",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ok\r\nSet-Cookie: a=b",
            "/\u{0}",
            "/\u{2028}",
            "/ä",
            "/.//evil.example",
            "/a/..//evil.example",
            "/%2e//evil.example",
            "/a/%2e%2e//evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "@evil.example",
            ".evil.example",
            "?x",
            "#x",
            &long,
        ];
        for text in texts {
            assert_eq!(ReturnTo::parse(text).as_str(), DEFAULT, "{text:?}");
        }
    }

    #[test]
    fn it_does_not_lead_back_into_a_sign_in() {
        for text in ["/sign-in", "/sign-in?return_to=/sign-in", "/a/../sign-in", "/signed-in?code=x", "/sign-out"] {
            assert_eq!(ReturnTo::parse(text).as_str(), DEFAULT, "{text}");
        }
    }

    #[test]
    fn a_fragment_is_left_out() {
        assert_eq!(ReturnTo::parse("/account#here").as_str(), "/account");
    }
}
