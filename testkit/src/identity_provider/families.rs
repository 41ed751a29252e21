//! Refresh tokens: sealed values that name their family, so that the state kept is one entry per sign-in.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use uuid::Uuid;

use super::user::User;

/// What happens to a refresh token when it is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rotation {
    /// It stays valid, as with Microsoft Entra ID.
    #[default]
    Lenient,
    /// It may be used once; a second use revokes all tokens of that sign-in.
    Strict,
}

/// The tokens of one sign-in.
#[derive(Debug, Clone)]
pub(super) struct Family {
    pub(super) user: Arc<User>,
    pub(super) tenant_id: String,
    pub(super) client_id: String,
    newest: u64,
    is_revoked: bool,
}

/// Why a refresh token is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RefreshFault {
    Forged,
    Expired,
    Revoked,
    Reused,
}

/// All families, and the key their refresh tokens are sealed with.
pub(super) struct Families {
    seal: hmac::Key,
    rotation: Rotation,
    families: HashMap<Uuid, Family>,
    revoked: u64,
}

struct Ticket {
    family: Uuid,
    number: u64,
    expires_at: u64,
}

const TICKET: usize = 32;
const FILLER: usize = 480;
const SEAL: usize = 32;

impl Families {
    pub(super) fn new(rotation: Rotation) -> Self {
        let seal = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        Self { seal, rotation, families: HashMap::new(), revoked: 0 }
    }

    pub(super) fn begin(&mut self, user: Arc<User>, tenant_id: &str, client_id: &str) -> Uuid {
        let id = Uuid::from_bytes(rand::random());
        let (tenant_id, client_id) = (tenant_id.to_owned(), client_id.to_owned());
        self.families.insert(id, Family { user, tenant_id, client_id, newest: 0, is_revoked: false });
        id
    }

    /// A new refresh token of the family; under [`Rotation::Strict`] the only valid one from now on.
    pub(super) fn issue(&mut self, id: Uuid, expires_at: u64) -> Option<String> {
        let family = self.families.get_mut(&id)?;
        family.newest += 1;
        let ticket = Ticket { family: id, number: family.newest, expires_at };
        Some(seal(&self.seal, &ticket))
    }

    /// The family that `token` belongs to, valid or not; changes nothing.
    pub(super) fn peek(&self, token: &str) -> Option<&Family> {
        self.families.get(&unseal(&self.seal, token)?.family)
    }

    /// Uses a refresh token: the id of its family and the family.
    pub(super) fn redeem(&mut self, token: &str, now: u64) -> Result<(Uuid, Family), RefreshFault> {
        let ticket = unseal(&self.seal, token).ok_or(RefreshFault::Forged)?;
        let family = self.families.get(&ticket.family).ok_or(RefreshFault::Forged)?;
        if family.is_revoked {
            return Err(RefreshFault::Revoked);
        }
        if ticket.expires_at <= now {
            return Err(RefreshFault::Expired);
        }
        if self.rotation == Rotation::Strict && ticket.number != family.newest {
            self.revoke(ticket.family);
            return Err(RefreshFault::Reused);
        }
        Ok((ticket.family, family.clone()))
    }

    pub(super) fn revoke(&mut self, id: Uuid) {
        let Some(family) = self.families.get_mut(&id) else {
            return;
        };
        if !family.is_revoked {
            family.is_revoked = true;
            self.revoked += 1;
        }
    }

    /// Revokes all families of a user; the number revoked now.
    pub(super) fn revoke_user(&mut self, username: &str) -> usize {
        let ids: Vec<Uuid> = self
            .families
            .iter()
            .filter(|(_, family)| !family.is_revoked && family.user.username.eq_ignore_ascii_case(username))
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            self.revoke(*id);
        }
        ids.len()
    }

    pub(super) fn is_live(&self, id: Uuid) -> bool {
        self.families.get(&id).is_some_and(|family| !family.is_revoked)
    }

    pub(super) fn revoked(&self) -> u64 {
        self.revoked
    }
}

fn seal(key: &hmac::Key, ticket: &Ticket) -> String {
    let mut bytes = Vec::with_capacity(TICKET + FILLER + SEAL);
    bytes.extend_from_slice(ticket.family.as_bytes());
    bytes.extend_from_slice(&ticket.number.to_be_bytes());
    bytes.extend_from_slice(&ticket.expires_at.to_be_bytes());
    // Entra's refresh tokens are long; blobs in tests should be as large as real ones.
    bytes.extend_from_slice(&rand::random::<[u8; FILLER]>());
    let tag = hmac::sign(key, &bytes);
    bytes.extend_from_slice(tag.as_ref());
    format!("1.{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn unseal(key: &hmac::Key, token: &str) -> Option<Ticket> {
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix("1.")?).ok()?;
    if bytes.len() != TICKET + FILLER + SEAL {
        return None;
    }
    let (sealed, tag) = bytes.split_at(TICKET + FILLER);
    hmac::verify(key, sealed, tag).ok()?;
    Some(Ticket {
        family: Uuid::from_slice(&sealed[..16]).ok()?,
        number: u64::from_be_bytes(sealed[16..24].try_into().ok()?),
        expires_at: u64::from_be_bytes(sealed[24..32].try_into().ok()?),
    })
}
