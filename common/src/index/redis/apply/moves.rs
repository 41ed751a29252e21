//! What the writes of one call do beside the records: which accounts go into which lists and leave them, and the counts.

use std::hash::Hash;

use hashbrown::HashMap;

use crate::account::{ClientId, TenantId};
use crate::index::AccountState;
use crate::index::entry::IndexEntry;
use crate::index::redis::keys::{Keys, Listed, count_field};
use crate::index::redis::layout::{Layout, Undecided};
use crate::index::redis::shards::Member;

/// A list of the shard. Tenants and apps stand for themselves by their numbers in this call, so that each account costs no
/// text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ListId {
    /// By when they are due.
    Due(Option<usize>),
    OfTenant(Listed, usize),
    OfOthers(Listed),
    Client(usize),
    User(u32),
}

/// Where one account stands in the lists and counts.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Each list, and the score in it.
    places: Vec<(ListId, i64)>,
    counted: Option<(AccountState, Option<usize>)>,
}

/// All that a call moves.
pub(super) struct Moves<'a> {
    keys: &'a Keys,
    layout: &'a Layout,
    tenants: Numbered<TenantId>,
    clients: Numbered<ClientId>,
    lists: HashMap<ListId, Moved>,
    counts: HashMap<(AccountState, Option<usize>), i64>,
}

/// What goes into one list, with its score, and leaves it.
#[derive(Debug, Default)]
struct Moved {
    into: Vec<(i64, Member)>,
    out_of: Vec<Member>,
}

/// A list of the call.
pub(super) struct List<'a> {
    pub(super) key: String,
    /// The tenant whose due list it is; empty where it is that of no known one.
    pub(super) due_of: Option<&'a str>,
    pub(super) into: &'a [(i64, Member)],
    pub(super) out_of: &'a [Member],
}

impl<'a> Moves<'a> {
    pub(super) fn new(keys: &'a Keys, layout: &'a Layout) -> Self {
        let (tenants, clients) = (Numbered::default(), Numbered::default());
        Self { keys, layout, tenants, clients, lists: HashMap::new(), counts: HashMap::new() }
    }

    /// Where an account with this entry stands.
    pub(super) fn standing(&mut self, entry: &IndexEntry<'_>) -> Standing {
        let tenant = entry.tenant.map(|tenant| self.tenants.number(tenant, |tenant| self.layout.is_own(tenant)));
        let mut places = Vec::with_capacity(4);
        if let Some(score) = entry.listed_at {
            let client = entry.client.map(|client| self.clients.number(client, |client| self.layout.is_main(client)));
            let listed_client = client.filter(|client| !self.clients.is_decided_on(*client));
            places.extend(listed_client.map(|client| (ListId::Client(client), score)));
            // In no order, so that an activity does not write it.
            places.extend(entry.username.as_ref().map(|name| (ListId::User(self.keys.user_number(name)), 0)));
            for which in [Some(Listed::All), Listed::in_state(entry.state)].into_iter().flatten() {
                places.extend(tenant.map(|tenant| (ListId::OfTenant(which, tenant), score)));
                if !tenant.is_some_and(|tenant| self.tenants.is_decided_on(tenant)) {
                    places.push((ListId::OfOthers(which), score));
                }
            }
        }
        places.extend(entry.due_at.map(|due_at| (ListId::Due(tenant), due_at)));
        Standing { places, counted: Some((entry.state, tenant)) }
    }

