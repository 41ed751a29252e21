//! What an error of lapin or of the broker means for the caller, in words without the URL's user and password.

use std::io;

use lapin::ErrorKind;

use crate::backend::{BackendError, ServerUrl, Trouble};
use crate::log::LogError;

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// The cause beneath a [`BackendError`]: lapin's text, cut before the name of the user.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

impl Cause {
    fn of(error: &lapin::Error) -> Self {
        let text = match error.kind() {
            ErrorKind::ProtocolError(said) => said.get_message().to_string(),
            _ => error.to_string(),
        };
        Self(without_user(&text).to_owned())
    }
}

fn without_user(text: &str) -> &str {
    [" for user ", " by user ", " user '"].iter().fold(text, |text, mark| text.split(mark).next().unwrap_or(text))
}

/// What a broker says of things that are there and not up: while it starts, or while a node of its cluster is down.
const NOT_UP: [&str; 4] = ["does not have a running", "down or inaccessible", "is stopped by supervisor", "' is down"];

/// The number the broker closed with, where it says what the error means.
fn telling_code(error: &lapin::Error) -> Option<u16> {
    let ErrorKind::ProtocolError(said) = error.kind() else { return None };
    let text = said.get_message().to_string();
    (!NOT_UP.iter().any(|mark| text.contains(mark))).then(|| said.get_id())
}

/// An error while connecting.
pub(super) fn connecting(address: &ServerUrl, vhost: &str, error: &lapin::Error) -> BackendError {
    let (trouble, message) = match telling_code(error) {
        Some(ACCESS_REFUSED) => (Trouble::Refused, "RabbitMQ refused the user or password; check the URL".to_owned()),
        Some(NOT_ALLOWED) => (
            Trouble::Refused,
            format!("RabbitMQ has no vhost `{vhost}`, or this user may not use it; check the path of the URL"),
        ),
        _ if address.is_tls() && was_cut(error) => (Trouble::Unavailable, CUT_UNDER_TLS.to_owned()),
        _ => transport(error),
    };
    BackendError::new(trouble, address, message, Cause::of(error))
}

/// A server that refuses a client's certificate says so, and its word may be lost with the connection.
const CUT_UNDER_TLS: &str = "the connection was cut; where that is so from the start, the server may want a client \
                             certificate of a CA it knows";

fn was_cut(error: &lapin::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        ErrorKind::IOError(error) => matches!(error.kind(), ConnectionAborted | ConnectionReset | UnexpectedEof),
        _ => false,
    }
}

/// An error while doing something (`doing`: "read the stream …") with something (`what`: "the stream …").
pub(super) fn operating(address: &str, what: &str, doing: &str, error: &lapin::Error) -> LogError {
    let (log, what) = (address.to_owned(), what.to_owned());
    match telling_code(error) {
        Some(NOT_FOUND) => LogError::Missing { log, what },
        Some(PRECONDITION_FAILED) => LogError::Mismatch { log, what, difference: difference(&Cause::of(error).0) },
        Some(ACCESS_REFUSED) => {
            let message = format!("the RabbitMQ user may not {doing}; check its permissions");
            BackendError::new(Trouble::Refused, address, message, Cause::of(error)).into()
        }
        _ => {
            let (trouble, message) = transport(error);
            BackendError::new(trouble, address, message, Cause::of(error)).into()
        }
    }
}

/// Whether something is another connection's alone.
pub(super) fn is_locked(error: &lapin::Error) -> bool {
    telling_code(error) == Some(RESOURCE_LOCKED)
}

/// Something did not happen in time.
pub(super) fn late(address: &str, doing: &str) -> BackendError {
    BackendError::plain(Trouble::Unavailable, address, format!("RabbitMQ did not {doing} in time"))
}

/// `PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost 'v': received … but current is …`.
fn difference(said: &str) -> String {
    let said = said.trim_start_matches("PRECONDITION_FAILED - ");
    let advice = if said.contains("'x-max-age'") || said.contains("segment-size") {
        "declare it with the setting it has, or delete it, and its events with it"
    } else {
        "look at what it is, then delete it or use another vhost"
    };
    format!("{said}; {advice}")
}

fn transport(error: &lapin::Error) -> (Trouble, String) {
    use Trouble::{Refused, Unavailable};
    let (trouble, message) = match error.kind() {
        ErrorKind::IOError(error) => return io_trouble(error),
        ErrorKind::InvalidProtocolVersion(_) | ErrorKind::ParsingError(_) => {
            (Refused, "what answers there does not speak AMQP 0-9-1; check the port, and amqp:// against amqps://")
        }
        ErrorKind::MissingHeartbeatError => (Unavailable, "RabbitMQ has gone silent"),
        ErrorKind::ProtocolError(_) => (Unavailable, "RabbitMQ ended the connection or the channel"),
        ErrorKind::ChannelsLimitReached => (Unavailable, "the connection has no channel left"),
        _ => (Unavailable, "the connection to RabbitMQ failed"),
    };
    (trouble, message.to_owned())
}

fn io_trouble(error: &io::Error) -> (Trouble, String) {
    use Trouble::{Refused, Unavailable};
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls_trouble(tls);
    }
    let (trouble, message) = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            (Unavailable, "nothing answers there; is RabbitMQ up, and the address right?")
        }
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            (Unavailable, "the connection was cut; where that is so from the start, check amqp:// against amqps://")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            (Refused, "the connection cannot be made with these settings; check the URL and the TLS files")
        }
        _ if error.to_string().contains("lookup address") => {
            (Unavailable, "the host's name cannot be resolved; check the address")
        }
        _ => (Unavailable, "the connection to RabbitMQ failed"),
    };
    (trouble, message.to_owned())
}

fn tls_trouble(error: &rustls::Error) -> (Trouble, String) {
    let message = match error {
        rustls::Error::InvalidCertificate(_) => {
            "the server's certificate is not trusted; set the CA's file, and use the name the certificate is for"
        }
        rustls::Error::AlertReceived(_) => {
            "the server refused the TLS handshake; it may want a client certificate of a CA it knows"
        }
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS on this port; RabbitMQ's is 5671",
        _ => "TLS failed; check the TLS files",
    };
    (Trouble::Refused, message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_user_is_cut_from_what_the_broker_says() {
        let said = "ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'bob'";
        assert_eq!(without_user(said), "ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused");
        assert_eq!(without_user("NOT_ALLOWED - vhost x not found"), "NOT_ALLOWED - vhost x not found");
    }
}
