//! The names of the keys; no other module knows them.

use super::RedisTokenCacheOptions;
use crate::account::CacheKey;

#[derive(Debug)]
pub(super) struct Keys {
    instance_name: String,
    /// The stream of the events.
    pub(super) outbox: String,
    /// The stream of what is no event.
    pub(super) refused: String,
}

impl Keys {
    pub(super) fn new(options: &RedisTokenCacheOptions) -> Self {
        let outbox = format!("{}{}", options.instance_name, options.outbox_name);
        Self { instance_name: options.instance_name.clone(), refused: format!("{outbox}.refused"), outbox }
    }

    pub(super) fn blob(&self, key: &CacheKey) -> String {
        format!("{}{key}", self.instance_name)
    }

    /// Who refreshes the blob just now.
    pub(super) fn refresh_lock(&self, key: &CacheKey) -> String {
        format!("{}{key}", self.refresh_locks())
    }

    /// The highest fence that has written the blob lately.
    pub(super) fn fence(&self, key: &CacheKey) -> String {
        format!("{}{key}", self.fences())
    }

    fn fences(&self) -> String {
        format!("{}.fence:", self.outbox)
    }

    fn refresh_locks(&self) -> String {
        format!("{}.refresh:", self.outbox)
    }

    /// What SCAN has to match: every name that begins with the instance name, taken literally.
    pub(super) fn pattern(&self) -> String {
        let mut pattern = String::with_capacity(self.instance_name.len() + 1);
        for character in self.instance_name.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern + "*"
    }

    /// The cache key whose blob has this name; `None` where none could have.
    pub(super) fn cache_key(&self, name: &[u8]) -> Option<CacheKey> {
        let name = std::str::from_utf8(name).ok()?;
        CacheKey::new(name.strip_prefix(&self.instance_name)?).ok()
    }

    /// Whether the name is not a blob's but the outbox's, or of what stands beside it.
    pub(super) fn is_of_the_outbox(&self, name: &[u8]) -> bool {
        let streams = [&self.outbox, &self.refused];
        let beside = [self.refresh_locks(), self.fences()];
        streams.iter().any(|stream| stream.as_bytes() == name)
            || beside.iter().any(|beginning| name.starts_with(beginning.as_bytes()))
    }
}
