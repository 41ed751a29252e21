//! A user of the directory.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A user with a home tenant, who may be a guest in others.
///
/// Object ids are derived from tenant and username, so the same user has the same home account id in every run.
#[derive(Clone, Debug)]
pub struct User {
    pub(super) username: String,
    pub(super) name: String,
    pub(super) tenant_id: String,
    pub(super) object_id: String,
    pub(super) guest_object_ids: BTreeMap<String, String>,
}

impl User {
    /// A member of `tenant_id` (a GUID).
    #[must_use]
    pub fn new(tenant_id: &str, username: &str, name: &str) -> Self {
        let tenant_id = tenant_id.to_lowercase();
        Self {
            object_id: object_id_in(&tenant_id, username),
            username: username.to_owned(),
            name: name.to_owned(),
            tenant_id,
            guest_object_ids: BTreeMap::new(),
        }
    }

    /// The same user, also a guest in `tenant_id`, where they have another object id.
    #[must_use]
    pub fn guest_in(mut self, tenant_id: &str) -> Self {
        let tenant_id = tenant_id.to_lowercase();
        let object_id = object_id_in(&tenant_id, &self.username);
        self.guest_object_ids.insert(tenant_id, object_id);
        self
    }

    /// The name they sign in with.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// `uid.utid`: object id and tenant id of the home tenant.
    #[must_use]
    pub fn home_account_id(&self) -> String {
        format!("{}.{}", self.object_id, self.tenant_id)
    }

    /// The object id the user has in `tenant_id`, when they are a member or a guest there.
    #[must_use]
    pub fn object_id_in(&self, tenant_id: &str) -> Option<&str> {
        if tenant_id == self.tenant_id {
            return Some(&self.object_id);
        }
        self.guest_object_ids.get(tenant_id).map(String::as_str)
    }
}

fn object_id_in(tenant_id: &str, username: &str) -> String {
    let digest = Sha256::digest(format!("{tenant_id}|{}", username.to_lowercase()));
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// True for the text form of a GUID.
pub(super) fn is_guid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}
