//! The provider's configuration document, read once and checked: its issuer, its endpoints, its kind.

use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use super::http::{CallError, Http, HttpSetupError};
use super::settings::{Authority, ProviderKind, ProviderSettings, Tenant, is_protected};
use crate::account::{InvalidText, TenantId};
use crate::token_cache::msal::same_environment;

/// What Microsoft Entra ID writes in the place of the tenant id where it speaks of any tenant.
const TEMPLATE: &str = "{tenantid}";
/// The tenant of personal accounts, which `organizations` does not let in.
const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// The identity client could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// See [`HttpSetupError`].
    #[error(transparent)]
    Http(#[from] HttpSetupError),
    /// The configuration document could not be had.
    #[error("the configuration of {authority} could not be read; is the authority right?")]
    Document {
        /// The authority of the settings.
        authority: String,
        /// Why.
        #[source]
        source: CallError,
    },
    /// The document is another issuer's.
    #[error("the configuration of {authority} is of the issuer {issuer}; set the authority to the issuer you mean")]
    OtherIssuer {
        /// The authority of the settings.
        authority: String,
        /// The issuer of the document.
        issuer: String,
    },
    /// An endpoint's URL is neither `https` nor on a loopback host.
    #[error("the configuration of {authority} names the {endpoint} at an address where secrets would travel in clear")]
    InTheClear {
        /// The authority of the settings.
        authority: String,
        /// Which endpoint.
        endpoint: &'static str,
    },
    /// The signing keys could not be had.
    #[error("the signing keys of {authority} could not be read")]
    Keys {
        /// The authority of the settings.
        authority: String,
        /// Why.
        #[source]
        source: CallError,
    },
    /// The host of the authority cannot be written into a blob.
    #[error("the host of the authority")]
    Environment(#[source] InvalidText),
}

impl DiscoveryError {
    /// Whether the same may succeed later with nothing changed here.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Document { source, .. } | Self::Keys { source, .. } => source.is_transient(),
            _ => false,
        }
    }
}

/// What is used of OpenID Connect Discovery 1.0 and RFC 8414.
#[derive(Debug, Clone, Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    #[serde(default)]
    end_session_endpoint: Option<Url>,
    #[serde(default)]
    userinfo_endpoint: Option<Url>,
    #[serde(default)]
    id_token_signing_alg_values_supported: Vec<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    cloud_instance_name: Option<String>,
}

/// What the client has to know of its provider.
#[derive(Debug, Clone)]
pub(super) struct Provider {
    pub(super) kind: ProviderKind,
    pub(super) issuer: Issuer,
    /// How the authority names the tenant, at Microsoft Entra ID.
    pub(super) tenant: Option<Tenant>,
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    pub(super) jwks_uri: Url,
    pub(super) end_session_endpoint: Option<Url>,
    pub(super) userinfo_endpoint: Option<Url>,
    pub(super) id_token_algorithms: Vec<String>,
    pub(super) secret_in_header: bool,
    pub(super) checks_ps256: bool,
    pub(super) names_itself: bool,
}

/// Who issues id tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Issuer {
    /// This issuer alone; at Microsoft Entra ID with its tenant's id.
    One { url: String, tenant: Option<TenantId> },
    /// One for each tenant: the template is filled with the token's `tid`.
    EachTenant { template: String, lets_personal_in: bool },
}

impl Issuer {
    /// The issuer of a tenant's tokens, where that tenant's users may sign in.
    pub(super) fn of(&self, tenant: Option<&TenantId>) -> Option<String> {
        match self {
            Self::One { url, tenant: None } => Some(url.clone()),
            Self::One { url, tenant: Some(own) } => {
                tenant.is_some_and(|tenant| is_same(tenant, own)).then(|| url.clone())
            }
            Self::EachTenant { template, lets_personal_in } => {
                let tenant = tenant.filter(|tenant| is_tenant_id(tenant.as_str()))?;
                let is_personal = tenant.as_str().eq_ignore_ascii_case(PERSONAL_ACCOUNTS);
                (*lets_personal_in || !is_personal).then(|| template.replace(TEMPLATE, tenant.as_str()))
            }
        }
    }

    /// The issuer of one tenant alone, where there are tenants.
    pub(super) fn in_tenant(&self, tenant: &TenantId) -> Option<Self> {
        if !is_tenant_id(tenant.as_str()) {
            return None;
        }
        let url = match self {
            Self::One { tenant: None, .. } => return None,
            Self::One { url, tenant: Some(own) } => url.replace(own.as_str(), tenant.as_str()),
            Self::EachTenant { template, .. } => template.replace(TEMPLATE, tenant.as_str()),
        };
        Some(Self::One { url, tenant: Some(tenant.clone()) })
    }

    /// The issuer as the document names it, template and all.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::One { url, .. } => url,
            Self::EachTenant { template, .. } => template,
        }
    }
}

pub(super) fn is_same(one: &TenantId, other: &TenantId) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

