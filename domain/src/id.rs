//! Identifiers, parsed once at the edge and trusted afterwards.
//!
//! The patterns are those of the AWS Organizations API reference (botocore `organizations`
//! 2016-11-28): root `r-[0-9a-z]{4,32}`, OU `ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}`, account `\d{12}`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text is not the identifier that it should be. The message names the form that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct IdError {
    /// The text as given.
    pub text: String,
    /// The form that was wanted, with an example.
    pub wanted: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError { text: text.to_owned(), wanted: $wanted })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// An AWS account id: 12 digits.
    AccountId,
    "an account id (12 digits, for example 111122223333)",
    |t| t.len() == 12 && t.bytes().all(|b| b.is_ascii_digit())
);
id!(
    /// An AWS region code, for example `eu-central-1`.
    Region,
    "a region code (for example eu-central-1)",
    |t| {
        let parts: Vec<&str> = t.split('-').collect();
        parts.len() >= 3
            && t.len() <= 32
            && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric()))
            && t.bytes().all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit())
            && parts.last().is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()))
    }
);
id!(
    /// A node of the organization that an SCP can be attached to: root, OU or account.
    NodeId,
    "a root (r-abcd), an OU (ou-abcd-12345678) or an account id (12 digits)",
    |t| is_account(t) || is_root(t) || is_ou(t)
);

fn lower_alnum(t: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&t.len())
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_account(t: &str) -> bool {
    t.len() == 12 && t.bytes().all(|b| b.is_ascii_digit())
}

fn is_root(t: &str) -> bool {
    t.strip_prefix("r-").is_some_and(|rest| lower_alnum(rest, 4, 32))
}

fn is_ou(t: &str) -> bool {
    t.strip_prefix("ou-")
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(root, own)| lower_alnum(root, 4, 32) && lower_alnum(own, 8, 32))
}

impl NodeId {
    /// Whether this is the organization's root.
    pub fn is_root(&self) -> bool {
        is_root(&self.0)
    }

    /// The account, if this node is one.
    pub fn account(&self) -> Option<AccountId> {
        self.0.parse().ok()
    }
}

impl From<&AccountId> for NodeId {
    fn from(account: &AccountId) -> NodeId {
        NodeId(account.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_checked_by_form() {
        for (text, account, region, node) in [
            ("111122223333", true, false, true),
            ("11112222333", false, false, false),
            ("r-ab12", false, false, true),
            ("ou-ab12-abcdefgh", false, false, true),
            ("ou-ab12", false, false, false),
            ("eu-central-1", false, true, false),
            ("us-gov-west-1", false, true, false),
            ("eu-central-1/../x", false, false, false),
            ("EU-CENTRAL-1", false, false, false),
            ("", false, false, false),
        ] {
            assert_eq!(text.parse::<AccountId>().is_ok(), account, "account {text:?}");
            assert_eq!(text.parse::<Region>().is_ok(), region, "region {text:?}");
            assert_eq!(text.parse::<NodeId>().is_ok(), node, "node {text:?}");
        }
    }

    #[test]
    fn a_wrong_id_says_what_is_wanted() {
        let error = "1234".parse::<AccountId>().unwrap_err().to_string();
        assert_eq!(error, "`1234` is not an account id (12 digits, for example 111122223333)");
    }
}
