//! What an envelope is bound to, as bytes that can be read in one way only.

use super::blob_cipher::EnvelopeScope;
use crate::account::CacheKey;

/// Each part after its length, so that no two places have the same bytes.
pub(super) fn associated_data(header: &[u8], scope: &EnvelopeScope, key: &CacheKey) -> Vec<u8> {
    let parts = [header, scope.instance_name.as_bytes(), key.as_str().as_bytes(), scope.client_id.as_str().as_bytes()];
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use crate::account::ClientId;

    use super::*;

    #[test]
    fn a_border_between_two_parts_cannot_be_moved() {
        let data = |instance: &str, key: &str, client: &str| {
            let scope = EnvelopeScope { instance_name: instance.to_owned(), client_id: ClientId::new(client).unwrap() };
            associated_data(b"header", &scope, &CacheKey::new(key).unwrap())
        };
        assert_ne!(data("a:", "bc", "d"), data("a:b", "c", "d"));
        assert_ne!(data("a:", "bc", "d"), data("a:", "b", "cd"));
        assert_ne!(data("", "abc", "d"), data("abc", "d", "d"));
    }
}
