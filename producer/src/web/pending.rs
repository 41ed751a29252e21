//! Sign-ins that wait for their browser to come back.

use std::fmt;

use common::identity::PendingSignIn;
use jiff::Timestamp;

use super::expiring::{Bounds, Expiring};
use super::return_to::ReturnTo;
use super::token::RandomToken;

/// One sign-in under way. It serves once.
#[derive(Clone)]
pub(super) struct Begun {
    pub(super) pending: PendingSignIn,
    pub(super) return_to: ReturnTo,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").field("return_to", &self.return_to).finish_non_exhaustive()
    }
}

/// The sign-ins under way, each found by its browser and its `state` together.
pub(super) struct PendingSignIns(Expiring<Begun>);

impl PendingSignIns {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self(Expiring::new(bounds))
    }

    pub(super) fn keep(&self, browser: &RandomToken, begun: Begun, now: Timestamp) {
        self.0.insert(browser.digest_with(begun.pending.state()), begun, now);
    }

    /// The sign-in that this browser began with this `state`; it is gone then.
    pub(super) fn take(&self, browser: &RandomToken, state: &str, now: Timestamp) -> Option<Begun> {
        self.0.take(&browser.digest_with(state), now)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
