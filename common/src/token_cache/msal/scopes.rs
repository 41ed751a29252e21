//! Scopes: space-separated sets compared without regard to case.

/// Scopes that say nothing about which API a token is for, and that the server may leave out of its answer.
const OIDC: [&str; 4] = ["openid", "profile", "offline_access", "email"];

/// The scopes of a `target`.
pub(super) fn split(target: &str) -> impl Iterator<Item = &str> {
    target.split(' ').filter(|scope| !scope.is_empty())
}

pub(super) fn is_oidc(scope: &str) -> bool {
    OIDC.iter().any(|oidc| oidc.eq_ignore_ascii_case(scope))
}

/// Whether a target is for no API at all.
pub(super) fn is_only_oidc(target: &str) -> bool {
    split(target).all(is_oidc)
}

/// Whether a target grants every requested scope; the OpenID Connect scopes of the request do not count.
pub(super) fn covers(target: &str, requested: &[&str]) -> bool {
    requested
        .iter()
        .flat_map(|scopes| split(scopes))
        .filter(|scope| !is_oidc(scope))
        .all(|scope| contains(target, scope))
}

/// Lower-cased, sorted, without duplicates: equal for targets that hold the same scopes.
pub(super) fn canonical(target: &str) -> String {
    let mut scopes: Vec<String> = split(target).map(str::to_lowercase).collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes.join(" ")
}

/// What makes two targets compete: the scopes they must not share, lower-cased.
///
/// Those are the API's scopes. Targets that have none, as a plain OpenID provider grants them, all compete with one
/// another, for they answer the same requests.
pub(super) fn competing(target: &str) -> Vec<String> {
    if is_only_oidc(target) {
        return vec![String::new()];
    }
    split(target).filter(|scope| !is_oidc(scope)).map(str::to_lowercase).collect()
}

fn contains(target: &str, scope: &str) -> bool {
    split(target).any(|granted| granted.eq_ignore_ascii_case(scope))
}
