//! Merging two changes of one blob, for the writer who lost a compare-and-set.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::blob::{Body, Slot, TokenCacheBlob, is_blank, write_object};
use super::draft::unused;
use super::entity::{Entry, Field};
use super::identity::{Freshness, Identity, Rank, audience, owner};
use super::json::{SharedText, canonical, is_same, members, name};
use super::scopes;
use super::section::Section;

/// A merged blob and what the merge did.
#[derive(Debug, Clone)]
pub struct Merged {
    /// Both sides' changes.
    pub blob: TokenCacheBlob,
    /// Whether the blob says something that theirs does not; if not it is theirs byte for byte, and there is nothing
    /// to write.
    pub is_write_needed: bool,
    /// How many credentials both sides had changed, differently.
    pub conflicts: usize,
    /// In how many of those ours was the newer one.
    pub won_by_ours: usize,
    /// The home account ids that a side had signed out; all that the other side did for them is gone.
    pub signed_out: Vec<String>,
}

/// Merges the changes that `ours` and `theirs` each made to `base`.
///
/// Credentials are matched by what they are for, not by their keys. What one side changed is taken; of what both
/// changed the one written later (refresh tokens: see
/// [`find_refresh_token`](TokenCacheBlob::find_refresh_token)). What one side removed stays removed, unless the
/// other side changed it; but where one side signed an account out (it has neither an account nor a refresh token for
/// it any more), that stands, whatever the other side refreshed. Client metadata is never removed. Where both sides
/// changed something this library does not know, theirs is taken.
///
/// The result has one refresh token, one id token and one client metadata entry where the libraries expect one, and no
/// two access tokens with a scope in common. Only where one side changed nothing is the other's blob taken as it is.
#[must_use]
pub fn merge(base: &TokenCacheBlob, ours: &TokenCacheBlob, theirs: &TokenCacheBlob) -> Merged {
    let [base_says, ours_says, theirs_says] = [base, ours, theirs].map(TokenCacheBlob::content);
    if ours_says == base_says || ours_says == theirs_says {
        return Merged::untouched(theirs, false);
    }
    if theirs_says == base_says {
        return Merged::untouched(ours, true);
    }
    Merge::new(base, ours, theirs).run(&theirs_says)
}

impl Merged {
    fn untouched(blob: &TokenCacheBlob, is_write_needed: bool) -> Self {
        Self { blob: blob.clone(), is_write_needed, conflicts: 0, won_by_ours: 0, signed_out: Vec::new() }
    }
}

impl TokenCacheBlob {
    /// Whether both blobs hold the same, white space and order apart.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.text() == other.text() || self.content() == other.content()
    }

    /// One spelling for all blobs that hold the same.
    fn content(&self) -> String {
        match &*self.text() {
            blank if is_blank(blank) => "{}".to_owned(),
            text => canonical(text).into_owned(),
        }
    }
}

struct Merge<'a> {
    base: Side<'a>,
    ours: Side<'a>,
    theirs: Side<'a>,
    conflicts: usize,
    won_by_ours: usize,
}

/// One of the three blobs, indexed.
struct Side<'a> {
    blob: &'a TokenCacheBlob,
    slots: HashMap<Cow<'a, str>, &'a Slot>,
    users: HashSet<&'a str>,
    freshness: Freshness<'a>,
}

#[derive(Clone, Copy)]
struct Candidate<'a> {
    entry: &'a Entry,
    rank: Rank,
    /// Whether it was written after the base.
    is_new: bool,
}

/// The entries of one section of one side, the best for each identity, in the order of the blob.
struct Candidates<'a> {
    order: Vec<Identity>,
    by_identity: HashMap<Identity, Candidate<'a>>,
}

impl<'a> Side<'a> {
    fn of(blob: &'a TokenCacheBlob) -> Self {
        let users = [Section::Account, Section::RefreshToken]
            .into_iter()
            .flat_map(|section| blob.entries(section))
            .filter_map(|entry| entry.text(Field::HomeAccountId).filter(|user| !user.is_empty()));
        Self {
            blob,
            slots: blob.slots().iter().map(|slot| (name(slot.key.as_str()), slot)).collect(),
            users: users.collect(),
            freshness: Freshness::of(blob),
        }
    }

