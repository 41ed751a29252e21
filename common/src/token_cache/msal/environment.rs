//! Environments: the hosts that are one and the same Microsoft cloud.

/// The alias sets of the Microsoft clouds, in the order MSAL's built-in instance metadata lists them.
const ALIASES: [&[&str]; 4] = [
    &["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"],
    &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
    &["login.microsoftonline.us", "login.usgovcloudapi.net"],
    &["login.microsoftonline.de"],
];

/// Whether two environments name the same cloud: equal ignoring ASCII case, or aliases of one another.
///
/// ```
/// use common::token_cache::msal::same_environment;
///
/// assert!(same_environment("login.microsoftonline.com", "Login.Windows.net"));
/// assert!(!same_environment("login.microsoftonline.com", "login.microsoftonline.us"));
/// ```
#[must_use]
pub fn same_environment(a: &str, b: &str) -> bool {
    if a.eq_ignore_ascii_case(b) {
        return true;
    }
    alias_set(a).is_some_and(|set| contains(set, b))
}

/// One spelling for all aliases of an environment, to compare and group by.
pub(super) fn canonical_environment(environment: &str) -> String {
    match alias_set(environment) {
        Some(set) => set[0].to_owned(),
        None => environment.to_ascii_lowercase(),
    }
}

fn alias_set(environment: &str) -> Option<&'static [&'static str]> {
    ALIASES.into_iter().find(|set| contains(set, environment))
}

fn contains(set: &[&str], environment: &str) -> bool {
    set.iter().any(|alias| alias.eq_ignore_ascii_case(environment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_clouds_four_names_are_one_environment() {
        for a in ALIASES[0] {
            for b in ALIASES[0] {
                assert!(same_environment(a, &b.to_uppercase()));
                assert_eq!(canonical_environment(a), canonical_environment(&b.to_uppercase()));
            }
        }
    }

    #[test]
    fn clouds_do_not_mix() {
        for (i, a) in ALIASES.iter().enumerate() {
            for (j, b) in ALIASES.iter().enumerate() {
                assert_eq!(same_environment(a[0], b[b.len() - 1]), i == j);
            }
        }
    }

    #[test]
    fn an_unknown_host_is_only_itself_whatever_its_case() {
        assert!(same_environment("idp.example:8443", "IDP.example:8443"));
        assert!(!same_environment("idp.example:8443", "idp.example"));
    }
}
