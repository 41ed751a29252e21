//! What an error of Redis means for the caller.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use crate::backend::{BackendError, Trouble};

pub(super) fn redis_error(address: &str, error: RedisError) -> BackendError {
    let (trouble, message) = meaning(&error);
    BackendError::new(trouble, address, message, error)
}

fn meaning(error: &RedisError) -> (Trouble, &'static str) {
    use Trouble::{Corrupt, Refused, Unavailable};
    match error.code() {
        Some("NOAUTH" | "WRONGPASS") => return (Refused, "Redis refused the user or password; check the URL"),
        Some("NOPERM") => return (Refused, "the Redis user may not do this; check its ACL"),
        Some("DROPPED") => return (Refused, "this generation of the index was deleted; another one is live"),
        Some("MOVED" | "ASK") => {
            return (
                Unavailable,
                "the cluster moves its slots about; if this is one server's \
             address, use redis-cluster:// for the nodes of a cluster",
            );
        }
        Some("CLUSTERDOWN") => return (Unavailable, "a part of the cluster has no primary now"),
        Some("CROSSSLOT") => return (Refused, "what is written together is not in one slot of the cluster"),
        Some("OOM") => return (Unavailable, "Redis is out of memory; raise maxmemory or free some"),
        Some("MISCONF") => return (Unavailable, "Redis cannot write to its disk and refuses writes; look at its log"),
        Some("WRONGTYPE") => return (Corrupt, "a key holds another type; another program uses this prefix"),
        Some("LOADING" | "READONLY" | "MASTERDOWN" | "TRYAGAIN" | "NOREPLICAS" | "BUSY") => {
            return (Unavailable, "Redis cannot take this command now");
        }
        _ => {}
    }
    if error.to_string().contains("cluster support disabled") {
        return (Refused, "this server is no node of a cluster; use redis:// for it");
    }
    if let Some(tls) = tls_error(error) {
        return (Refused, tls_meaning(tls));
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => (Refused, "Redis refused the user or password; check the URL"),
        ErrorKind::InvalidClientConfig => (Refused, "the Redis URL or the TLS files are wrong"),
        ErrorKind::ClusterConnectionNotFound => (Unavailable, "no node of the cluster answers"),
        _ if error.is_timeout() => (Unavailable, "Redis did not answer in time"),
        _ if error.is_connection_refusal() => {
            (Unavailable, "nothing answers there; is Redis up, and the address right?")
        }
        _ if error.is_io_error() => (Unavailable, "the connection failed"),
        _ => (Unavailable, "Redis failed"),
    }
}

/// The TLS error among the causes, if that is what it was.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return tls_error(&**shared);
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
    let tls = wrapped.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref());
    tls.or_else(|| tls_error(error.source()?))
}

fn tls_meaning(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(_) => {
            "the server's certificate is not trusted; set the CA's file, and use the name the certificate is for"
        }
        rustls::Error::AlertReceived(_) => {
            "the server refused the TLS handshake; it may want a client certificate of a CA it knows"
        }
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS on this port",
        _ => "TLS failed; check the TLS files",
    }
}
