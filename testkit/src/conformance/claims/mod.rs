//! The behaviour of [`Claims`].
//!
//! Every behaviour is a function that takes claims on an empty index. [`run_all`] runs each on fresh ones; each panics
//! with what it missed. The times are the server's, so a behaviour waits for what it expects, with leases that are short.

mod holds;
mod lists;
mod sample;
mod schedules;
mod swaps;
mod taking;
mod tenants;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use common::index::{ActivityStore, Claims, IndexGenerations};
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::task::JoinSet;

pub use holds::*;
pub use lists::*;
pub use schedules::*;
pub use swaps::*;
pub use taking::*;
pub use tenants::*;

/// How long a behaviour may take to show itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Claims on an empty index.
pub struct TestClaims {
    /// The claims.
    pub claims: Arc<dyn Claims>,
    /// The same by another handle, as another process would have it: nothing is shared but what is stored.
    pub other: Arc<dyn Claims>,
    /// The index.
    pub store: Arc<dyn ActivityStore>,
    /// Its generations.
    pub generations: Arc<dyn IndexGenerations>,
    /// What has to live as long as the index, such as the folder of its file.
    pub keeps: Box<dyn Any + Send + Sync>,
}

impl TestClaims {
    /// Two handles on one index, which lives as long as `keeps`.
    pub fn new<I>(one: I, other: I, keeps: impl Any + Send + Sync) -> Self
    where
        I: Claims + ActivityStore + IndexGenerations + Clone + 'static,
    {
        Self {
            claims: Arc::new(one.clone()),
            other: Arc::new(other),
            store: Arc::new(one.clone()),
            generations: Arc::new(one),
            keeps: Box::new(keeps),
        }
    }
}

impl fmt::Debug for TestClaims {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestClaims").field("claims", &self.claims).finish_non_exhaustive()
    }
}

type Behaviour = for<'a> fn(&'a TestClaims) -> BoxFuture<'a, ()>;

macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        /// Every behaviour, by name.
        const BEHAVIOURS: &[(&str, Behaviour)] = &[$((stringify!($name), |index| Box::pin($name(index)))),*];
    };
}

behaviours![
    nothing_is_claimed_of_an_empty_index,
    what_is_due_is_claimed_and_says_why,
    the_most_overdue_is_claimed_first,
    no_account_is_two_workers_at_a_time,
    who_is_not_due_is_not_claimed,
    a_filter_takes_its_tenant_and_its_app_alone,
    an_app_of_few_accounts_is_served_behind_another_of_many,
    limits_and_leases_out_of_bounds_are_refused,
    a_lease_that_ended_comes_back_by_itself,
    a_lease_that_ended_is_lost_though_nobody_took_it,
    a_stale_claim_changes_nothing,
    a_renewed_claim_is_held_for_another_lease,
    what_is_released_is_claimed_again_in_its_place,
    a_settled_account_waits_for_the_index,
    an_account_is_not_due_while_its_worker_knows_better,
    a_failed_account_backs_off_and_its_attempts_are_counted,
    a_failed_account_waits_as_long_as_the_provider_says,
    what_is_gone_is_not_claimed_again,
    a_hold_stays_when_the_account_is_written_again,
    a_hold_can_be_forgotten_and_a_claim_cannot,
    what_is_forgotten_is_as_if_it_had_never_been_claimed,
    a_job_makes_an_account_due,
    why_a_job_asks_is_told,
    a_schedule_that_is_taken_back_is_none,
    a_schedule_waits_with_the_account_for_its_user,
    a_schedule_of_nobody_is_dropped,
    small_tenants_are_served_in_turn,
    a_paused_tenant_is_left_alone_and_the_others_are_served,
    claims_are_given_out_at_the_rate_that_is_asked_for,
    leases_outlast_a_swap_of_generations,
    claims_around_swaps_are_never_doubled,
    due_accounts_are_listed_once_whatever_the_page_size,
    due_accounts_are_narrowed_by_tenant_and_client,
    who_holds_a_due_account_is_told,
    a_page_of_due_accounts_goes_on_while_they_change,
];

/// What only claims that are kept in one piece have: one order of all accounts, one turn of all tenants, one rate. Where
/// they are in several shards, each keeps to these for itself.
const IN_ONE_PIECE: &[&str] = &[
    "the_most_overdue_is_claimed_first",
    "small_tenants_are_served_in_turn",
    "claims_are_given_out_at_the_rate_that_is_asked_for",
    "leases_outlast_a_swap_of_generations",
    "who_holds_a_due_account_is_told",
];

/// How many behaviours run side by side.
const AT_ONCE: usize = 4;

/// Runs every behaviour, each on claims that `make` makes.
///
/// # Panics
/// When a behaviour is missed; the panic's text begins with its name.
pub async fn run_all<F, Made>(make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = TestClaims>,
{
    run(make, |_| true).await;
}

/// The same for claims that are kept in several shards, without the behaviours that count on one order of all.
///
/// # Panics
/// As [`run_all`].
pub async fn run_all_in_shards<F, Made>(make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = TestClaims>,
{
    run(make, |name| !IN_ONE_PIECE.contains(&name)).await;
}

async fn run<F, Made>(make: F, is_expected: fn(&str) -> bool)
where
    F: Fn() -> Made,
    Made: Future<Output = TestClaims>,
{
    let mut running = JoinSet::new();
    let mut missed = Vec::new();
    for (name, behaviour) in BEHAVIOURS.iter().filter(|(name, _)| is_expected(name)) {
        if running.len() == AT_ONCE {
            missed.extend(finish_one(&mut running).await);
        }
        let index = make().await;
        running.spawn(async move {
            let kept = AssertUnwindSafe(behaviour(&index)).catch_unwind().await;
            (*name, kept.is_ok())
        });
    }
    while !running.is_empty() {
        missed.extend(finish_one(&mut running).await);
    }
    assert!(missed.is_empty(), "{}: see the panics above", missed.join(", "));
}

/// The behaviour that ended, if it was missed.
async fn finish_one(running: &mut JoinSet<(&'static str, bool)>) -> Option<&'static str> {
    let (name, is_kept) = running.join_next().await?.expect("a behaviour ends");
    (!is_kept).then_some(name)
}
