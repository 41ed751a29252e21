//! `testkit identity-provider`: runs the development identity provider for people and for tests in other languages.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser};
use testkit::identity_provider::{Client, DEFAULT_TENANT, IdentityProvider, Options, Rotation, User};

/// Tools for development and tests.
#[derive(Parser)]
#[command(name = "testkit", version)]
enum Command {
    /// Run a development identity provider that answers as Microsoft Entra ID does, until interrupted.
    IdentityProvider(IdentityProviderArguments),
}

#[derive(Args)]
struct IdentityProviderArguments {
    /// Port on 127.0.0.1; 0 takes any free one.
    #[arg(long, default_value_t = 8400)]
    port: u16,
    /// Tenant id, a GUID.
    #[arg(long, default_value = DEFAULT_TENANT)]
    tenant: String,
    /// Client id of the registered app.
    #[arg(long, default_value = "5d9c3a1e-2f47-4b8a-9e60-71c2d3f4a5b6")]
    client_id: String,
    /// Its secret; without it a new one is made.
    #[arg(long, env = "CLIENT_SECRET", hide_env_values = true)]
    client_secret: Option<String>,
    /// Redirect URI to register; may be repeated. Loopback ones need no registration.
    #[arg(long = "redirect-uri")]
    redirect_uris: Vec<String>,
    /// User to register; may be repeated. Others can be typed in on the sign-in page.
    #[arg(long = "user", default_values = ["ada@contoso.com", "grace@contoso.com"])]
    users: Vec<String>,
    /// Use every refresh token once; a second use revokes the sign-in.
    #[arg(long)]
    strict: bool,
    /// Ask on a page even when a known user is named by login_hint.
    #[arg(long)]
    ask: bool,
    /// Life of access tokens.
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    access_token_lifetime: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::IdentityProvider(arguments) => run(arguments).await,
    }
}

async fn run(arguments: IdentityProviderArguments) -> anyhow::Result<()> {
    let provider = IdentityProvider::start(options(&arguments)).await?;
    let secret = arguments.client_secret.clone().unwrap_or_else(new_secret);
    let client = Client::confidential(&arguments.client_id, &secret);
    let client = arguments.redirect_uris.iter().fold(client, |client, uri| client.redirect_uri(uri));
    provider.register_client(client);
    provider.register_users(arguments.users.iter().map(|name| User::new(&arguments.tenant, name, name)));
    // The secret of a development app is what this command exists to tell.
    writeln!(
        std::io::stdout(),
        "base URL       {}\nauthority      {}\ntenant id      {}\nclient id      {}\nclient secret  {secret}\nusers          {}",
        provider.base_url(),
        provider.authority(&arguments.tenant),
        arguments.tenant,
        arguments.client_id,
        arguments.users.join(", "),
    )?;
    tokio::signal::ctrl_c().await.context("no signal can be waited for")
}

fn options(arguments: &IdentityProviderArguments) -> Options {
    Options {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)),
        rotation: if arguments.strict { Rotation::Strict } else { Rotation::Lenient },
        auto_approve: !arguments.ask,
        access_token_lifetime: Duration::from_secs(arguments.access_token_lifetime),
        ..Options::default()
    }
}

fn new_secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}
