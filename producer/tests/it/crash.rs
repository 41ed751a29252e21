//! `kill -9`, of the web side between any two steps of a write and of the store itself: no blob without its event.
//!
//! The web side is `producer simulate`, which writes each user's cache once through the real adapter. So whatever
//! moment it dies at, the keys of the blobs and the subjects of the events have to be the same.

mod redis;
mod sqlite;

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use common::event::decode_draft;

/// How many times each store sees the web side die at a moment of chance.
const KILLS: u64 = 32;

/// What a store holds: the keys of its blobs, and the subjects of the events in its outbox.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    blobs: BTreeSet<String>,
    events: BTreeSet<String>,
}

impl Held {
    fn subject(draft: &[u8]) -> String {
        decode_draft(draft).unwrap().subject.as_str().to_owned()
    }

    #[track_caller]
    fn assert_whole(&self, when: &str) {
        let without_event: Vec<&String> = self.blobs.difference(&self.events).collect();
        let without_blob: Vec<&String> = self.events.difference(&self.blobs).collect();
        assert!(without_event.is_empty(), "{when}: blobs without their event: {without_event:?}");
        assert!(without_blob.is_empty(), "{when}: events without their blob: {without_blob:?}");
    }
}

/// A web app that signs users in as fast as it can. It is killed when it is dropped.
struct WebSide(Child);

impl WebSide {
    /// Another seed is other users.
    fn start(cache_url: &str, seed: u64, concurrency: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_producer"));
        command.args(["simulate", "--users", "1000000", "--json"]);
        command.args(["--seed", &seed.to_string(), "--concurrency", &concurrency.to_string()]);
        command.env_clear().env("TOKEN_CACHE_URL", cache_url);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn kill9(mut self) {
        self.assert_alive();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn assert_alive(&mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "the web side ended by itself");
    }
}

impl Drop for WebSide {
    fn drop(&mut self) {
        // It is gone already after kill9.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
