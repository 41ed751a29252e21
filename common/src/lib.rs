//! What the web side and the read side share: accounts, events, the log, the index, the token cache.

pub mod token_cache;
