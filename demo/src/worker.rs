//! The worker of the demo: finds the accounts in the index, refreshes the tokens of each, and tries them.

use std::sync::Arc;

use common::account::TenantId;
use common::backends::TokenCache;
use common::identity::SilentOptions;
use common::index::{AccountActivity, ActivityStore, Filter, ListRequest, Query};
use consumer::worker::{RunReport, Selection, Worker, WorkerSettings};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::web_side::WebSide;

const PAGE: usize = 500;

/// Everybody of the tenant who was active since `since`.
pub(crate) async fn find(
    index: &dyn ActivityStore,
    tenant_id: &str,
    since: Timestamp,
) -> anyhow::Result<Vec<AccountActivity>> {
    let mut request =
        ListRequest { query: Query::ActiveSince(since), filter: of(tenant_id)?, limit: PAGE, cursor: None };
    let mut found = Vec::new();
    loop {
        let page = index.list(&request).await?;
        found.extend(page.accounts);
        request.cursor = page.next;
        if request.cursor.is_none() {
            return Ok(found);
        }
    }
}

/// Refreshes everybody's tokens, as if they had expired, and tries each new one at the provider. Who has the outcome
/// `hydrated` has a refreshed token that is live.
pub(crate) async fn hydrate(
    index: Arc<dyn ActivityStore>,
    cache: TokenCache,
    web: &Arc<WebSide>,
    since: Timestamp,
) -> anyhow::Result<RunReport> {
    let selection = Selection::active_since(since).narrowed(of(&web.tenant_id)?, None);
    let silent = SilentOptions { force_refresh: true, ..SilentOptions::default() };
    let settings = WorkerSettings { silent, ..WorkerSettings::default() };
    let mut worker = Worker::new(index, cache, web.client().clone(), settings);
    let tried_at = Arc::clone(web);
    let job = move |_, token: common::identity::AccessToken| {
        let is_live = tried_at.is_live(token.expose());
        async move { if is_live { Ok(()) } else { Err("the provider does not honour the token") } }
    };
    Ok(worker.for_each(&selection, CancellationToken::new(), job).await?)
}

fn of(tenant_id: &str) -> anyhow::Result<Filter> {
    Ok(Filter { tenant: Some(TenantId::new(tenant_id)?), ..Filter::default() })
}