    /// The best entries of a section, given the texts the section had in the base.
    fn candidates(&self, section: Section, base: &HashSet<Cow<'_, str>>) -> Candidates<'a> {
        let mut found = Candidates { order: Vec::new(), by_identity: HashMap::new() };
        for entry in self.blob.entries(section) {
            let rank = self.freshness.rank(section, entry);
            let is_new = !base.contains(&canonical(entry.value.as_str()));
            found.add(Identity::of(section, entry), Candidate { entry, rank, is_new });
        }
        found
    }

    fn texts(&self, section: Section) -> HashSet<Cow<'a, str>> {
        self.blob.entries(section).iter().map(|entry| canonical(entry.value.as_str())).collect()
    }

    fn text(&self, slot: &str) -> Option<Cow<'a, str>> {
        self.slots.get(slot).map(|slot| slot.text())
    }
}

impl Candidate<'_> {
    fn age(&self) -> (bool, Rank) {
        (self.is_new, self.rank)
    }
}

impl<'a> Candidates<'a> {
    /// Of two for the same the later written stays, of equals the later in the blob.
    ///
    /// What was not in the base was written after what was, whatever its times say or do not say.
    fn add(&mut self, identity: Identity, candidate: Candidate<'a>) {
        match self.by_identity.get_mut(&identity) {
            Some(known) if known.age() > candidate.age() => {}
            Some(known) => *known = candidate,
            None => {
                self.order.push(identity.clone());
                self.by_identity.insert(identity, candidate);
            }
        }
    }

    fn get(&self, identity: &Identity) -> Option<Candidate<'a>> {
        self.by_identity.get(identity).copied()
    }
}

impl<'a> Merge<'a> {
    fn new(base: &'a TokenCacheBlob, ours: &'a TokenCacheBlob, theirs: &'a TokenCacheBlob) -> Self {
        let (base, ours, theirs) = (Side::of(base), Side::of(ours), Side::of(theirs));
        Self { base, ours, theirs, conflicts: 0, won_by_ours: 0 }
    }

    fn run(mut self, theirs_says: &str) -> Merged {
        let theirs = self.theirs.blob;
        let only_ours = self.ours.blob.slots().iter().filter(|slot| !self.theirs.slots.contains_key(&slot_name(slot)));
        let slots: Vec<&Slot> = theirs.slots().iter().chain(only_ours).collect();
        let slots: Vec<Slot> = slots.into_iter().filter_map(|slot| self.slot(slot)).collect();
        let merged = TokenCacheBlob::of(slots);
        let is_write_needed = merged.content() != theirs_says;
        Merged {
            signed_out: self.signed_out(),
            blob: if is_write_needed { merged } else { theirs.clone() },
            is_write_needed,
            conflicts: self.conflicts,
            won_by_ours: self.won_by_ours,
        }
    }

    fn slot(&mut self, slot: &Slot) -> Option<Slot> {
        match &slot.body {
            Body::Known { section, .. } => self.section(*section, slot),
            Body::Opaque(_) => self.opaque(slot),
        }
    }

    fn section(&mut self, section: Section, slot: &Slot) -> Option<Slot> {
        let mut chosen = self.choose(section);
        keep_newest(section, &mut chosen);
        let is_theirs = self.theirs.slots.contains_key(section.name());
        (is_theirs || !chosen.is_empty()).then(|| Slot::with(slot, section, with_distinct_keys(section, &chosen)))
    }

