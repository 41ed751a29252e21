//! What the API is told.

use std::num::NonZeroU32;
use std::time::Duration;

use common::event::{EventSource, UsernamePolicy};
use common::http_server::HttpBounds;
use common::identity::SilentOptions;
use common::index::ClaimRates;

/// How the API behaves.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// How the index has usernames written.
    pub usernames: UsernamePolicy,
    /// The `source` of the events it emits.
    pub source: EventSource,
    /// How many requests a second each token is good for; a second's worth may come at once.
    pub rate: NonZeroU32,
    /// The most requests under way at once; one more is sent away.
    pub concurrency: usize,
    /// How long one request may take.
    pub request_time: Duration,
    /// How many accounts are claimed in a time, by all workers together.
    pub claim_rates: ClaimRates,
    /// How long a token that is handed out has still to be valid: at least the horizon of what is due.
    pub min_valid: Duration,
    /// What the server takes upon itself.
    pub http: HttpBounds,
}

impl ApiSettings {
    /// The usual bounds: 100 requests a second for each token, 256 at once, 30 seconds each.
    pub fn new(usernames: UsernamePolicy, source: EventSource) -> Self {
        Self {
            usernames,
            source,
            rate: const { NonZeroU32::new(100).unwrap() },
            concurrency: 256,
            request_time: Duration::from_secs(30),
            claim_rates: ClaimRates::default(),
            min_valid: SilentOptions::default().min_remaining,
            http: HttpBounds::default(),
        }
    }
}
