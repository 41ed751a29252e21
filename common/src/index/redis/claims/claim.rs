//! Claiming: one script takes candidates, their records are judged here, and what was not due is put right.

use jiff::Timestamp;
use redis::ScriptInvocation;

use super::super::keys::member;
use super::ClaimShard;
use crate::account::{ClientId, TenantId};
use crate::backend::BackendError;
use crate::event::to_microseconds;
use crate::index::claiming::{self, Correction, Rate, Replan, Verdict, judge, micros};
use crate::index::{
    AccountActivity, Claim, ClaimRequest, Completion, DuePolicy, Fence, HeldClaim, JobReason, Schedule,
};

/// What the script answers: the time, the end of the leases, the fence before the first; then of each account member,
/// tenant, attempts, schedule and record.
type Answer = (i64, i64, u64, Vec<Vec<u8>>, Vec<String>, Vec<u32>, Vec<Option<String>>, Vec<Option<Vec<u8>>>);

/// What a look answers: the time; then of each account member, tenant, schedule and record.
type Looked = (i64, Vec<Vec<u8>>, Vec<String>, Vec<Option<String>>, Vec<Option<Vec<u8>>>);

/// Candidates that were not due, and what is right instead.
type NotDue = Vec<(Candidate, Correction)>;

/// How many accounts one look is at.
const LOOKED_AT: usize = 1_000;
/// The fence of what is not claimed: no claim has it.
const NOT_HELD: u64 = 0;

/// Accounts that a script took for a worker.
struct Taken {
    now: Timestamp,
    lease_until: Timestamp,
    candidates: Vec<Candidate>,
}

/// One of them, which may not be due.
struct Candidate {
    member: Vec<u8>,
    tenant: String,
    fence: u64,
    attempts: u32,
    schedule: Option<Schedule>,
    record: Option<Vec<u8>>,
}

