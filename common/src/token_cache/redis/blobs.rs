//! Blobs in Redis: one script per operation and layout.

use super::RedisTokenCache;
use super::append::APPEND_EVENT;
use super::layout::{Layout, WrittenExpiry};
use super::script::Script;
use crate::account::CacheKey;
use crate::backend::{BackendError, Trouble};
use crate::event::{EventDraft, encode_draft};
use crate::token_cache::BlobDigest;
use crate::token_cache::port::{CacheWrite, Expiry, ExpiryChange, Precondition, Reread, TokenCacheStore, WriteOutcome};
use async_trait::async_trait;

/// Sets or clears the TTL. `absolute` and `sliding` are milliseconds, or empty.
const KEEP_UNTIL: &str = "
local function keep_until(key, absolute, sliding)
    local deadline = tonumber(absolute)
    if sliding ~= '' then
        local now = redis.call('TIME')
        local unread = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(sliding)
        deadline = math.min(deadline or unread, unread)
    end
    if deadline then
        redis.call('PEXPIREAT', key, string.format('%.0f', deadline))
    else
        redis.call('PERSIST', key)
    end
end
";

/// Starts a sliding window anew, by the two expiries of a hash.
const SLIDE: &str = "
local function slide(key, absexp, sldexp)
    local absolute = ''
    if absexp and absexp ~= '-1' and absexp ~= '' then
        absolute = (tonumber(absexp) - 621355968000000000) / 10000
    end
    keep_until(key, absolute, tonumber(sldexp) / 10000)
end
";

/// [`CacheWrite::FENCE_KEPT`].
const FENCE_KEPT_MS: &str = "900000";

/// What differs by layout: `blob_of(key)`, `has_blob(key)`, `set_blob(key)` and `set_blob_within(key)`, which keeps
/// the expiry that is stored. They raise WRONGTYPE for a key of the other layout.
const ASPNET: &str = "
local function blob_of(key) return redis.call('HGET', key, 'data') end
local function has_blob(key) return redis.call('HEXISTS', key, 'data') == 1 end
local function set_blob(key)
    return redis.pcall('HSET', key, 'absexp', ARGV[3], 'sldexp', ARGV[4], 'data', ARGV[7])
end
local function set_blob_within(key)
    local set = redis.pcall('HSET', key, 'data', ARGV[7])
    if type(set) == 'table' then return set end
    redis.call('HSETNX', key, 'absexp', '-1')
    redis.call('HSETNX', key, 'sldexp', '-1')
    local expiry = redis.call('HMGET', key, 'absexp', 'sldexp')
    if expiry[2] ~= '-1' then slide(key, expiry[1], expiry[2]) end
    return set
end
";

/// SET would overwrite a hash without a word, which STRLEN prevents.
const STRING: &str = "
local function blob_of(key) return redis.call('GET', key) end
local function has_blob(key) return redis.call('EXISTS', key) == 1 and redis.call('STRLEN', key) >= 0 end
local function set_blob(key)
    local length = redis.pcall('STRLEN', key)
    if type(length) == 'table' then return length end
    return redis.pcall('SET', key, ARGV[7])
end
local function set_blob_within(key)
    local length = redis.pcall('STRLEN', key)
    if type(length) == 'table' then return length end
    return redis.pcall('SET', key, ARGV[7], 'KEEPTTL')
end
";

/// KEYS: blob, outbox, and the fence where one is carried. ARGV: precondition, draft, absolute ticks (empty: keep the
/// stored expiry), sliding ticks, absolute ms, sliding ms, blob, expected blob, fence, ms to remember the fence.
/// Returns 1, 0 where the precondition does not hold, or 2 where a higher fence has written.
///
/// The event goes first: where it cannot be appended, nothing is written; where the blob cannot, it is taken back.
const WRITE: &str = "
local key, outbox, fence = KEYS[1], KEYS[2], KEYS[3]
if fence and tonumber(redis.call('GET', fence) or '0') > tonumber(ARGV[9]) then return 2 end
if ARGV[1] == 'absent' and has_blob(key) then return 0 end
if ARGV[1] == 'unchanged' and blob_of(key) ~= ARGV[8] then return 0 end
local event = ARGV[2] ~= '' and append_event(outbox, ARGV[2])
local keeps_expiry = ARGV[3] == ''
local written
if keeps_expiry then written = set_blob_within(key) else written = set_blob(key) end
if type(written) == 'table' and written.err then
    if event then redis.call('XDEL', outbox, event) end
    return written