    fn choose(&mut self, section: Section) -> Vec<Candidate<'a>> {
        let known = self.base.texts(section);
        let [base, ours, theirs] = [&self.base, &self.ours, &self.theirs].map(|side| side.candidates(section, &known));
        let only_ours = ours.order.iter().filter(|identity| !theirs.by_identity.contains_key(*identity));
        let identities = theirs.order.iter().chain(only_ours);
        let chosen = identities.filter_map(|identity| {
            let (b, o, t) = (base.get(identity), ours.get(identity), theirs.get(identity));
            match self.signed_out_in(o, t) {
                Some(side) => side,
                None if section == Section::AppMetadata && (o.is_none() || t.is_none()) => o.or(t),
                None => self.settle(identity, b, o, t),
            }
        });
        chosen.collect()
    }

    /// What the side that signed the entry's account out has for it; what both have, if both did.
    fn signed_out_in(&self, o: Option<Candidate<'a>>, t: Option<Candidate<'a>>) -> Option<Option<Candidate<'a>>> {
        let user = o.or(t)?.entry.text(Field::HomeAccountId)?;
        let is_gone_in = |side: &Side<'_>| self.base.users.contains(user) && !side.users.contains(user);
        match (is_gone_in(&self.ours), is_gone_in(&self.theirs)) {
            (false, false) => None,
            (true, false) => Some(o),
            (false, true) => Some(t),
            (true, true) => Some(o.and(t)),
        }
    }

    fn settle(
        &mut self,
        identity: &Identity,
        b: Option<Candidate<'a>>,
        o: Option<Candidate<'a>>,
        t: Option<Candidate<'a>>,
    ) -> Option<Candidate<'a>> {
        match (is_changed(b, o), is_changed(b, t)) {
            // The same on both sides, and the side where more was known of its age says how old it is.
            (false, false) => o.zip(t).map(|(o, t)| Candidate { rank: o.rank.max(t.rank), ..t }),
            (false, true) => t,
            (true, false) => o,
            (true, true) => match (o, t) {
                (Some(o), Some(t)) if is_changed(Some(o), Some(t)) => Some(self.newer(identity, o, t)),
                _ => t.or(o),
            },
        }
    }

    fn newer(&mut self, identity: &Identity, o: Candidate<'a>, t: Candidate<'a>) -> Candidate<'a> {
        self.conflicts += 1;
        let order = |side: Candidate<'a>| (side.rank, side.entry.value.as_str());
        // On a tie the spelling decides, so that two writers who merge each other's blobs agree.
        if identity.is_foreign() || order(o) <= order(t) {
            return t;
        }
        self.won_by_ours += 1;
        o
    }

    fn opaque(&self, slot: &Slot) -> Option<Slot> {
        let name = slot_name(slot);
        let [b, o, t] = [&self.base, &self.ours, &self.theirs].map(|side| side.text(&name));
        let text = merge_foreign(b.as_deref(), o.as_deref(), t.as_deref())?;
        let is_kept = text == slot.text();
        let body = if is_kept { slot.body.clone() } else { Body::Opaque(SharedText::whole(text.as_str().into())) };
        Some(Slot { key: slot.key.clone(), body })
    }

    fn signed_out(&self) -> Vec<String> {
        let gone = |side: &Side<'a>| self.base.users.difference(&side.users).copied().collect::<BTreeSet<_>>();
        gone(&self.ours).union(&gone(&self.theirs)).map(|user| (*user).to_owned()).collect()
    }
}

impl Slot {
    /// The section with these entries; its own text stays if they are the ones it has.
    fn with(like: &Self, section: Section, entries: Vec<Entry>) -> Self {
        let had = like.entries_of(section).unwrap_or_default();
        let is_same = had.len() == entries.len() && had.iter().zip(&entries).all(|(a, b)| a.is_spelled_like(b));
        if is_same {
            return like.clone();
        }
        Self { key: like.key.clone(), body: Body::Known { section, text: None, entries } }
    }
}

fn slot_name(slot: &Slot) -> Cow<'_, str> {
    name(slot.key.as_str())
}

fn is_changed<'a>(from: Option<Candidate<'a>>, to: Option<Candidate<'a>>) -> bool {
    let text = |candidate: Candidate<'a>| candidate.entry.value.as_str();
    is_text_changed(from.map(text), to.map(text))
}

fn is_text_changed(from: Option<&str>, to: Option<&str>) -> bool {
    match (from, to) {
        (None, None) => false,
        (Some(from), Some(to)) => !is_same(from, to),
        _ => true,
    }
}

/// Drops what the libraries would stumble over beside something newer.
fn keep_newest(section: Section, chosen: &mut Vec<Candidate<'_>>) {
    let mut by_age: Vec<usize> = (0..chosen.len()).filter(|i| is_used(section, chosen[*i])).collect();
    by_age.sort_by_key(|i| Reverse((chosen[*i].rank, chosen[*i].entry.value.as_str())));
    let mut claims = Claims::default();
    let dropped: HashSet<usize> = by_age.into_iter().filter(|i| !claims.grant(section, chosen[*i].entry)).collect();
    let mut place = 0..;
    chosen.retain(|_| place.next().is_none_or(|place| !dropped.contains(&place)));
}