impl ClaimShard<'_> {
    pub(super) async fn claim_in_rounds(&self, request: &ClaimRequest) -> Result<Vec<Claim>, BackendError> {
        let policy = self.due_policy().await?;
        let mut claims = Vec::new();
        for round in 0..claiming::ROUNDS {
            let room = request.limit - claims.len();
            let taken = match &request.client {
                Some(client) if round > 0 => self.take_of_client(request, client, &policy, room, round).await?,
                _ => self.take(request, room).await?,
            };
            let (due, not_due) = self.judged(request, &policy, taken)?;
            claims.extend(due);
            self.correct(request, &not_due).await?;
            // Where all that was met was due, and of the app that is asked for, there is no more.
            let is_all = not_due.is_empty() && (round == 0 || request.client.is_none());
            if claims.len() == request.limit || is_all {
                break;
            }
        }
        Ok(claims)
    }

    async fn take(&self, request: &ClaimRequest, limit: usize) -> Result<Taken, BackendError> {
        let mut call = self.scripts.claims.claim.prepare_invoke();
        self.claim_call(&mut call, request, limit);
        pick_args(&mut call, request);
        self.taken(self.claims_call(&call).await?)
    }

    /// Looks first, since only here a record tells its app: for where other apps have accounts, too, and taking them to
    /// give them back would be in their workers' way. At the most overdue at first, then from any place on, so that
    /// accounts behind many of other apps are come to.
    async fn take_of_client(
        &self,
        request: &ClaimRequest,
        client: &ClientId,
        policy: &DuePolicy,
        limit: usize,
        round: usize,
    ) -> Result<Taken, BackendError> {
        let (now, candidates) = self.look(request, if round == 1 { 0.0 } else { rand::random() }).await?;
        let mut not_due = Vec::new();
        let mut call = self.scripts.claims.named.prepare_invoke();
        self.claim_call(&mut call, request, limit);
        let mut named = 0;
        for candidate in candidates {
            let account =
                candidate.record.as_deref().map(|record| self.decode(&candidate.member, record)).transpose()?;
            match judge(policy, account.as_ref(), candidate.schedule.as_ref(), now) {
                Verdict::Not(correction) => not_due.push((candidate, correction)),
                Verdict::Due(_) if named < limit && is_of(account.as_ref(), client) => {
                    call.arg(&candidate.tenant).arg(&candidate.member);
                    named += 1;
                }
                Verdict::Due(_) => {}
            }
        }
        self.correct(request, &not_due).await?;
        if named == 0 {
            return Ok(Taken { now, lease_until: now, candidates: Vec::new() });
        }
        self.taken(self.claims_call(&call).await?)
    }

    async fn look(&self, request: &ClaimRequest, from: f64) -> Result<(Timestamp, Vec<Candidate>), BackendError> {
        let mut call = self.scripts.claims.look.prepare_invoke();
        self.claim_call(&mut call, request, request.limit);
        pick_args(&mut call, request);
        call.arg(LOOKED_AT).arg(from);
        let (now, members, tenants, scheduled, records): Looked = self.claims_call(&call).await?;
        let mut candidates = Vec::with_capacity(members.len());
        for ((member, tenant), (scheduled, record)) in
            members.into_iter().zip(tenants).zip(scheduled.into_iter().zip(records))
        {
            let schedule = scheduled.map(|stored| self.schedule(&stored)).transpose()?;
            candidates.push(Candidate { member, tenant, fence: NOT_HELD, attempts: 0, schedule, record });
        }
        Ok((self.time(now)?, candidates))
    }

    /// Each shard gives out its part of the rates.
    fn rates(&self, request: &ClaimRequest) -> (Rate, Rate) {
        let (of_tenant, overall) = Rate::of(&request.rates);
        let shards = self.index.shards.all().len();
        (of_tenant.part_of(shards), overall.part_of(shards))
    }

    /// The keys and the first arguments of all scripts that claim.
    fn claim_call(&self, call: &mut ScriptInvocation<'_>, request: &ClaimRequest, limit: usize) {
        let (keys, claims) = (self.keys, self.claim_keys);
        call.key(keys.due_tenants()).key(keys.accounts()).key(keys.dropped());
        call.key(&claims.scheduled).key(&claims.schedules).key(&claims.holds).key(&claims.aside);
        call.key(&claims.paused).key(&claims.turns).key(&claims.rates).key(&claims.fence).key(&claims.swept);
        let (of_tenant, overall) = self.rates(request);
        call.arg(request.worker.as_str()).arg(limit).arg(micros(request.lease));
        call.arg(of_tenant.interval).arg(of_tenant.burst).arg(overall.interval).arg(overall.burst);
        call.arg(micros(Completion::ATTEMPTS_KEPT));
    }

    fn taken(&self, answer: Answer) -> Result<Taken, BackendError> {
        let (now, lease_until, fence, members, tenants, attempts, scheduled, records) = answer;
        let rest = tenants.into_iter().zip(attempts).zip(scheduled.into_iter().zip(records));
        let mut candidates = Vec::with_capacity(members.len());
        for ((member, ((tenant, attempts), (scheduled, record))), fence) in
            members.into_iter().zip(rest).zip(fence + 1..)
        {
            let schedule = scheduled.map(|stored| self.schedule(&stored)).transpose()?;
            candidates.push(Candidate { member, tenant, fence, attempts, schedule, record });
        }
        Ok(Taken { now: self.time(now)?, lease_until: self.time(lease_until)?, candidates })
    }

    /// A schedule as it is stored.
    pub(super) fn schedule(&self, stored: &str) -> Result<Schedule, BackendError> {
        let mut lines = stored.split('\n');
        let micros = lines.next().and_then(|micros| micros.parse().ok());
        let at = self.time(micros.ok_or_else(|| self.corrupt("the time of a schedule is no number"))?)?;
        let reason = lines.nth(1).and_then(|reason| JobReason::new(reason).ok());
        Ok(Schedule { at, reason })
    }

    fn judged(
        &self,
        request: &ClaimRequest,
        policy: &DuePolicy,
        taken: Taken,
    ) -> Result<(Vec<Claim>, NotDue), BackendError> {
        let (mut claims, mut not_due) = (Vec::new(), Vec::new());
        for candidate in taken.candidates {
            let account =
                candidate.record.as_deref().map(|record| self.decode(&candidate.member, record)).transpose()?;
            match (judge(policy, account.as_ref(), candidate.schedule.as_ref(), taken.now), account) {
                (Verdict::Due(due), Some(account))
                    if request.client.as_ref().is_some_and(|c| !is_of(Some(&account), c)) =>
                {
                    // It is another app's: it goes back to its place.
                    not_due.push((candidate, Correction { due_at: Some(due.at), schedule: None }));
                }
                (Verdict::Due(due), Some(account)) => {
                    let held = held_claim(request, &account, candidate.fence);
                    let (lease_until, attempts) = (taken.lease_until, candidate.attempts);
                    claims.push(Claim { held, lease_until, due, attempts, account });
                }
                (Verdict::Not(correction), account) => {
                    tell_of_dropped(&candidate, account.as_ref(), &correction);
                    not_due.push((candidate, correction));
                }
                (Verdict::Due(_), None) => {}
            }
        }
        Ok((claims, not_due))
    }

    async fn correct(&self, request: &ClaimRequest, wrong: &[(Candidate, Correction)]) -> Result<(), BackendError> {
        if wrong.is_empty() {
            return Ok(());
        }
        let (of_tenant, overall) = self.rates(request);
        let (keys, claims) = (self.keys, self.claim_keys);
        let mut call = self.scripts.claims.correct.prepare_invoke();
        call.key(keys.due_tenants()).key(keys.accounts()).key(&claims.scheduled).key(&claims.schedules);
        call.key(&claims.holds).key(&claims.aside).key(&claims.rates);
        call.arg(of_tenant.interval).arg(overall.interval);
        for (candidate, right) in wrong {
            let score = |at: Timestamp| to_microseconds(at).as_microsecond().to_string();
            call.arg(&candidate.member).arg(&candidate.tenant).arg(candidate.fence);
            call.arg(candidate.record.as_deref().unwrap_or_default());
            call.arg(right.due_at.map(score).unwrap_or_default());
            call.arg(match right.schedule {
                None => String::new(),
                Some(Replan::Drop) => "drop".to_owned(),
                Some(Replan::At(at)) => score(at),
            });
        }
        self.claims_call(&call).await
    }
}

