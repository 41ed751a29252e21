//! Which letters are meant.

use common::account::TenantId;
use common::log::ParkedLetter;
use jiff::Timestamp;
use serde_json::Value;

/// Narrows the letters. An empty filter lets all through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Only this one.
    pub id: Option<String>,
    /// Only letters with this reason.
    pub reason: Option<String>,
    /// Only letters that name this home tenant, as far as their body can be read.
    pub tenant: Option<TenantId>,
    /// Only letters parked at this time or later.
    pub since: Option<Timestamp>,
}

impl LetterFilter {
    /// Whether `letter` passes.
    pub fn lets_through(&self, letter: &ParkedLetter) -> bool {
        self.id.as_ref().is_none_or(|id| *id == letter.id)
            && self.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && self.since.is_none_or(|since| letter.parked_at.is_some_and(|parked_at| parked_at >= since))
            && self.tenant.as_ref().is_none_or(|tenant| names_tenant(&letter.raw, tenant))
    }
}

/// Whether any event in the body is of this tenant. The events are wrong, so this reads them with no rules.
fn names_tenant(body: &[u8], tenant: &TenantId) -> bool {
    match serde_json::from_slice(body) {
        Ok(Value::Array(events)) => events.iter().any(|event| is_of_tenant(event, tenant)),
        Ok(event) => is_of_tenant(&event, tenant),
        Err(_) => false,
    }
}

fn is_of_tenant(event: &Value, tenant: &TenantId) -> bool {
    let data = &event["data"];
    let home = data["home_account_id"].as_str().or_else(|| event["subject"].as_str());
    data["tenant_id"].as_str() == Some(tenant.as_str())
        || home.and_then(|home| home.rsplit_once('.')).is_some_and(|(_, half)| half == tenant.as_str())
}
