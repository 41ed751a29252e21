//! Where users sign in and tokens come from: what is copied from an app registration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};

use super::{SettingsError, secret, span};
use crate::account::{ClientId, Environment, TenantId};
use crate::identity::{Authority, ClientCertificate, Credential, ProviderKind, ProviderSettings, Scopes, Tenant};

/// A call that may take no time never succeeds.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// The app registration at the identity provider. The web app and its workers are given the same.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Identity provider")]
pub struct IdentityProviderSettings {
    /// Microsoft Entra ID's cloud, or the issuer of any other OpenID provider
    #[arg(long, env = "IDP_AUTHORITY", default_value = "https://login.microsoftonline.com", value_name = "URL")]
    idp_authority: Authority,
    /// Whose users may sign in at Microsoft Entra ID: a tenant id, a domain, common or organizations
    #[arg(long, env = "IDP_TENANT", value_name = "TENANT")]
    idp_tenant: Option<Tenant>,
    /// The application (client) id
    #[arg(long, env = "IDP_CLIENT_ID", value_name = "ID")]
    idp_client_id: Option<ClientId>,
    /// The client secret; give it by the environment or by a file
    #[arg(long, env = "IDP_CLIENT_SECRET", hide_env_values = true, value_name = "SECRET", value_parser = secret,
          conflicts_with_all = ["idp_client_secret_file", "idp_client_certificate_file"])]
    idp_client_secret: Option<SecretString>,
    /// File that holds the client secret
    #[arg(long, env = "IDP_CLIENT_SECRET_FILE", value_name = "FILE", conflicts_with = "idp_client_certificate_file")]
    idp_client_secret_file: Option<PathBuf>,
    /// PEM file of the certificate that proves the app, instead of a secret
    #[arg(long, env = "IDP_CLIENT_CERTIFICATE_FILE", value_name = "FILE")]
    idp_client_certificate_file: Option<PathBuf>,
    /// PEM file of the certificate's RSA key [default: the certificate's file]
    #[arg(long, env = "IDP_CLIENT_KEY_FILE", value_name = "FILE", requires = "idp_client_certificate_file")]
    idp_client_key_file: Option<PathBuf>,
    /// What access tokens are asked for, separated by spaces, such as User.Read
    #[arg(long, env = "IDP_SCOPES", default_value = "", hide_default_value = true, value_name = "SCOPES")]
    idp_scopes: Scopes,
    /// Under common or organizations, the only tenants whose users may sign in, separated by commas
    #[arg(long, env = "IDP_ALLOWED_TENANTS", value_name = "IDS", value_delimiter = ',')]
    idp_allowed_tenants: Vec<TenantId>,
    /// What kind of provider it is [default: seen in its configuration]
    #[arg(long, env = "IDP_KIND", value_name = "KIND")]
    idp_kind: Option<KindOfProvider>,
    /// The environment written into blobs [default: the host of the authority]
    #[arg(long, env = "IDP_ENVIRONMENT", value_name = "HOST")]
    idp_environment: Option<Environment>,
    /// PEM file of a private CA, trusted instead of the machine's
    #[arg(long, env = "IDP_CA_FILE", value_name = "FILE")]
    idp_ca_file: Option<PathBuf>,
    /// How long a call to the provider may take; the right to refresh an account is held for twice that and 15s
    #[arg(long, env = "IDP_TIMEOUT", default_value = "30s", value_parser = span, value_name = "DURATION")]
    idp_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindOfProvider {
    /// Microsoft Entra ID
    Entra,
    /// Any other OpenID provider
    Generic,
}

impl IdentityProviderSettings {
    /// What is set, with the secret or the certificate read.
    ///
    /// # Errors
    /// [`SettingsError`]: no client id, no credential, or one that cannot be read.
    pub fn provider(&self) -> Result<ProviderSettings, SettingsError> {
        let client_id = self.idp_client_id.clone().ok_or(SettingsError::NoClientId)?;
        let mut settings = ProviderSettings::new(self.idp_authority.clone(), client_id, self.credential()?);
        settings.tenant = self.idp_tenant.clone();
        settings.scopes = self.idp_scopes.clone();
        settings.allowed_tenants = self.idp_allowed_tenants.clone();
        settings.kind = self.idp_kind.map(|kind| match kind {
            KindOfProvider::Entra => ProviderKind::Entra,
            KindOfProvider::Generic => ProviderKind::Generic,
        });
        settings.environment = self.idp_environment.clone();
        settings.http.ca_file = self.idp_ca_file.clone();
        settings.http.timeout = self.idp_timeout.max(LEAST_TIMEOUT);
        Ok(settings)
    }

    /// The app that is set, if one is.
    pub fn client_id(&self) -> Option<&ClientId> {
        self.idp_client_id.as_ref()
    }

    fn credential(&self) -> Result<Credential, SettingsError> {
        if let Some(certificate) = &self.idp_client_certificate_file {
            let key = self.idp_client_key_file.as_ref().unwrap_or(certificate);
            return Ok(Credential::Certificate(ClientCertificate::from_files(certificate, key)?));
        }
        let secret = match (&self.idp_client_secret, &self.idp_client_secret_file) {
            (Some(secret), _) => secret.clone(),
            (None, Some(file)) => read_secret(file)?,
            (None, None) => return Err(SettingsError::NoClientCredential),
        };
        if secret.expose_secret().is_empty() {
            return Err(SettingsError::NoClientCredential);
        }
        Ok(Credential::ClientSecret(secret))
    }
}

/// The file's text without the line break that editors leave at its end.
fn read_secret(file: &Path) -> Result<SecretString, SettingsError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| SettingsError::ClientSecretFile { path: file.display().to_string(), source })?;
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::Write as _;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        provider: IdentityProviderSettings,
    }

    fn given(flags: &[&str]) -> Result<ProviderSettings, SettingsError> {
        let fixed = ["program", "--idp-client-id", "app"];
        Program::try_parse_from(fixed.iter().chain(flags)).unwrap().provider.provider()
    }

    #[test]
    fn without_a_credential_it_says_which_ones_there_are() {
        let error = given(&[]).unwrap_err().to_string();
        assert!(error.contains("IDP_CLIENT_SECRET") && error.contains("IDP_CLIENT_CERTIFICATE_FILE"), "{error}");
    }

    #[test]
    fn a_secret_is_read_from_its_file_without_the_line_break() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "s3cret").unwrap();
        let settings = given(&["--idp-client-secret-file", file.path().to_str().unwrap()]).unwrap();
        let Credential::ClientSecret(secret) = settings.credential else { panic!("not a secret") };
        assert_eq!(secret.expose_secret(), "s3cret");
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let error = given(&["--idp-client-secret-file", "/nowhere/secret"]).unwrap_err().to_string();
        assert!(error.contains("/nowhere/secret"), "{error}");
    }
}
