//! Lists of a caller that is restricted to tenants: tenant by tenant, with cursors of each tenant's own list.
//!
//! A cursor of a list that has accounts of others would name one of them, the one it stands after.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::account::TenantId;
use common::index::{Cursor, InvalidCursor};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// Some of a list, and where to go on.
pub(super) struct Found<T> {
    pub(super) rows: Vec<T>,
    pub(super) next: Option<String>,
}

/// A page of one tenant's list: from a place, at most so many.
type Fetch<'a, T> = dyn Fn(TenantId, Option<Cursor>, usize) -> BoxFuture<'a, Result<(Vec<T>, Option<Cursor>), Problem>>
    + Send
    + Sync
    + 'a;

/// Goes over the lists of `tenants` in turn, from where `cursor` stands.
pub(super) async fn tenant_by_tenant<T>(
    tenants: &[TenantId],
    cursor: Option<&str>,
    limit: usize,
    fetch: &Fetch<'_, T>,
) -> Result<Found<T>, Problem> {
    let (mut at, mut cursor) = place_among(tenants, cursor)?;
    let mut rows = Vec::new();
    while let Some(tenant) = tenants.get(at) {
        let room = limit - rows.len();
        if room == 0 {
            return Ok(Found { rows, next: Some(Place::Tenant { tenant: tenant.clone(), after: None }.to_text()) });
        }
        let (more, next) = fetch(tenant.clone(), cursor.take(), room).await?;
        rows.extend(more);
        if let Some(next) = next {
            let place = Place::Tenant { tenant: tenant.clone(), after: Some(next.to_string()) };
            return Ok(Found { rows, next: Some(place.to_text()) });
        }
        at += 1;
    }
    Ok(Found { rows, next: None })
}

/// Which tenant to go on with, and where in it.
fn place_among(tenants: &[TenantId], cursor: Option<&str>) -> Result<(usize, Option<Cursor>), InvalidCursor> {
    let Some(text) = cursor else {
        return Ok((0, None));
    };
    let Place::Tenant { tenant, after } = text.parse()? else {
        return Err(InvalidCursor);
    };
    let at = tenants.iter().position(|one| *one == tenant).ok_or(InvalidCursor)?;
    Ok((at, after.map(|after| after.parse()).transpose()?))
}

/// Where a restricted caller's list goes on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Place {
    /// In this tenant, from its beginning or from after a place of its own list.
    Tenant { tenant: TenantId, after: Option<String> },
    /// After so many.
    Skipped { skipped: usize },
}

impl Place {
    pub(super) fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

impl std::str::FromStr for Place {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        serde_json::from_slice(&json).map_err(|_| InvalidCursor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is() {
        let tenant = TenantId::new("contoso").unwrap();
        for place in [
            Place::Tenant { tenant: tenant.clone(), after: None },
            Place::Tenant { tenant, after: Some("AAA".to_owned()) },
            Place::Skipped { skipped: 7 },
        ] {
            assert_eq!(place.to_text().parse::<Place>().unwrap(), place);
        }
        for text in ["", "%", "AAAA", &URL_SAFE_NO_PAD.encode(r#"{"skipped":-1}"#)] {
            assert_eq!(text.parse::<Place>(), Err(InvalidCursor), "{text}");
        }
    }

    #[test]
    fn a_place_in_a_tenant_that_is_not_the_caller_s_is_none() {
        let [mine, other] = ["mine", "other"].map(|id| TenantId::new(id).unwrap());
        let place = Place::Tenant { tenant: other, after: None }.to_text();
        assert_eq!(place_among(&[mine], Some(&place)).unwrap_err(), InvalidCursor);
    }
}
