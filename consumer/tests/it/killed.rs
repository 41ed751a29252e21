//! Projector, rebuild and broker are killed at random moments, again and again, while events come.
//!
//! `KILL_ROUNDS=50 scripts/test --test it killed::` runs as many rounds as are asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::index::IndexGenerations;
use common::log::{ActivityLog, RabbitMqLog, RabbitMqOptions, TopologyOptions};
use consumer::verify::{Verify, VerifySettings};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use testkit::servers::{KeyPrefix, PrivateRabbitMq};
use tokio::process::Child;

use crate::program::Servers;
use crate::rig::{PATIENCE, Rig, random_events, redis_index};

#[expect(clippy::disallowed_methods, reason = "how long this goes on is told by the environment")]
fn rounds(usual: u64) -> u64 {
    std::env::var("KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// What is killed, and the checkpoints that were seen.
struct Scene {
    log: Arc<dyn ActivityLog>,
    generations: Arc<dyn IndexGenerations>,
    servers: Servers,
    checkpoints: BTreeMap<(u32, u32), u64>,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_index_is_the_fold_whoever_is_killed() {
    let rig = Rig::embedded(2).await;
    let servers = Servers { log: Some(rig.url()), index: Some(rig.url()), ..Servers::default() };
    let (log, generations) = (rig.log.clone(), rig.generations.clone());
    let scene = Scene { log, generations, servers, checkpoints: BTreeMap::new() };
    scene.play(rounds(6), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_on_servers_is_the_fold_whoever_is_killed() {
    let broker = PrivateRabbitMq::start(Default::default()).await;
    let prefix = KeyPrefix::fresh().await;
    let topology = TopologyOptions { partitions: 2, ..TopologyOptions::default() };
    let options = RabbitMqOptions { topology, ..RabbitMqOptions::new(broker.url().parse().unwrap()) };
    let log = RabbitMqLog::connect(&options).unwrap();
    log.declare().await.unwrap();
    broker.remember_what_was_declared().await;
    let servers = Servers {
        log: Some(broker.url()),
        index: Some(prefix.redis_url().to_string()),
        index_prefix: Some(prefix.as_str().to_owned()),
    };
    let generations = redis_index(prefix.redis_url(), prefix.as_str()).await;
    let scene = Scene { log: Arc::new(log), generations, servers, checkpoints: BTreeMap::new() };
    scene.play(rounds(4), Some(broker)).await;
}

impl Scene {
    async fn play(mut self, rounds: u64, mut broker: Option<PrivateRabbitMq>) {
        let mut random = StdRng::seed_from_u64(160);
        for round in 0..rounds {
            let mut projector = self.servers.start(&["project"]);
            let mut rebuild = self.servers.start(&["rebuild", "--accounts-at-once", "20", "--json"]);
            self.append(random.random_range(5..40), round).await;
            let mark = self.end().await;
            // A random moment, by how far the index has come.
            let moment = random.random_range(0..=mark);
            testkit::wait_until(PATIENCE, || async { self.applied().await >= moment }).await;
            match random.random_range(0..4) {
                0 => kill(&mut projector).await,
                1 => kill(&mut rebuild).await,
                2 => drop(tokio::join!(kill(&mut projector), kill(&mut rebuild))),
                _ => {
                    if let Some(broker) = &mut broker {
                        broker.kill9();
                        broker.start_again().await;
                    }
                }
            }
            self.look().await;
            self.append(random.random_range(5..20), 1_000 + round).await;
            kill(&mut projector).await;
            kill(&mut rebuild).await;
            self.look().await;
        }
        self.end_well().await;
    }

    async fn append(&self, messages: u64, seed: u64) {
        for (message, events) in random_events(messages as usize * 5, 60, seed).chunks(5).enumerate() {
            let append = async || self.log.append(message as u32 % 2, events).await.is_ok();
            testkit::wait_until(PATIENCE, append).await;
        }
    }

    /// The messages there are.
    async fn end(&self) -> u64 {
        let bounds = async || {
            let (one, other) = (self.log.bounds(0).await.ok()?, self.log.bounds(1).await.ok()?);
            Some(one.next + other.next)
        };
        testkit::wait_for(PATIENCE, bounds).await
    }

    /// The messages some generation has applied, the furthest one.
    async fn applied(&self) -> u64 {
        let generations = self.generations.generations().await.unwrap();
        let building = generations.building.map(|building| building.number);
        let mut furthest = 0;
        for number in building.into_iter().chain([generations.live]) {
            furthest = furthest.max(self.offset(number, 0).await + self.offset(number, 1).await);
        }
        furthest
    }

    async fn offset(&self, number: u32, partition: u32) -> u64 {
        let checkpoint = self.generations.generation(number).checkpoint(partition).await.unwrap();
        checkpoint.map_or(0, |checkpoint| checkpoint.next_offset)
    }

    /// No checkpoint of a generation that is still there has stepped back.
    async fn look(&mut self) {
        let generations = self.generations.generations().await.unwrap();
        for number in [Some(generations.live), generations.retired].into_iter().flatten() {
            for partition in 0..2 {
                let offset = self.offset(number, partition).await;
                let before = self.checkpoints.insert((number, partition), offset).unwrap_or_default();
                assert!(offset >= before, "generation {number}, partition {partition}: {before}, then {offset}");
            }
        }
    }

    async fn end_well(self) {
        let mut projector = self.servers.start(&["project"]);
        let output = self.servers.run(&["rebuild", "--json"]).await;
        assert!(output.status.success(), "{}", crate::program::text(&output.stderr));
        let end = self.end().await;
        let is_through = || async {
            let live = self.generations.generations().await.unwrap().live;
            self.offset(live, 0).await + self.offset(live, 1).await >= end
        };
        testkit::wait_until(PATIENCE, is_through).await;
        kill(&mut projector).await;
        let verify = Verify::new(self.log.clone(), self.generations.clone(), VerifySettings::default());
        let report = verify.run(&|_| {}).await.unwrap();
        assert_eq!((report.found(), report.checked), (0, 60), "{report:?}");
    }
}

async fn kill(child: &mut Child) {
    // One that has ended by itself cannot be killed, and need not.
    child.kill().await.ok();
}
