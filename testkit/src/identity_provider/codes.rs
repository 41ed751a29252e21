//! Authorization codes that wait to be redeemed.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::scope::Scopes;
use super::user::User;

const LIFETIME_SECONDS: u64 = 600;
const MOST_CODES: usize = 100_000;

/// What a code stands for.
#[derive(Debug, Clone)]
pub(super) struct CodeGrant {
    pub(super) user: Arc<User>,
    pub(super) tenant_id: String,
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) scopes: Scopes,
    pub(super) nonce: Option<String>,
    pub(super) code_challenge: Option<String>,
}

/// Why a code is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CodeFault {
    Unknown,
    Expired,
    AlreadyRedeemed,
}

#[derive(Debug)]
struct Issued {
    grant: CodeGrant,
    expires_at: u64,
    redeemed: bool,
}

/// The codes of the last ten minutes.
#[derive(Debug, Default)]
pub(super) struct Codes {
    issued: HashMap<String, Issued>,
}

impl Codes {
    /// A new code, or none when too many wait already.
    pub(super) fn issue(&mut self, grant: CodeGrant, now: u64) -> Option<String> {
        if self.issued.len() >= MOST_CODES {
            self.issued.retain(|_, issued| issued.expires_at > now);
        }
        if self.issued.len() >= MOST_CODES {
            return None;
        }
        let code = format!("1.{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 48]>()));
        let issued = Issued { grant, expires_at: now + LIFETIME_SECONDS, redeemed: false };
        self.issued.insert(code.clone(), issued);
        Some(code)
    }

    pub(super) fn peek(&self, code: &str) -> Option<&CodeGrant> {
        self.issued.get(code).map(|issued| &issued.grant)
    }

    /// Uses a code up.
    pub(super) fn redeem(&mut self, code: &str, now: u64) -> Result<CodeGrant, CodeFault> {
        let issued = self.issued.get_mut(code).ok_or(CodeFault::Unknown)?;
        if issued.redeemed {
            return Err(CodeFault::AlreadyRedeemed);
        }
        if issued.expires_at <= now {
            return Err(CodeFault::Expired);
        }
        issued.redeemed = true;
        Ok(issued.grant.clone())
    }
}
