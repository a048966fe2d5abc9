//! SHA-256 over canonical JSON: what approvals bind to and names are cut with.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// SHA-256 of bytes, as 64 hex digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 of a value's JSON. Canonical as long as the value holds ordered maps only, which is why
/// every map in this crate is a `BTreeMap`.
pub fn of<T: Serialize>(value: &T) -> String {
    match serde_json::to_vec(value) {
        Ok(bytes) => sha256(&bytes),
        // Our documents are plain data with text keys, for which serde_json has no error.
        Err(error) => unreachable!("a document that is not JSON: {error}"),
    }
}

/// The first `digits` hex digits of the SHA-256 of a text.
pub fn short(text: &str, digits: usize) -> String {
    let mut hex = sha256(text.as_bytes());
    hex.truncate(digits);
    hex
}