/// Whether the text is a tenant's id in its usual form.
pub(super) fn is_tenant_id(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

/// Reads and checks the document.
pub(super) async fn discover(settings: &ProviderSettings, http: &Http) -> Result<Provider, DiscoveryError> {
    let authority = shown(settings);
    let failed = |source| DiscoveryError::Document { authority: authority.clone(), source };
    let url = document_url(settings).ok_or(CallError::Address).map_err(failed)?;
    let document: Document = http.get(&url).await.map_err(failed)?;
    check_endpoints(&document, &authority)?;
    let kind = settings.kind.unwrap_or_else(|| kind_of(settings, &document));
    let other = || DiscoveryError::OtherIssuer { authority: authority.clone(), issuer: document.issuer.clone() };
    let tenant = match kind {
        ProviderKind::Generic => None,
        ProviderKind::Entra => settings.tenant.clone().or_else(|| tenant_in(settings.authority.url())),
    };
    let issuer = match kind {
        ProviderKind::Generic => generic_issuer(&settings.authority, &document.issuer),
        ProviderKind::Entra => {
            tenant.as_ref().and_then(|tenant| entra_issuer(&settings.authority, tenant, &document.issuer))
        }
    };
    let issuer = issuer.ok_or_else(other)?;
    Ok(Provider {
        kind,
        issuer,
        tenant,
        secret_in_header: puts_secret_in_header(kind, &document),
        checks_ps256: checks_ps256(kind, &document),
        names_itself: document.authorization_response_iss_parameter_supported,
        authorization_endpoint: document.authorization_endpoint,
        token_endpoint: document.token_endpoint,
        jwks_uri: document.jwks_uri,
        end_session_endpoint: document.end_session_endpoint,
        userinfo_endpoint: document.userinfo_endpoint,
        id_token_algorithms: document.id_token_signing_alg_values_supported,
    })
}

/// The authority as it is named in messages.
pub(super) fn shown(settings: &ProviderSettings) -> String {
    match &settings.tenant {
        Some(tenant) => format!("{}/{tenant}", settings.authority),
        None => settings.authority.to_string(),
    }
}

fn document_url(settings: &ProviderSettings) -> Option<Url> {
    let base = settings.authority.base();
    let version = if settings.tenant.is_some() { "/v2.0" } else { "" };
    let tenant = settings.tenant.as_ref().map(|tenant| format!("/{tenant}")).unwrap_or_default();
    Url::parse(&format!("{base}{tenant}{version}/.well-known/openid-configuration")).ok()
}

fn check_endpoints(document: &Document, authority: &str) -> Result<(), DiscoveryError> {
    let endpoints = [
        ("authorization endpoint", Some(&document.authorization_endpoint)),
        ("token endpoint", Some(&document.token_endpoint)),
        ("signing keys", Some(&document.jwks_uri)),
        ("sign-out endpoint", document.end_session_endpoint.as_ref()),
        ("userinfo endpoint", document.userinfo_endpoint.as_ref()),
    ];
    match endpoints.into_iter().find(|(_, url)| url.is_some_and(|url| !is_protected(url))) {
        Some((endpoint, _)) => Err(DiscoveryError::InTheClear { authority: authority.to_owned(), endpoint }),
        None => Ok(()),
    }
}

fn kind_of(settings: &ProviderSettings, document: &Document) -> ProviderKind {
    let is_entra = settings.tenant.is_some() || document.cloud_instance_name.is_some();
    if is_entra || document.issuer.contains(TEMPLATE) { ProviderKind::Entra } else { ProviderKind::Generic }
}

/// The issuer is the authority, but for a slash at the end, which people lose and find.
fn generic_issuer(authority: &Authority, issuer: &str) -> Option<Issuer> {
    let is_own = issuer.trim_end_matches('/') == authority.base() && !issuer.contains(TEMPLATE);
    is_own.then(|| Issuer::One { url: issuer.to_owned(), tenant: None })
}

/// `https://{host}/{tenant id}/v2.0`, or with `{tenantid}` where any tenant's users may sign in.
fn entra_issuer(authority: &Authority, tenant: &Tenant, issuer: &str) -> Option<Issuer> {
    let url = Url::parse(issuer).ok()?;
    if !is_same_host(authority.url(), &url) {
        return None;
    }
    let named = issuer.strip_suffix("/v2.0")?.rsplit('/').next()?;
    if named == TEMPLATE {
        let template = issuer.to_owned();
        return match tenant {
            Tenant::Common => Some(Issuer::EachTenant { template, lets_personal_in: true }),
            Tenant::Organizations => Some(Issuer::EachTenant { template, lets_personal_in: false }),
            Tenant::One(_) => None,
        };
    }
    let own = TenantId::new(named).ok().filter(|own| is_tenant_id(own.as_str()))?;
    match tenant {
        Tenant::One(tenant) if !is_tenant_id(tenant.as_str()) || is_same(tenant, &own) => {
            Some(Issuer::One { url: issuer.to_owned(), tenant: Some(own) })
        }
        _ => None,
    }
}

/// The tenant of an authority that is written out, such as `https://login.microsoftonline.com/common/v2.0`.
fn tenant_in(authority: &Url) -> Option<Tenant> {
    authority.path_segments()?.next()?.parse().ok()
}

fn is_same_host(authority: &Url, issuer: &Url) -> bool {
    let host = |url: &Url| url.host_str().unwrap_or_default().to_owned();
    let is_own_port = authority.port_or_known_default() == issuer.port_or_known_default();
    authority.scheme() == issuer.scheme() && is_own_port && same_environment(&host(authority), &host(issuer))
}

/// OpenID Connect's default is the header; where both are supported, each kind gets what it is usually set up for.
fn puts_secret_in_header(kind: ProviderKind, document: &Document) -> bool {
    let supports = |method: &str| match &document.token_endpoint_auth_methods_supported {
        Some(methods) => methods.iter().any(|supported| supported == method),
        None => method == "client_secret_basic",
    };
    match kind {
        ProviderKind::Entra => !supports("client_secret_post"),
        ProviderKind::Generic => supports("client_secret_basic"),
    }
}

fn checks_ps256(kind: ProviderKind, document: &Document) -> bool {
    match &document.token_endpoint_auth_signing_alg_values_supported {
        Some(algorithms) => algorithms.iter().any(|algorithm| algorithm == "PS256"),
        None => kind == ProviderKind::Entra,
    }
}