fn is_used(section: Section, candidate: Candidate<'_>) -> bool {
    !Identity::of(section, candidate.entry).is_foreign()
}

/// What entries hold for themselves beyond their identity: an access token each of its scopes, a refresh token its
/// family.
#[derive(Default)]
struct Claims {
    holders: HashMap<Vec<String>, usize>,
    taken: HashSet<(usize, String)>,
}

impl Claims {
    /// Gives the entry all it claims, or nothing if a part of it is taken.
    fn grant(&mut self, section: Section, entry: &Entry) -> bool {
        let (holder, claims) = claims(section, entry);
        if claims.is_empty() {
            return true;
        }
        // The scopes of a damaged blob may be many and its ids long, so the ids are kept once.
        let next = self.holders.len();
        let holder = *self.holders.entry(holder).or_insert(next);
        if claims.iter().any(|claim| self.taken.contains(&(holder, claim.clone()))) {
            return false;
        }
        self.taken.extend(claims.into_iter().map(|claim| (holder, claim)));
        true
    }
}

fn claims(section: Section, entry: &Entry) -> (Vec<String>, Vec<String>) {
    match section {
        Section::AccessToken => (audience(entry), scopes::competing(entry.text_or_empty(Field::Target))),
        Section::RefreshToken => {
            let mut holder = owner(entry);
            // A family's token is for every client of it.
            holder.get_mut(1).map(String::clear);
            let family = entry.text(Field::FamilyId).filter(|family| !family.is_empty());
            (holder, family.map(str::to_owned).into_iter().collect())
        }
        Section::IdToken | Section::Account | Section::AppMetadata => (Vec::new(), Vec::new()),
    }
}

/// The entries, those under a key that an earlier one has under a key of their own.
fn with_distinct_keys(section: Section, chosen: &[Candidate<'_>]) -> Vec<Entry> {
    let all: HashSet<_> = chosen.iter().map(|candidate| candidate.entry.key_name().into_owned()).collect();
    let mut taken = HashSet::new();
    let entries = chosen.iter().map(|Candidate { entry, .. }| {
        let key = entry.key_name().into_owned();
        if taken.insert(key.clone()) {
            return (*entry).clone();
        }
        let key = unused(&key, |key| all.contains(key) || taken.contains(key));
        taken.insert(name(&key).into_owned());
        Entry::new(section, &key, entry.value.as_str())
    });
    entries.collect()
}

/// Merges something this library does not know, member by member if it is an object; on a conflict theirs is taken.
fn merge_foreign(b: Option<&str>, o: Option<&str>, t: Option<&str>) -> Option<String> {
    let both = (is_text_changed(b, o) && is_text_changed(b, t)).then(|| o.and_then(members).zip(t.and_then(members)));
    match both.flatten() {
        Some((o, t)) => Some(merge_members(&b.and_then(members).unwrap_or_default(), &o, &t)),
        None => pick(b, o, t).map(str::to_owned),
    }
}

fn merge_members(base: &[(&str, &str)], ours: &[(&str, &str)], theirs: &[(&str, &str)]) -> String {
    let [b, o, t] = [base, ours, theirs].map(|side| side.iter().map(|(k, v)| (name(k), *v)).collect::<HashMap<_, _>>());
    let only_ours = ours.iter().filter(|(key, _)| !t.contains_key(&name(key)));
    let merged = theirs.iter().chain(only_ours).filter_map(|(key, _)| {
        let [b, o, t] = [&b, &o, &t].map(|side| side.get(&name(key)).copied());
        pick(b, o, t).map(|value| (*key, Cow::Borrowed(value)))
    });
    write_object(merged)
}

/// What one side changed; of what both changed theirs, if they have it at all.
fn pick<'a>(b: Option<&str>, o: Option<&'a str>, t: Option<&'a str>) -> Option<&'a str> {
    match (is_text_changed(b, o), is_text_changed(b, t)) {
        (false, _) => t,
        (true, false) => o,
        (true, true) => t.or(o),
    }
}
