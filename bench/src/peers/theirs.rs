//! One peer in one mode, on a stream, and whether its index is the fold of it.

use std::path::Path;

use common::event::ActivityEvent;
use common::index::fold;

use super::index;
use super::process::{self, Outcome, Task};
use super::verdict::{Verdict, compare};
use super::who::{Mode, Peer};
use crate::floor::{PlainStream, declare_stream, publish_one_by_one};
use crate::space::Space;

/// A stream of one message per event, and what is in it.
pub(super) struct Prefilled<'a> {
    pub(super) stream: PlainStream,
    pub(super) events: &'a [ActivityEvent],
}

impl<'a> Prefilled<'a> {
    pub(super) async fn publish(space: &Space, name: &str, events: &'a [ActivityEvent]) -> anyhow::Result<Self> {
        let stream = declare_stream(&space.amqp_url(), name).await?;
        publish_one_by_one(&stream, events).await?;
        Ok(Self { stream, events })
    }
}

/// One of those that are here.
#[derive(Clone, Copy)]
pub(super) struct Theirs<'a> {
    pub(super) space: &'a Space,
    /// Where its packages are.
    pub(super) folder: &'a Path,
    pub(super) peer: Peer,
    pub(super) mode: Mode,
}

impl Theirs<'_> {
    /// Gives events per second, and whether they were all applied, and rightly.
    pub(super) async fn run(&self, log: &Prefilled<'_>) -> anyhow::Result<(f64, Verdict)> {
        let (prefix, amqp_url) = (self.space.prefix(), self.space.amqp_url());
        let outcome = process::run(self.task(log, &amqp_url, prefix.as_str())).await?;
        Ok((outcome.events_per_second, self.verdict(log, outcome, prefix.as_str()).await?))
    }

    /// The same, with a `kill -9` and a second start.
    pub(super) async fn run_killed_half_way(&self, log: &Prefilled<'_>) -> anyhow::Result<Verdict> {
        let (prefix, amqp_url) = (self.space.prefix(), self.space.amqp_url());
        let outcome = process::run_killed_half_way(self.task(log, &amqp_url, prefix.as_str())).await?;
        self.verdict(log, outcome, prefix.as_str()).await
    }

    fn task<'b>(&'b self, log: &'b Prefilled<'_>, amqp_url: &'b str, prefix: &'b str) -> Task<'b> {
        let Self { space, folder, peer, mode } = *self;
        let (redis_url, stream, events) = (space.redis_url.as_str(), log.stream.name.as_str(), log.events.len());
        Task { peer, mode, folder, amqp_url, redis_url, prefix, stream, events }
    }

    async fn verdict(&self, log: &Prefilled<'_>, outcome: Outcome, prefix: &str) -> anyhow::Result<Verdict> {
        if !outcome.is_done {
            return Ok(Verdict::CutOff { applied: outcome.applied, of: log.events.len() });
        }
        let kept = index::read(&self.space.pool, prefix, log.events).await?;
        Ok(compare(&fold(log.events), &kept))
    }
}