/// Which tenants a script picks.
fn pick_args(call: &mut ScriptInvocation<'_>, request: &ClaimRequest) {
    call.arg(u8::from(request.tenant.is_some()));
    call.arg(request.tenant.as_ref().map_or("", TenantId::as_str)).arg(rand::random::<f64>());
}

fn is_of(account: Option<&AccountActivity>, client: &ClientId) -> bool {
    let details = account.and_then(|account| account.details.as_ref());
    details.is_some_and(|details| details.value.client_id == *client)
}

fn held_claim(request: &ClaimRequest, account: &AccountActivity, fence: u64) -> HeldClaim {
    HeldClaim { cache_key: account.cache_key.clone(), worker: request.worker.clone(), fence: Fence(fence) }
}

/// A schedule is not dropped silently.
fn tell_of_dropped(candidate: &Candidate, account: Option<&AccountActivity>, correction: &Correction) {
    if correction.schedule == Some(Replan::Drop) {
        let cache_key = account.map(|account| account.cache_key.as_str());
        tracing::info!(cache_key, tenant = candidate.tenant, "the schedule of an account that is gone was dropped");
    }
}

/// The member of a claim's account.
pub(super) fn member_of(held: &HeldClaim) -> [u8; super::super::keys::MEMBER_BYTES] {
    member(&held.cache_key)
}
