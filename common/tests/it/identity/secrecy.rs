//! Nothing that is secret is in a log line, an error or a `Debug` text.

use std::fmt::Write as _;
use std::time::Duration;

use common::identity::{
    AccessToken, ClientCertificate, Credential, ErrorAnswer, GrantError, IdTokenError, OnBehalfOfSession, SignInError,
    UnusableAnswer,
};
use jiff::Timestamp;
use testkit::CapturedLog;
use testkit::certificates::CertificateAuthority;
use testkit::identity_provider::{Fault, Options};

use super::rig::Rig;
use super::{ADA, CLIENT, HOME, SECRET, browse, discover, hint, provider, scopes, settings};

/// What must be nowhere, and what was shown.
#[derive(Default)]
struct Scrub {
    secrets: Vec<String>,
    shown: String,
}

impl Scrub {
    fn secret(&mut self, text: &str) {
        assert!(text.len() >= 4, "too short to be looked for");
        self.secrets.push(text.to_owned());
    }

    fn show(&mut self, value: &dyn std::fmt::Debug) {
        writeln!(self.shown, "{value:?} {value:#?}").unwrap();
    }

    fn show_error(&mut self, error: &dyn std::error::Error) {
        self.show(&error);
        let mut next = Some(error);
        while let Some(error) = next {
            writeln!(self.shown, "{error}").unwrap();
            next = error.source();
        }
    }

    fn check(&self, text: &str) {
        for secret in &self.secrets {
            assert!(!text.contains(secret.as_str()), "{secret} is in:\n{text}");
        }
    }
}

#[tokio::test]
async fn no_secret_is_ever_shown() {
    let log = CapturedLog::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut scrub = Scrub::default();
    scrub.secret(SECRET);
    scrub.secret(ADA);

    let provider = provider(Options::default()).await;
    let mut own_api = settings(&provider, HOME);
    own_api.scopes = scopes(&format!("api://{CLIENT}/access"));
    scrub.show(&own_api);
    let client = discover(&provider, own_api).await;
    let request = client.authorization_request(&hint(ADA)).unwrap();
    scrub.show(&request);
    for (name, value) in request.url.query_pairs() {
        if ["state", "nonce", "code_challenge"].contains(&&*name) {
            scrub.secret(&value);
        }
    }
    let (response, pending) = browse(&client, hint(ADA)).await;
    scrub.show(&(&response, &pending, hint(ADA)));
    scrub.secret(secrecy::ExposeSecret::expose_secret(response.code.as_ref().unwrap()));
    for value in serde_json::to_value(&pending).unwrap().as_object().unwrap().values() {
        scrub.secret(value.as_str().unwrap());
    }
    let signed_in = client.redeem(&response, &pending).await.unwrap();
    scrub.show(&signed_in);
    let again = client.redeem(&response, &pending).await.unwrap_err();
    scrub.show_error(&again);

    let rig = Rig::new(&provider, client.clone()).await;
    for tokens in [&signed_in.tokens, &rig.signed_in] {
        scrub.secret(tokens.access_token.expose());
        for secret in [&tokens.refresh_token, &tokens.id_token] {
            scrub.secret(secrecy::ExposeSecret::expose_secret(secret.as_ref().unwrap()));
        }
    }
    scrub.show(&(&rig.acquirer, &rig.request, &client));
    scrub.show(&rig.acquirer.acquire_token_silent(&rig.request).await.unwrap());
    let assertion = rig.signed_in.access_token.expose().to_owned().into();
    let session = OnBehalfOfSession::Assertion;
    let acquired = rig.acquirer.acquire_on_behalf_of(&assertion, &scopes("Mail.Read"), &session).await.unwrap();
    scrub.secret(acquired.token.expose());
    scrub.show(&acquired);
    rig.provider.advance(Duration::from_secs(3600));
    for fault in faults() {
        rig.provider.inject(fault);
        scrub.show_error(&rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err());
        rig.provider.clear_faults();
        rig.provider.advance(Duration::from_secs(60));
    }
    scrub.secret("marker-challenge");
    let acquired = rig.acquirer.acquire_token_silent(&rig.request).await.unwrap();
    scrub.secret(acquired.token.expose());
    scrub.secret(rig.blob().await.refresh_tokens().next().unwrap().secret.expose_secret());
    rig.store.put(&rig.request.cache_key, b"{\"RefreshToken\": {\"marker-blob\": tru").await;
    scrub.secret("marker-blob");
    scrub.show_error(&rig.acquirer.acquire_token_silent(&rig.request).await.unwrap_err());

    scrub.check(&scrub.shown);
    let logged = log.text();
    assert!(logged.contains("no tokens"), "something was logged");
    scrub.check(&logged);
}

fn faults() -> [Fault; 5] {
    [
        Fault::InteractionRequired { claims: Some("{\"marker-challenge\":{}}".to_owned()) },
        Fault::InvalidGrant { suberror: Some("bad_token".to_owned()) },
        Fault::TooManyRequests { retry_after_seconds: 60 },
        Fault::ServerError { status: 500, retry_after_seconds: None },
        Fault::DropConnection,
    ]
}

#[test]
fn a_private_key_is_never_shown() {
    let authority = CertificateAuthority::new();
    let files = authority.app("app.example");
    let pem = std::fs::read_to_string(&files.key).unwrap();
    let certificate = ClientCertificate::from_files(&files.certificate, &files.key).unwrap();
    let shown = format!("{certificate:?} {:#?}", Credential::Certificate(certificate.clone()));
    assert!(shown.contains(certificate.thumbprint()));
    assert!(pem.lines().filter(|line| line.len() > 20 && !line.contains("---")).all(|line| !shown.contains(line)));
    let reversed = ClientCertificate::from_files(&files.key, &files.certificate).unwrap_err();
    assert!(!format!("{reversed:?} {reversed}").contains(pem.lines().nth(1).unwrap()));
}

#[test]
fn an_access_token_shows_when_it_expires_and_nothing_else() {
    let token = AccessToken::new("marker-token".to_owned().into(), Timestamp::UNIX_EPOCH);
    assert_eq!(format!("{token:?}"), "AccessToken { expires_on: 1970-01-01T00:00:00Z, .. }");
    assert_eq!(token.expose(), "marker-token");
}

#[test]
fn errors_say_what_to_do_in_one_line() {
    let answer = ErrorAnswer { status: 401, error: Some("invalid_client".parse().unwrap()), ..ErrorAnswer::default() };
    let refused = GrantError::Refused { answer };
    assert_eq!(
        refused.to_string(),
        "the identity provider refuses this client's request (invalid_client); check the client secret or \
         certificate, and that it has not expired"
    );
    let unusable = GrantError::Unusable(UnusableAnswer::IdToken(IdTokenError::Expired));
    for text in
        [unusable.to_string(), SignInError::State.to_string(), SignInError::from(IdTokenError::Nonce).to_string()]
    {
        assert!(!text.contains('\n') && text.starts_with(char::is_lowercase), "{text}");
    }
}
