//! The tenant segment of an endpoint's path.

use super::error::EntraError;
use super::user::{User, is_guid};

/// `/{tenant}`: one tenant, or whichever the user belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TenantSegment {
    One(String),
    Any(String),
}

impl TenantSegment {
    pub(super) fn parse(segment: &str) -> Result<Self, EntraError> {
        let segment = segment.to_lowercase();
        match segment.as_str() {
            "common" | "organizations" => Ok(Self::Any(segment)),
            _ if is_guid(&segment) => Ok(Self::One(segment)),
            _ => Err(EntraError::invalid_request(90_002, format!("Tenant '{segment}' not found."))),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::One(segment) | Self::Any(segment) => segment,
        }
    }

    /// The tenant that `user` signs in to here.
    pub(super) fn of(&self, user: &User) -> Result<String, EntraError> {
        match self {
            Self::Any(_) => Ok(user.tenant_id.clone()),
            Self::One(tenant_id) if user.object_id_in(tenant_id).is_some() => Ok(tenant_id.clone()),
            Self::One(tenant_id) => Err(EntraError::new(
                "access_denied",
                50_020,
                format!("User account '{}' does not exist in tenant '{tenant_id}'.", user.username),
            )),
        }
    }
}