    /// What the shard has to decide on first, of what stands here.
    pub(super) fn undecided(&self) -> Option<Undecided<'_>> {
        let client = self.clients.most().next().filter(|_| !self.layout.has_main());
        let tenants: Vec<&TenantId> =
            self.tenants.most().filter(|tenant| self.layout.is_undecided_on(tenant)).collect();
        (client.is_some() || !tenants.is_empty()).then_some(Undecided { client, tenants })
    }

    /// Moves an account; from nowhere, or to nowhere, where that is `None`.
    pub(super) fn add(&mut self, member: Member, before: Option<Standing>, after: Option<Standing>) {
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        for (list, score) in &after.places {
            if !before.places.contains(&(*list, *score)) {
                self.lists.entry(*list).or_default().into.push((*score, member));
            }
        }
        for (list, _) in &before.places {
            if !after.places.iter().any(|(other, _)| other == list) {
                self.lists.entry(*list).or_default().out_of.push(member);
            }
        }
        if before.counted != after.counted {
            self.count(before.counted, -1);
            self.count(after.counted, 1);
        }
    }

    fn count(&mut self, counted: Option<(AccountState, Option<usize>)>, change: i64) {
        let Some((state, tenant)) = counted else { return };
        *self.counts.entry((state, None)).or_default() += change;
        if tenant.is_some() {
            *self.counts.entry((state, tenant)).or_default() += change;
        }
    }

    /// The lists in which something moves, due lists first.
    pub(super) fn lists(&self) -> Vec<List<'_>> {
        let mut lists: Vec<List<'_>> = self.lists.iter().map(|(id, moved)| self.list(*id, moved)).collect();
        lists.sort_unstable_by_key(|list| list.due_of.is_none());
        lists
    }

    fn list<'b>(&'b self, id: ListId, moved: &'b Moved) -> List<'b> {
        let key = match id {
            ListId::Due(tenant) => self.keys.due(self.tenant_or_none(tenant)),
            ListId::OfTenant(which, tenant) => self.keys.of_tenant(which, self.tenants.name(tenant)),
            ListId::OfOthers(which) => self.keys.of_others(which),
            ListId::Client(client) => self.keys.client(self.clients.name(client)),
            ListId::User(number) => self.keys.user_list(number),
        };
        let due_of = match id {
            ListId::Due(tenant) => Some(self.tenant_or_none(tenant)),
            _ => None,
        };
        List { key, due_of, into: &moved.into, out_of: &moved.out_of }
    }

    fn tenant_or_none(&self, tenant: Option<usize>) -> &str {
        tenant.map_or("", |tenant| self.tenants.name(tenant).as_str())
    }

    /// The fields of the counts that change, and by how much.
    pub(super) fn counts(&self) -> impl Iterator<Item = (String, i64)> {
        let changes = self.counts.iter().filter(|(_, change)| **change != 0);
        changes.map(|((state, tenant), change)| {
            (count_field(*state, tenant.map(|tenant| self.tenants.name(tenant))), *change)
        })
    }
}

/// Names and their numbers, from 0.
struct Numbered<T> {
    numbers: HashMap<T, usize>,
    names: Vec<Name<T>>,
}

struct Name<T> {
    name: T,
    is_decided_on: bool,
    /// How often an account of it stood somewhere.
    uses: usize,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), names: Vec::new() }
    }
}

impl<T: Clone + Ord + Hash> Numbered<T> {
    fn number(&mut self, name: &T, is_decided_on: impl FnOnce(&T) -> bool) -> usize {
        if let Some(number) = self.numbers.get(name) {
            self.names[*number].uses += 1;
            return *number;
        }
        let number = self.names.len();
        self.numbers.insert(name.clone(), number);
        self.names.push(Name { name: name.clone(), is_decided_on: is_decided_on(name), uses: 1 });
        number
    }

    fn name(&self, number: usize) -> &T {
        &self.names[number].name
    }

    fn is_decided_on(&self, number: usize) -> bool {
        self.names[number].is_decided_on
    }

    /// All names, those of the most accounts first.
    fn most(&self) -> impl Iterator<Item = &T> {
        let mut names: Vec<&Name<T>> = self.names.iter().collect();
        names.sort_unstable_by(|a, b| b.uses.cmp(&a.uses).then_with(|| a.name.cmp(&b.name)));
        names.into_iter().map(|name| &name.name)
    }
}
