//! The behaviour of an [`ActivityStore`].
//!
//! Every behaviour is a function that takes an empty index. [`run_all`] runs each on a fresh one; each panics with what
//! it missed. What is right is always the pure fold of the same events, [`common::index::fold`].

mod checkpoints;
mod fold;
mod generations;
mod lists;
mod order;
mod paging;
mod sample;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use common::account::{CacheKey, TenantId, Username};
use common::event::ActivityEvent;
use common::index::{
    AccountActivity, ActivityStore, Counts, Cursor, Filter, IndexGenerations, ListRequest, Order, Page, Query,
    StateCounts, fold,
};
use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use tokio::task::JoinSet;

pub use checkpoints::*;
pub use fold::*;
pub use generations::*;
pub use lists::*;
pub use order::*;
pub use paging::*;
pub use sample::random_events;

/// An empty index under test.
pub struct TestIndex {
    /// The index.
    pub store: Arc<dyn ActivityStore>,
    /// The same index by another handle, as another process would have it: nothing is shared but what is stored.
    pub other: Arc<dyn ActivityStore>,
    /// Its generations.
    pub generations: Arc<dyn IndexGenerations>,
    /// What has to live as long as the index, such as the folder of its file.
    pub keeps: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for TestIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestIndex").field("store", &self.store).finish_non_exhaustive()
    }
}

type Behaviour = for<'a> fn(&'a TestIndex) -> BoxFuture<'a, ()>;

macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        /// Every behaviour, by name.
        const BEHAVIOURS: &[(&str, Behaviour)] = &[$((stringify!($name), |index| Box::pin($name(index)))),*];
    };
}

behaviours![
    an_empty_index_knows_nothing,
    what_a_user_activity_says_comes_back_as_it_was,
    the_newest_details_win_in_whatever_order_they_come,
    at_one_time_the_greater_id_wins,
    an_id_used_twice_gives_one_index_in_any_order,
    a_hydration_renews_the_details_and_lists_nobody,
    a_hydration_never_brings_a_removed_account_back,
    a_failure_is_in_force_while_it_is_the_newest,
    what_recovers_by_itself_backs_off_and_the_rest_is_parked,
    a_removed_account_leaves_every_list,
    the_user_comes_back_after_a_removal,
    applying_again_changes_nothing,
    an_empty_batch_is_nothing,
    several_changes_of_one_account_in_a_batch_are_joined,
    any_order_chunks_and_duplicates_give_the_fold,
    appliers_side_by_side_give_the_fold,
    counts_are_those_of_the_fold_after_every_change,
    an_account_that_changes_tenant_and_name_moves,
    every_account_is_listed_once_whatever_the_page_size,
    cursors_stay_valid_while_the_index_changes,
    a_filter_that_few_pass_still_comes_to_an_end,
    rare_accounts_fill_their_pages_whatever_is_beside_them,
    accounts_of_many_tenants_are_one_list,
    thousands_of_accounts_at_one_time_are_paged,
    tenants_that_are_active_one_after_the_other_are_one_list,
    a_list_has_who_stays_while_others_come_and_go,
    an_account_that_changes_client_and_state_moves,
    a_limit_of_none_or_too_many_is_refused,
    a_text_that_is_no_cursor_is_refused,
    lists_are_narrowed_by_tenant_client_and_state,
    times_are_bounds_that_include_their_own_microsecond,
    times_far_away_are_listed_in_order,
    usernames_are_found_whatever_their_case,
    thousands_of_accounts_of_one_username_are_paged,
    texts_of_every_shape_are_kept_apart,
    a_checkpoint_has_the_time_of_its_newest_event,
    a_checkpoint_remembers_the_message_before_it,
    checkpoints_never_go_backwards,
    checkpoints_stored_side_by_side_end_at_the_highest,
    a_checkpoint_that_is_forgotten_is_none,
    a_generation_that_is_built_is_not_seen,
    what_is_applied_around_a_swap_is_in_the_live_generation,
    a_pinned_generation_stays_the_same_when_another_one_becomes_live,
    a_change_is_made_only_of_what_was_read,
    a_deleted_generation_is_gone_and_refuses_writes,
    cursors_stay_valid_across_a_swap,
    a_scan_has_every_account,
    a_replacement_puts_exactly_what_it_is_given,
];

/// How many behaviours run side by side.
const AT_ONCE: usize = 4;

/// Runs every behaviour, each on an index that `make` makes.
///
/// # Panics
/// When a behaviour is missed; the panic's text begins with its name.
pub async fn run_all<F, Made>(make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = TestIndex>,
{
    let mut running = JoinSet::new();
    for (name, behaviour) in BEHAVIOURS {
        if running.len() == AT_ONCE {
            finish_one(&mut running).await;
        }
        let index = make().await;
        running.spawn(async move {
            let kept = AssertUnwindSafe(behaviour(&index)).catch_unwind().await;
            (*name, kept)
        });
    }
    while !running.is_empty() {
        finish_one(&mut running).await;
    }
}

async fn finish_one(running: &mut JoinSet<(&'static str, std::thread::Result<()>)>) {
    match running.join_next().await {
        None | Some(Ok((_, Ok(())))) => {}
        Some(Ok((name, Err(_)))) => panic!("{name}: see the panic above"),
        Some(Err(error)) => panic!("a behaviour did not end: {error}"),
    }
}

/// Applies what `events` say, as the projector does.
async fn apply(store: &dyn ActivityStore, events: &[ActivityEvent]) {
    let changes: Vec<AccountActivity> = fold(events).into_values().collect();
    store.apply(&changes).await.expect("changes are applied");
}

/// Panics unless the index is, in every way that can be asked for, [`fold`] of `events`.
///
/// # Panics
/// With the first difference, and the caller's place.
#[track_caller]
pub fn assert_is_fold_of<'a>(
    store: &'a dyn ActivityStore,
    events: &'a [ActivityEvent],
) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let fold = fold(events);
        check_records(store, &fold, caller).await;
        check_counts(store, &fold, caller).await;
        for query in queries(&fold) {
            check_list(store, &fold, &query, &Filter::default(), 10_000).await;
        }
    }
}

