//! What AWS policies say of a request, as far as it is known.
//!
//! Three values: a condition on a key whose value nobody knows here is neither met nor not met, and what depends on
//! it is [`None`], never a guess. Rules: IAM guide, "Policy evaluation logic", "IAM JSON policy elements";
//! Organizations guide, "SCP evaluation".

pub mod condition;
pub mod document;
pub mod pattern;
pub mod scp;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

/// One action on one resource. A call is often several of these, and goes through only if all do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `rds:CreateDBInstance`.
    pub action: String,
    /// The ARN; wildcards stand for what is not known of it. `*` where the action has no resource.
    pub resource: String,
    /// What else is known.
    pub context: Context,
}

/// The keys of a request: their values, or that it has none; any other is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    keys: BTreeMap<String, Option<Vec<String>>>,
    complete: bool,
}

impl Context {
    /// A key with one value.
    #[must_use]
    pub fn with(self, key: &str, value: &str) -> Context {
        self.with_all(key, &[value])
    }

    /// A key with several.
    #[must_use]
    pub fn with_all(mut self, key: &str, values: &[&str]) -> Context {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        self.keys.insert(key.to_ascii_lowercase(), Some(values));
        self
    }

    /// A key that the request does not have.
    #[must_use]
    pub fn without(mut self, key: &str) -> Context {
        self.keys.insert(key.to_ascii_lowercase(), None);
        self
    }

    /// That it has no other keys than the named ones.
    #[must_use]
    pub fn complete(mut self) -> Context {
        self.complete = true;
        self
    }

    /// `None` where nobody knows; `Some(None)` where the request does not have it. Keys have no case.
    pub fn get(&self, key: &str) -> Option<Option<&[String]>> {
        match self.keys.get(&key.to_ascii_lowercase()) {
            Some(values) => Some(values.as_deref()),
            None if self.complete => Some(None),
            None => None,
        }
    }
}

/// Whether all hold: one that does not decides, else one that nobody knows.
pub fn all(answers: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let mut known = Some(true);
    for answer in answers {
        match answer {
            Some(true) => {}
            Some(false) => return Some(false),
            None => known = None,
        }
    }
    known
}

/// Whether one holds: one that does decides, else one that nobody knows.
pub fn any(answers: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    all(answers.into_iter().map(|a| a.map(|a| !a))).map(|none| !none)
}
