//! Four eyes: distinct people, never the author, bound to a hash.

use crate::time::Time;
use serde::{Deserialize, Serialize};

/// One person's agreement with one exact document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who agreed.
    pub by: String,
    /// When.
    pub at: Time,
    /// Why, in the person's words.
    pub reason: String,
    /// The SHA-256 of the document that was agreed to.
    pub hash: String,
}

/// Why an approval is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// The author may not approve.
    #[error("`{0}` is the author: an approval must come from another person")]
    Author(String),
    /// No reason was given.
    #[error("an approval needs a reason (--reason), for example a change number")]
    NoReason,
    /// The hash is of another version.
    #[error("the hash is {given}, but the document's is {wanted}: read it again before approving")]
    OtherHash {
        /// The hash that the approver saw.
        given: String,
        /// The hash of the document as it is.
        wanted: String,
    },
}

/// Checks one approval before it is kept.
pub fn check(author: &str, hash: &str, approval: &Approval) -> Result<(), ApprovalError> {
    // Without regard to case: `Ann` is not another person than `ann`.
    if approval.by.eq_ignore_ascii_case(author) {
        return Err(ApprovalError::Author(author.to_owned()));
    }
    if approval.reason.trim().is_empty() {
        return Err(ApprovalError::NoReason);
    }
    if approval.hash != hash {
        return Err(ApprovalError::OtherHash {
            given: approval.hash.clone(),
            wanted: hash.to_owned(),
        });
    }
    Ok(())
}

/// How many more distinct people must approve this hash. Checked again before every act, so that an
/// approval kept by an older version or slipped into the store cannot count for its author.
pub fn missing(author: &str, hash: &str, approvals: &[Approval], needed: usize) -> usize {
    let people: std::collections::BTreeSet<String> = approvals
        .iter()
        .filter(|a| check(author, hash, a).is_ok())
        .map(|a| a.by.to_ascii_lowercase())
        .collect();
    needed.saturating_sub(people.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(who: &str, hash: &str) -> Approval {
        Approval { by: who.into(), at: Time(0), reason: "CHG-1".into(), hash: hash.into() }
    }

    #[test]
    fn only_distinct_others_on_this_hash_count() {
        for (approvals, needed, want) in [
            (vec![], 1, 1),
            (vec![by("bob", "h")], 1, 0),
            (vec![by("ann", "h")], 1, 1),
            (vec![by("ANN", "h")], 1, 1),
            (vec![by("bob", "h"), by("Bob", "h")], 2, 1),
            (vec![by("bob", "old")], 1, 1),
            (vec![by("bob", "h"), by("bob", "h")], 2, 1),
            (vec![by("bob", "h"), by("eve", "h")], 2, 0),
            (vec![], 0, 0),
        ] {
            assert_eq!(missing("ann", "h", &approvals, needed), want, "{approvals:?}");
        }
    }

    #[test]
    fn an_approval_without_a_reason_is_refused() {
        let approval = Approval { reason: "  ".into(), ..by("bob", "h") };
        assert_eq!(check("ann", "h", &approval), Err(ApprovalError::NoReason));
    }
}
