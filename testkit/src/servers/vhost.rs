//! A RabbitMQ vhost of one test's own.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use url::Url;

use crate::environment::variable;

const PATIENCE: Duration = Duration::from_secs(10);

/// A new vhost on the shared RabbitMQ, with all permissions for the user of `TEST_AMQP_URL`. Dropping it deletes it,
/// in the background.
///
/// It is made through the management HTTP API where one answers (about 50 ms), else by `rabbitmqctl` (seconds).
pub struct Vhost {
    name: String,
    broker: Url,
    admin: Admin,
}

#[derive(Clone)]
enum Admin {
    Http(Url),
    Rabbitmqctl,
}

impl Vhost {
    /// Makes the vhost.
    ///
    /// # Panics
    /// When no RabbitMQ answers, or it lets us make no vhost.
    pub async fn fresh() -> Self {
        Self::at(super::amqp_url().await).await
    }

    /// A new vhost on the broker at `broker`, whose URL has a user who may make one.
    ///
    /// # Panics
    /// As [`fresh`](Self::fresh).
    pub async fn at(broker: Url) -> Self {
        let admin = find_admin(&broker).await;
        Self::make(broker, admin).await
    }

    /// A new vhost on another broker, by its management HTTP API; both URLs have a user.
    ///
    /// # Panics
    /// When the API does not answer, or it lets us make no vhost.
    pub async fn on(broker: Url, management: Url) -> Self {
        Self::make(broker, Admin::Http(management)).await
    }

    /// The vhost's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL to connect to this vhost with.
    #[must_use]
    pub fn amqp_url(&self) -> String {
        let mut url = self.broker.clone();
        url.set_path(&self.name);
        url.into()
    }

    fn user(&self) -> &str {
        match self.broker.username() {
            "" => "guest",
            user => user,
        }
    }

    async fn make(broker: Url, admin: Admin) -> Self {
        let name = format!("test-{}", uuid::Uuid::now_v7().simple());
        let vhost = Self { name, broker, admin };
        if let Err(reason) = vhost.declare().await {
            panic!("no vhost could be made for this test: {reason}");
        }
        vhost
    }

    async fn declare(&self) -> Result<(), String> {
        match &self.admin {
            Admin::Http(api) => self.make_over_http(api).await,
            Admin::Rabbitmqctl => self.make_by_command().await,
        }
    }

    async fn make_over_http(&self, api: &Url) -> Result<(), String> {
        let vhost = format!("api/vhosts/{}", self.name);
        let permissions = format!("api/permissions/{}/{}", self.name, self.user());
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        call(api, Method::PUT, &vhost, json!({})).await?;
        call(api, Method::PUT, &permissions, all).await
    }

    async fn make_by_command(&self) -> Result<(), String> {
        let (name, user) = (self.name.clone(), self.user().to_owned());
        let made = tokio::task::spawn_blocking(move || {
            rabbitmqctl(&["add_vhost", &name])?;
            rabbitmqctl(&["set_permissions", "-p", &name, &user, ".*", ".*", ".*"])
        });
        made.await.map_err(|error| error.to_string())?
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        let deleted = match &self.admin {
            Admin::Http(api) => delete_over_http(api, &self.name),
            Admin::Rabbitmqctl => delete_by_command(&self.name),
        };
        if let Err(reason) = deleted {
            tracing::warn!(vhost = self.name, reason, "a test vhost was left behind");
        }
    }
}

/// Starts the command and does not wait: it takes seconds, and goes on when the test's process has ended.
fn delete_by_command(name: &str) -> Result<(), String> {
    let mut command = Command::new("rabbitmqctl");
    let silent = command.args(["delete_vhost", name]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = silent.spawn().map_err(|error| error.to_string())?;
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// Calls from a thread of its own, because this one may be inside a runtime.
fn delete_over_http(api: &Url, name: &str) -> Result<(), String> {
    let (api, path) = (api.clone(), format!("api/vhosts/{name}"));
    let caller = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(call(&api, Method::DELETE, &path, json!({})))
    });
    caller.join().unwrap_or_else(|_| Err("the calling thread panicked".to_owned()))
}

async fn find_admin(broker: &Url) -> Admin {
    let api = admin_url(broker);
    match call(&api, Method::GET, "api/whoami", json!({})).await {
        Ok(()) => Admin::Http(api),
        Err(reason) => {
            tracing::debug!(reason, "no management HTTP API, using rabbitmqctl");
            Admin::Rabbitmqctl
        }
    }
}

fn admin_url(broker: &Url) -> Url {
    let text = variable("TEST_AMQP_ADMIN_URL")
        .unwrap_or_else(|| format!("http://{}:15672", broker.host_str().unwrap_or("127.0.0.1")));
    let mut url: Url = match text.parse() {
        Ok(url) => url,
        Err(error) => panic!("TEST_AMQP_ADMIN_URL is not a URL: {error}"),
    };
    if url.username().is_empty() {
        // Setting userinfo fails only for URLs without a host, and those cannot be called anyway.
        let _ = url.set_username(broker.username());
        let _ = url.set_password(broker.password());
    }
    url
}

async fn call(api: &Url, method: Method, path: &str, body: serde_json::Value) -> Result<(), String> {
    let url = api.join(path).map_err(|error| error.to_string())?;
    let client = reqwest::Client::builder().timeout(PATIENCE).build();
    let client = client.map_err(|error| error.to_string())?;
    let answer = client.request(method, url).json(&body).send().await;
    let answer = answer.map_err(|error| error.without_url().to_string())?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("the management HTTP API answered {status} to {path}")),
    }
}

fn rabbitmqctl(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("rabbitmqctl").args(arguments).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(complaint(arguments, &output)),
        Err(error) => Err(format!("rabbitmqctl does not start ({error}), and no management HTTP API answers")),
    }
}

fn complaint(arguments: &[&str], output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    format!("rabbitmqctl {} failed: {}", arguments.join(" "), text.trim())
}