type Place = &'static std::panic::Location<'static>;

async fn check_records(store: &dyn ActivityStore, fold: &HashMap<CacheKey, AccountActivity>, caller: Place) {
    for (key, account) in fold {
        let stored = store.get(key).await.expect("an answer");
        assert_eq!(stored.as_ref(), Some(account), "{key} is as the fold has it, at {caller}");
    }
}

async fn check_counts(store: &dyn ActivityStore, fold: &HashMap<CacheKey, AccountActivity>, caller: Place) {
    let counts = store.counts(None).await.expect("counts");
    assert_eq!(counts, counts_of(fold.values()), "counts of all, at {caller}");
    for tenant in tenants(fold) {
        let counts = store.counts(Some(tenant)).await.expect("counts");
        let expected = counts_of(fold.values().filter(|account| account.tenant_id() == Some(tenant)));
        assert_eq!(counts, expected, "counts of tenant {tenant}, at {caller}");
    }
}

fn tenants(fold: &HashMap<CacheKey, AccountActivity>) -> impl Iterator<Item = &TenantId> {
    let mut tenants: Vec<&TenantId> = fold.values().filter_map(AccountActivity::tenant_id).collect();
    tenants.sort_unstable();
    tenants.dedup();
    tenants.into_iter()
}

/// The two lists of all accounts, and one of each username.
fn queries(fold: &HashMap<CacheKey, AccountActivity>) -> Vec<Query> {
    let details = fold.values().filter_map(|account| account.details.as_ref());
    let mut names: Vec<&Username> = details.filter_map(|details| details.value.username.as_ref()).collect();
    names.sort_unstable();
    names.dedup();
    let by_name = names.into_iter().map(|name| Query::User(name.clone()));
    [Query::ActiveSince(Timestamp::MIN), Query::IdleSince(Timestamp::MAX)].into_iter().chain(by_name).collect()
}

fn counts_of<'a>(accounts: impl Iterator<Item = &'a AccountActivity>) -> Counts {
    use common::index::AccountState::{BackingOff, Parked, Ready, Removed};
    let mut by_state = StateCounts::default();
    for account in accounts {
        *match account.state() {
            Ready => &mut by_state.ready,
            BackingOff => &mut by_state.backing_off,
            Parked => &mut by_state.parked,
            Removed => &mut by_state.removed,
        } += 1;
    }
    Counts { listed: by_state.ready + by_state.backing_off + by_state.parked, by_state }
}

/// Panics unless the list, page by page, has each account of the fold that belongs to it, once and in order.
async fn check_list(
    store: &dyn ActivityStore,
    fold: &HashMap<CacheKey, AccountActivity>,
    query: &Query,
    filter: &Filter,
    limit: usize,
) {
    let listed = list_all(store, query, filter, limit).await;
    assert_in_order(&listed, query.order());
    let mut expected: Vec<&AccountActivity> =
        fold.values().filter(|account| query.asks_for(account) && filter.lets_through(account)).collect();
    let mut listed: Vec<&AccountActivity> = listed.iter().collect();
    let by_key = |a: &&AccountActivity, b: &&AccountActivity| a.cache_key.cmp(&b.cache_key);
    expected.sort_unstable_by(by_key);
    listed.sort_unstable_by(by_key);
    assert_eq!(listed, expected, "{query:?} narrowed by {filter:?}, {limit} to a page");
}

fn assert_in_order(accounts: &[AccountActivity], order: Order) {
    let in_order = accounts.is_sorted_by(|a, b| match order {
        Order::NewestFirst => a.last_activity >= b.last_activity,
        Order::OldestFirst => a.last_activity <= b.last_activity,
    });
    assert!(in_order, "{order:?}");
}

/// Follows the cursors to the end.
async fn list_all(store: &dyn ActivityStore, query: &Query, filter: &Filter, limit: usize) -> Vec<AccountActivity> {
    let mut accounts = Vec::new();
    let mut cursor = None;
    loop {
        let page = list(store, query, filter, limit, cursor).await;
        accounts.extend(page.accounts);
        cursor = page.next;
        if cursor.is_none() {
            return accounts;
        }
        assert!(accounts.len() < 100_000, "the list does not end");
    }
}

/// One page. The cursor goes through its text, as it does for users.
async fn list(store: &dyn ActivityStore, query: &Query, filter: &Filter, limit: usize, cursor: Option<Cursor>) -> Page {
    let cursor = cursor.map(|cursor| cursor.to_string().parse().expect("a cursor's text is a cursor"));
    let request = ListRequest { query: query.clone(), filter: filter.clone(), limit, cursor };
    let page = store.list(&request).await.expect("a page");
    assert!(page.accounts.len() <= limit, "a page has at most its limit");
    page
}