end
if not keeps_expiry then keep_until(key, ARGV[5], ARGV[6]) end
if fence then redis.call('SET', fence, ARGV[9], 'PX', ARGV[10]) end
return 1
";

/// KEYS: blob, outbox. ARGV: draft. Returns whether there was a blob.
const REMOVE: &str = "
local was_there = has_blob(KEYS[1])
if ARGV[1] ~= '' then append_event(KEYS[2], ARGV[1]) end
redis.call('DEL', KEYS[1])
return was_there and 1 or 0
";

/// KEYS: blob. ARGV: the expiries as they were read. A blob that was written since has its own and is left alone.
const REARM: &str = "
local expiry = redis.call('HMGET', KEYS[1], 'absexp', 'sldexp')
if (expiry[1] or '') ~= ARGV[1] or expiry[2] ~= ARGV[2] then return 0 end
slide(KEYS[1], ARGV[1], ARGV[2])
return 1
";

/// KEYS: blob. ARGV: the digest of a copy. Returns 0 and nothing where there is no blob, 1 and nothing where it has that
/// digest, else 2 and the blob.
const REREAD: &str = "
local blob = read_blob(KEYS[1])
if not blob then return {0, false} end
if redis.sha1hex(blob) == ARGV[1] then return {1, false} end
return {2, blob}
";

const READ_ASPNET: &str = "
local function read_blob(key)
    local read = redis.call('HMGET', key, 'absexp', 'sldexp', 'data')
    if read[3] and read[2] ~= '-1' and tonumber(read[2] or '') then slide(key, read[1], read[2]) end
    return read[3]
end
";

const READ_STRING: &str = "
local function read_blob(key) return redis.call('GET', key) end
";

#[derive(Debug)]
pub(super) struct BlobScripts {
    write: Script,
    remove: Script,
    rearm: Script,
    reread: Script,
}

impl BlobScripts {
    pub(super) fn new(layout: Layout) -> Self {
        let (access, read) = match layout {
            Layout::Aspnet => (ASPNET, READ_ASPNET),
            Layout::String => (STRING, READ_STRING),
        };
        Self {
            write: Script::new(&[APPEND_EVENT, KEEP_UNTIL, SLIDE, access, WRITE]),
            remove: Script::new(&[APPEND_EVENT, access, REMOVE]),
            rearm: Script::new(&[KEEP_UNTIL, SLIDE, REARM]),
            reread: Script::new(&[KEEP_UNTIL, SLIDE, read, REREAD]),
        }
    }
}

#[async_trait]
impl TokenCacheStore for RedisTokenCache {
    async fn read(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        match self.shared.layout {
            Layout::Aspnet => self.read_hash(key).await,
            Layout::String => self.read_value(key).await,
        }
    }

    async fn reread(&self, key: &CacheKey, known: &BlobDigest) -> Result<Reread, BackendError> {
        let name = self.shared.keys.blob(key);
        let answer = self.run(&self.shared.blobs.reread, &[&name], &[known.as_str().as_bytes()]).await?;
        Ok(match answer {
            (2, Some(blob)) => Reread::Changed(blob),
            (1_u8, _) => Reread::Unchanged,
            _ => Reread::Absent,
        })
    }

