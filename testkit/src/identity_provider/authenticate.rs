//! Client authentication at the token endpoint.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::assertion::{ASSERTION_TYPE, AssertionFault, check};
use super::client::Client;
use super::error::EntraError;
use super::form::Form;
use super::keys::decode;
use super::state::Provider;

/// The client of a token request, once it has proved to be it: by `client_secret_post`, `client_secret_basic` or
/// `private_key_jwt`; a public client by its id.
pub(super) fn authenticate(
    provider: &Provider,
    tenant: &str,
    headers: &HeaderMap,
    form: &Form,
) -> Result<Arc<Client>, EntraError> {
    let basic = basic_credentials(headers);
    let id = client_id(form, basic.as_ref()).ok_or_else(|| EntraError::missing("client_id"))?;
    let client = provider.state().client(&id).ok_or_else(|| unknown_client(&id))?;
    if let Some(assertion) = form.get("client_assertion") {
        check_assertion(provider, tenant, &client, form, assertion)?;
        return Ok(client);
    }
    let secret = basic.map(|(_, secret)| secret).or_else(|| form.get("client_secret").map(str::to_owned));
    check_secret(&client, secret.as_deref())?;
    Ok(client)
}

pub(super) fn unknown_client(id: &str) -> EntraError {
    let text = format!("Application with identifier '{id}' was not found in the directory.");
    EntraError::new("unauthorized_client", 700_016, text)
}

fn client_id(form: &Form, basic: Option<&(String, String)>) -> Option<String> {
    if let Some(id) = form.get("client_id") {
        return Some(id.to_owned());
    }
    basic.map(|(id, _)| id.clone()).or_else(|| subject_of(form.get("client_assertion")?))
}

/// The subject an assertion names, unchecked; it only selects the keys to check it with.
fn subject_of(assertion: &str) -> Option<String> {
    let claims: Value = decode(assertion.split('.').nth(1)?)?;
    claims["sub"].as_str().map(str::to_owned)
}

fn check_secret(client: &Client, secret: Option<&str>) -> Result<(), EntraError> {
    match secret {
        None if client.is_public() => Ok(()),
        None => Err(EntraError::invalid_client(
            7_000_218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        )),
        Some(_) if client.is_public() => Err(EntraError::invalid_client(
            700_025,
            "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
        )),
        Some(secret) if client.has_secret(secret) => Ok(()),
        Some(_) => Err(EntraError::invalid_client(7_000_215, "Invalid client secret provided.")),
    }
}

fn check_assertion(
    provider: &Provider,
    tenant: &str,
    client: &Client,
    form: &Form,
    assertion: &str,
) -> Result<(), EntraError> {
    if form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
        return Err(EntraError::invalid_request(
            900_144,
            format!("'client_assertion_type' must be '{ASSERTION_TYPE}'."),
        ));
    }
    // A client may reach this provider under another name, so only the path of the audience is compared.
    let audiences = [format!("/{tenant}/oauth2/v2.0/token"), format!("/{tenant}/v2.0")];
    let checked = check(assertion, client.keys(), &client.id, &audiences, provider.clock.unix_seconds());
    checked.map_err(|fault| {
        let (number, text) = describe(&fault);
        EntraError::invalid_client(number, text)
    })
}

fn describe(fault: &AssertionFault) -> (u32, &'static str) {
    match fault {
        AssertionFault::Signature => (700_027, "Client assertion failed signature validation."),
        AssertionFault::Issuer => {
            (700_021, "Client assertion application identifier doesn't match 'client_id' parameter.")
        }
        AssertionFault::Audience => (700_023, "Client assertion audience claim does not match Realm issuer."),
        AssertionFault::Time => (700_024, "Client assertion is not within its valid time range."),
    }
}

fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let decoded = String::from_utf8(STANDARD.decode(value.strip_prefix("Basic ")?).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((url_decoded(id), url_decoded(secret)))
}

/// Both halves are form-encoded before they are joined (RFC 6749, 2.3.1).
fn url_decoded(text: &str) -> String {
    let pair = format!("v={text}");
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}
