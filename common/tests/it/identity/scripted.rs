//! A provider that answers what a test says.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::account::ClientId;
use common::identity::{Credential, ProviderSettings};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::SECRET;

/// An OpenID provider whose every answer is made up.
pub(crate) struct Scripted {
    pub(crate) base_url: String,
    shared: Arc<Shared>,
    _server: AbortOnDropHandle<()>,
}

struct Shared {
    key: EcdsaKeyPair,
    discovery: Mutex<Answer>,
    tokens: Mutex<VecDeque<Answer>>,
    requests: Mutex<Vec<TokenRequest>>,
}

/// What was sent to the token endpoint.
#[derive(Clone)]
pub(crate) struct TokenRequest {
    pub(crate) authorization: Option<String>,
    pub(crate) form: HashMap<String, String>,
}

/// One answer.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string().into_bytes() }
    }

    pub(crate) fn with(mut self, header: &'static str, value: &str) -> Self {
        self.headers.push((header, value.to_owned()));
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::from_u16(self.status).unwrap(), self.body).into_response();
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    }
}

impl Scripted {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let shared = Arc::new(Shared {
            key,
            discovery: Mutex::new(Answer::json(200, &discovery(&base_url))),
            tokens: Mutex::default(),
            requests: Mutex::default(),
        });
        let router = Router::new()
            .route("/keys", get(serve_keys))
            .route("/token", post(serve_token))
            .fallback(serve_discovery)
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base_url, shared, _server: AbortOnDropHandle::new(server) }
    }

    pub(crate) fn settings(&self) -> ProviderSettings {
        let credential = Credential::ClientSecret(SECRET.to_owned().into());
        let client_id = ClientId::new("client one").unwrap();
        let mut settings = ProviderSettings::new(self.base_url.parse().unwrap(), client_id, credential);
        settings.redirect_uri = Some("http://127.0.0.1:9/callback".parse().unwrap());
        settings
    }

    /// The configuration document as it is at first.
    pub(crate) fn document(&self) -> Value {
        discovery(&self.base_url)
    }

    pub(crate) fn set_discovery(&self, answer: Answer) {
        *self.shared.discovery.lock().unwrap() = answer;
    }

    /// Changes the configuration document.
    pub(crate) fn amend(&self, changes: &Value) {
        let mut document = self.document();
        document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.set_discovery(Answer::json(200, &document));
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.shared.tokens.lock().unwrap().push_back(answer);
    }

    /// The last token request.
    pub(crate) fn last_request(&self) -> TokenRequest {
        self.shared.requests.lock().unwrap().last().unwrap().clone()
    }

    pub(crate) fn request_count(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    /// An id token that the keys of this provider verify.
    pub(crate) fn id_token(&self, claims: &Value) -> String {
        let text = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", text(&json!({"alg": "ES256", "kid": "one"})), text(claims));
        let signature = self.shared.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn discovery(base_url: &str) -> Value {
    json!({
        "issuer": base_url,
        "authorization_endpoint": format!("{base_url}/authorize"),
        "token_endpoint": format!("{base_url}/token"),
        "jwks_uri": format!("{base_url}/keys"),
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    })
}

async fn serve_discovery(State(shared): State<Arc<Shared>>) -> Answer {
    shared.discovery.lock().unwrap().clone()
}

async fn serve_keys(State(shared): State<Arc<Shared>>) -> Answer {
    let point = shared.key.public_key().as_ref();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
    let key = json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": "one", "x": x, "y": y});
    Answer::json(200, &json!({"keys": [{"kty": "unheard of"}, key]}))
}

async fn serve_token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Answer {
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let form = url::form_urlencoded::parse(&body).into_owned().collect();
    shared.requests.lock().unwrap().push(TokenRequest { authorization, form });
    shared.tokens.lock().unwrap().pop_front().expect("an answer for the token endpoint")
}
