//! Scopes: which are OpenID's, and which resource the others are of.

/// Microsoft Graph's application id: the resource of scopes without a prefix.
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";
const GRAPH_URL: &str = "https://graph.microsoft.com";

/// The scopes of one request, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scopes(Vec<String>);

impl Scopes {
    pub(super) fn parse(text: &str) -> Self {
        Self(text.split_whitespace().map(str::to_owned).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, scope: &str) -> bool {
        self.0.iter().any(|own| own.eq_ignore_ascii_case(scope))
    }

    /// What the answer's `scope` says: all but `offline_access`.
    pub(super) fn granted(&self) -> String {
        let granted: Vec<&str> =
            self.0.iter().map(String::as_str).filter(|scope| !scope.eq_ignore_ascii_case("offline_access")).collect();
        granted.join(" ")
    }

    /// The audience of the access token: an application id or a resource URL.
    pub(super) fn audience(&self) -> String {
        let resource = self.0.iter().find_map(|scope| scope.rsplit_once('/')).map(|(resource, _)| resource);
        let resource = resource.unwrap_or(GRAPH).trim_end_matches('/');
        match resource.strip_prefix("api://").unwrap_or(resource) {
            GRAPH_URL => GRAPH.to_owned(),
            other => other.to_owned(),
        }
    }

    /// The access token's `scp`: permission names without OpenID's and without their resource.
    pub(super) fn permissions(&self) -> String {
        let own = self.0.iter().filter(|scope| !is_openid(scope));
        let names: Vec<&str> = own.map(|scope| scope.rsplit('/').next().unwrap_or(scope)).collect();
        names.join(" ")
    }
}

fn is_openid(scope: &str) -> bool {
    ["openid", "profile", "email", "offline_access"].iter().any(|own| own.eq_ignore_ascii_case(scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_without_a_resource_are_of_microsoft_graph() {
        let scopes = Scopes::parse("openid offline_access User.Read");
        assert_eq!(scopes.audience(), GRAPH);
        assert_eq!(scopes.granted(), "openid User.Read");
        assert_eq!(scopes.permissions(), "User.Read");
    }

    #[test]
    fn scopes_of_an_api_have_its_application_id_as_audience() {
        let scopes = Scopes::parse("openid api://9d3c/access_as_user");
        assert_eq!(scopes.audience(), "9d3c");
        assert_eq!(scopes.permissions(), "access_as_user");
    }

    #[test]
    fn the_url_of_graph_means_graph() {
        assert_eq!(Scopes::parse("https://graph.microsoft.com/.default").audience(), GRAPH);
    }
}