    async fn write(&self, write: CacheWrite<'_>) -> Result<WriteOutcome, BackendError> {
        if self.shared.layout == Layout::String && is_sliding(write.expiry) {
            return Err(self.no_sliding());
        }
        match self.run_write(&write).await? {
            0 => Ok(WriteOutcome::Conflict),
            2 => Ok(WriteOutcome::Fenced),
            _ => Ok(WriteOutcome::Written),
        }
    }

    async fn remove(&self, key: &CacheKey, event: Option<&EventDraft>) -> Result<bool, BackendError> {
        let draft = event.map(encode_draft).unwrap_or_default();
        let keys = [&self.shared.keys.blob(key), self.shared.keys.outbox.as_str()];
        self.run(&self.shared.blobs.remove, &keys, &[&draft]).await
    }
}

fn is_sliding(expiry: ExpiryChange) -> bool {
    matches!(expiry, ExpiryChange::To(Expiry { sliding: Some(_), .. }))
}

type Hash = (Option<String>, Option<String>, Option<Vec<u8>>);

impl RedisTokenCache {
    async fn read_hash(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        let key = self.shared.keys.blob(key);
        let mut connection = self.connection().await?;
        let query = redis::cmd("HMGET").arg(&key).arg(&["absexp", "sldexp", "data"]).to_owned();
        let (absolute, sliding, data): Hash = query.query_async(&mut *connection).await.map_err(|e| self.error(e))?;
        drop(connection);
        if let Some(sliding) = sliding.filter(|ticks| data.is_some() && ticks != "-1") {
            self.rearm(&key, &absolute.unwrap_or_default(), &sliding).await;
        }
        Ok(data)
    }

    async fn read_value(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, BackendError> {
        let mut connection = self.connection().await?;
        let query = redis::cmd("GET").arg(self.shared.keys.blob(key)).to_owned();
        query.query_async(&mut *connection).await.map_err(|e| self.error(e))
    }

    /// Starts the sliding window anew. The reader has its blob already, so a failure only shortens the blob's life.
    async fn rearm(&self, key: &str, absolute: &str, sliding: &str) {
        let args = [absolute.as_bytes(), sliding.as_bytes()];
        if let Err(error) = self.run::<()>(&self.shared.blobs.rearm, &[key], &args).await {
            tracing::warn!(%error, "the sliding expiry of a blob was not re-armed");
        }
    }

    async fn run_write(&self, write: &CacheWrite<'_>) -> Result<u8, BackendError> {
        let (precondition, expected): (&str, &[u8]) = match write.precondition {
            Precondition::None => ("none", b""),
            Precondition::Absent => ("absent", b""),
            Precondition::Unchanged(expected) => ("unchanged", expected),
        };
        let draft = write.event.map(encode_draft).unwrap_or_default();
        let expiry = WrittenExpiry::from(write.expiry);
        let (blob, fence_name) = (self.shared.keys.blob(write.key), self.shared.keys.fence(write.key));
        let keys = [&blob, self.shared.keys.outbox.as_str(), &fence_name];
        let keys = if write.fence.is_some() { &keys[..] } else { &keys[..2] };
        let fence = write.fence.map(|fence| fence.to_string()).unwrap_or_default();
        let args = [
            precondition.as_bytes(),
            &draft,
            expiry.absolute_ticks.as_bytes(),
            expiry.sliding_ticks.as_bytes(),
            expiry.absolute_ms.as_bytes(),
            expiry.sliding_ms.as_bytes(),
            write.blob,
            expected,
            fence.as_bytes(),
            FENCE_KEPT_MS.as_bytes(),
        ];
        self.run(&self.shared.blobs.write, keys, &args).await
    }

    fn no_sliding(&self) -> BackendError {
        let message = "the layout `string` has no place for a sliding expiry; set an absolute one, or the layout \
                       `aspnet`";
        BackendError::plain(Trouble::Refused, self.shared.pool.address(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_kept_as_long_as_the_port_says() {
        assert_eq!(FENCE_KEPT_MS, CacheWrite::FENCE_KEPT.as_millis().to_string());
    }
}
