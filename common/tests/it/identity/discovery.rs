//! Reading the provider's configuration: whose it may be, and what is refused.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use common::account::ClientId;
use common::identity::{
    CallError, Credential, DiscoveryError, HttpSetupError, IdentityClient, ProviderKind, ProviderSettings,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use testkit::certificates::CertificateAuthority;
use testkit::identity_provider::{Fault, FaultRule, Options};

use super::scripted::{Answer, Scripted};
use super::{HOME, OTHER, provider, settings};

async fn refused(provider: &Scripted) -> DiscoveryError {
    IdentityClient::discover(provider.settings()).await.unwrap_err()
}

#[tokio::test]
async fn each_tenant_has_its_issuer_and_common_has_a_template() {
    let provider = provider(Options::default()).await;
    let cases = [
        (HOME, provider.issuer(HOME)),
        (OTHER, provider.issuer(OTHER)),
        ("common", provider.issuer("{tenantid}")),
        ("organizations", provider.issuer("{tenantid}")),
    ];
    for (tenant, issuer) in cases {
        let client = IdentityClient::discover(settings(&provider, tenant)).await.unwrap();
        assert_eq!((client.kind(), client.issuer()), (ProviderKind::Entra, issuer.as_str()));
    }
}

#[tokio::test]
async fn an_authority_that_is_written_out_is_the_same() {
    let provider = provider(Options::default()).await;
    let mut settings = settings(&provider, HOME);
    settings.tenant = None;
    settings.authority = format!("{}/{HOME}/v2.0/", provider.base_url()).parse().unwrap();
    let client = IdentityClient::discover(settings).await.unwrap();
    assert_eq!((client.kind(), client.issuer()), (ProviderKind::Entra, provider.issuer(HOME).as_str()));
}

#[tokio::test]
async fn a_configuration_of_another_issuer_is_refused() {
    let provider = Scripted::start().await;
    let slash = format!("{}/", provider.base_url);
    provider.amend(&json!({"issuer": slash}));
    assert_eq!(IdentityClient::discover(provider.settings()).await.unwrap().issuer(), slash);
    for issuer in ["https://evil.example".to_owned(), format!("{}/more", provider.base_url)] {
        provider.amend(&json!({"issuer": issuer}));
        assert!(matches!(refused(&provider).await, DiscoveryError::OtherIssuer { .. }), "{issuer}");
    }
}

#[tokio::test]
async fn at_microsoft_s_the_issuer_has_to_be_of_the_tenant_and_the_cloud() {
    let provider = Scripted::start().await;
    let base = provider.base_url.clone();
    let mut settings = provider.settings();
    settings.kind = Some(ProviderKind::Entra);
    for (authority, issuer, is_good) in [
        (format!("{base}/{HOME}/v2.0"), format!("{base}/{HOME}/v2.0"), true),
        (format!("{base}/{HOME}/v2.0"), format!("{base}/{OTHER}/v2.0"), false),
        (format!("{base}/{HOME}/v2.0"), format!("{base}/{{tenantid}}/v2.0"), false),
        (format!("{base}/{HOME}/v2.0"), format!("https://evil.example/{HOME}/v2.0"), false),
        (format!("{base}/contoso.com/v2.0"), format!("{base}/{HOME}/v2.0"), true),
        (format!("{base}/contoso.com/v2.0"), format!("{base}/contoso.com/v2.0"), false),
        (format!("{base}/common/v2.0"), format!("{base}/{{tenantid}}/v2.0"), true),
        (format!("{base}/common/v2.0"), format!("{base}/{HOME}/v2.0"), false),
        (base.clone(), format!("{base}/{HOME}/v2.0"), false),
    ] {
        provider.amend(&json!({"issuer": issuer}));
        settings.authority = authority.parse().unwrap();
        let outcome = IdentityClient::discover(settings.clone()).await;
        assert_eq!(outcome.is_ok(), is_good, "{authority} {issuer} {outcome:?}");
    }
}

#[tokio::test]
async fn endpoints_in_the_clear_are_refused() {
    let provider = Scripted::start().await;
    for endpoint in ["authorization_endpoint", "token_endpoint", "jwks_uri", "end_session_endpoint"] {
        provider.amend(&json!({endpoint: "http://login.example/x"}));
        assert!(matches!(refused(&provider).await, DiscoveryError::InTheClear { .. }), "{endpoint}");
    }
}

#[tokio::test]
async fn a_document_that_is_none_is_refused_and_one_that_is_not_there_may_come() {
    let provider = Scripted::start().await;
    let cases = [
        (Answer::json(200, &json!([])), false),
        (Answer::json(404, &json!({})), false),
        (Answer::json(302, &json!({})).with("location", "/keys"), false),
        (Answer { status: 200, headers: Vec::new(), body: vec![b'{'; 2 * 1024 * 1024] }, false),
        (Answer::json(503, &json!({})), true),
    ];
    for (answer, is_transient) in cases {
        let status = answer.status;
        provider.set_discovery(answer);
        let error = refused(&provider).await;
        assert!(matches!(error, DiscoveryError::Document { .. }), "{status}: {error:?}");
        assert_eq!(error.is_transient(), is_transient, "{status}");
    }
    let mut settings = provider.settings();
    drop(provider);
    settings.authority = "http://127.0.0.1:1".parse().unwrap();
    assert!(IdentityClient::discover(settings).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn without_signing_keys_there_is_no_client() {
    let provider = provider(Options::default()).await;
    let broken = FaultRule::from(Fault::ServerError { status: 500, retry_after_seconds: None });
    provider.inject(broken.at(testkit::identity_provider::Endpoint::Keys));
    let error = IdentityClient::discover(settings(&provider, HOME)).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Keys { .. }) && error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_private_ca_is_trusted_where_it_is_set_and_only_there() {
    let authority = CertificateAuthority::new();
    let url = tls_server(&authority);
    let credential = Credential::ClientSecret("secret".to_owned().into());
    let mut settings = ProviderSettings::new(url.parse().unwrap(), ClientId::new("c").unwrap(), credential);
    let error = IdentityClient::discover(settings.clone()).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Document { source: CallError::Network(_), .. }), "{error:?}");
    settings.http.ca_file = Some(authority.certificate());
    let error = IdentityClient::discover(settings.clone()).await.unwrap_err();
    assert!(
        matches!(error, DiscoveryError::Document { source: CallError::Status { status: 418, .. }, .. }),
        "{error:?}"
    );
    settings.http.ca_file = Some("no-such-file.pem".into());
    let error = IdentityClient::discover(settings).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Http(HttpSetupError::CaFile { .. })), "{error:?}");
}

/// A server over TLS that has one answer for everything, and ends with the test.
fn tls_server(authority: &CertificateAuthority) -> String {
    let files = authority.server();
    let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            // A client that does not trust us ends the handshake: that is one of the cases.
            if stream.read(&mut [0; 4096]).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 418 -\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    format!("https://{address}")
}
