//! Accounts that are not as the log before the checkpoints says: have they changed since, or are they wrong?

use std::collections::{HashMap, HashSet};

use common::account::CacheKey;
use common::index::{AccountActivity, Fold, Seed};
use common::log::ActivityLog;

use super::fold_of::FoldOf;
use super::judge::{Bounds, Verdict, judge};
use super::{Difference, Ground, Kind, VerifyError, VerifyReport, VerifySettings};
use crate::insist::insist;
use crate::progress::Meter;
use crate::span::ends;

/// How often an account that changes while it is repaired is tried again.
const ROUNDS: usize = 20;

pub(super) struct Settling<'a> {
    pub(super) log: &'a dyn ActivityLog,
    pub(super) ground: &'a Ground,
    pub(super) settings: VerifySettings,
    /// The fold of the log before the checkpoints.
    pub(super) lower: &'a HashMap<CacheKey, AccountActivity>,
}

impl Settling<'_> {
    /// Reads each account anew, then the log on to its end of that time: whatever is in the index came from there.
    pub(super) async fn run(&mut self, keys: Vec<CacheKey>, report: &mut VerifyReport) -> Result<(), VerifyError> {
        let retry = self.settings.retry;
        let mut since = FoldOf::new(self.log, retry);
        since.begin_at(&self.ground.checkpoints);
        let mut pending: HashSet<CacheKey> = keys.into_iter().collect();
        for round in 0..ROUNDS {
            let asked: Vec<CacheKey> = pending.iter().cloned().collect();
            let found = insist(retry, async || self.ground.store.get_many(&asked).await).await?;
            let ends = insist(retry, async || ends(self.log).await).await?;
            since.read_to(&ends, &mut Meter::new(&|_| {}), |key| pending.contains(key)).await?;
            pending.clear();
            for (key, account) in asked.into_iter().zip(found) {
                let is_last = round + 1 == ROUNDS;
                if !self.settle(&key, account, &since.fold, is_last, report).await? {
                    pending.insert(key);
                }
            }
            if pending.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Says whether that is that.
    async fn settle(
        &self,
        key: &CacheKey,
        found: Option<AccountActivity>,
        since: &Fold,
        is_last: bool,
        report: &mut VerifyReport,
    ) -> Result<bool, VerifyError> {
        let nothing = AccountActivity::nothing_about(key.clone());
        let lower = self.lower.get(key).unwrap_or(&nothing);
        let mut upper = lower.clone();
        if let Some(said) = since.get(key) {
            upper.merge(said);
        }
        let account = found.as_ref().unwrap_or(&nothing);
        if !self.is_asked_for(account, &upper) {
            return Ok(true);
        }
        let verdict = judge(account, &Bounds { lower, upper: &upper, horizon: self.ground.horizon });
        let is_repaired = !verdict.fields.is_empty() && self.settings.repair && self.repair(&found, &verdict).await?;
        if !verdict.fields.is_empty() && self.settings.repair && !is_repaired && !is_last {
            return Ok(false);
        }
        report.checked += 1;
        report.older_than_log += u64::from(verdict.has_older);
        report.seeded += u64::from(verdict.has_older && Seed::is_in(account));
        if !verdict.fields.is_empty() {
            let kind = match &found {
                None => Kind::Missing,
                Some(_) if upper.is_empty() => Kind::Extra,
                Some(_) => Kind::Different,
            };
            report.note(Difference { cache_key: key.clone(), kind, fields: verdict.fields, is_repaired });
        }
        Ok(true)
    }

    fn is_asked_for(&self, account: &AccountActivity, said: &AccountActivity) -> bool {
        let asked = self.settings.tenant.as_ref();
        asked.is_none() || account.tenant_id() == asked || said.tenant_id() == asked
    }

    async fn repair(&self, found: &Option<AccountActivity>, verdict: &Verdict) -> Result<bool, VerifyError> {
        let healed = Some(&verdict.healed).filter(|healed| !healed.is_empty());
        let replace = async || self.ground.store.replace(found.as_ref(), healed).await;
        Ok(insist(self.settings.retry, replace).await?)
    }
}
