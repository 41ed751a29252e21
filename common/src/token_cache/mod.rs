//! The distributed token cache: one blob per cache key.

pub mod msal;
