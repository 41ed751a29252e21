//! Addresses of the shared servers, checked once per process.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use url::Url;

use crate::environment::variable;

const PATIENCE: Duration = Duration::from_secs(5);

/// The shared RabbitMQ's URL with its default vhost. Tests use a [`Vhost`](super::Vhost) of their own instead.
///
/// # Panics
/// When nothing listens there, or `TEST_AMQP_URL` is not a URL.
pub async fn amqp_url() -> Url {
    static CHECKED: OnceCell<Url> = OnceCell::const_new();
    let address = Address {
        server: "RabbitMQ",
        variable: "TEST_AMQP_URL",
        default: "amqp://guest:guest@127.0.0.1:5672/%2f",
        default_port: 5672,
    };
    CHECKED.get_or_init(|| address.checked()).await.clone()
}

/// The shared Redis's URL. Tests write under a [`KeyPrefix`](super::KeyPrefix) of their own.
///
/// # Panics
/// When nothing listens there, or `TEST_REDIS_URL` is not a URL.
pub async fn redis_url() -> Url {
    static CHECKED: OnceCell<Url> = OnceCell::const_new();
    let address =
        Address { server: "Redis", variable: "TEST_REDIS_URL", default: "redis://127.0.0.1:6379", default_port: 6379 };
    CHECKED.get_or_init(|| address.checked()).await.clone()
}

struct Address {
    server: &'static str,
    variable: &'static str,
    default: &'static str,
    default_port: u16,
}

impl Address {
    async fn checked(&self) -> Url {
        let url = self.url();
        let host = url.host_str().unwrap_or("127.0.0.1");
        let port = url.port().unwrap_or(self.default_port);
        if let Err(reason) = reach(host, port).await {
            panic!(
                "no {} answers at {host}:{port} ({reason}): start one there, or set {} (this test needs it)",
                self.server, self.variable
            );
        }
        url
    }

    fn url(&self) -> Url {
        let text = variable(self.variable).unwrap_or_else(|| self.default.to_owned());
        match text.parse() {
            Ok(url) => url,
            Err(error) => panic!("{} is not a URL: {error}", self.variable),
        }
    }
}

async fn reach(host: &str, port: u16) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

/// Says something to a loopback port, and returns the first bytes of the answer.
pub(super) async fn say(port: u16, words: &[u8]) -> Option<Vec<u8>> {
    let talk = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(words).await?;
        let mut answer = vec![0; 64];
        let length = stream.read(&mut answer).await?;
        answer.truncate(length);
        std::io::Result::Ok(answer)
    };
    tokio::time::timeout(PATIENCE, talk).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "no Redis answers at 127.0.0.1:1")]
    async fn a_server_that_does_not_answer_fails_the_test() {
        let address = Address {
            server: "Redis",
            variable: "TEST_ADDRESS_THAT_NOBODY_SETS",
            default: "redis://127.0.0.1:1",
            default_port: 6379,
        };
        address.checked().await;
    }
}
