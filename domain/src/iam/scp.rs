//! What the service control policies from the root down to an account say of a request.
//!
//! "For a permission to be allowed for an account, there must be an explicit Allow statement at every level from the
//! root through each OU in the direct path to the account", and no Deny at any (Organizations guide, "SCP
//! evaluation").

use super::document::Policy;
use super::{Request, any};
use std::fmt;
use std::sync::Arc;

/// A policy that is attached somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Its name and id, for people.
    pub name: String,
    /// What it says, or why that could not be read.
    pub policy: Result<Policy, String>,
}

/// The policies of a root, an OU or an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Its name and id, for people.
    pub node: String,
    /// What is attached to it directly.
    pub policies: Vec<Arc<Attached>>,
}

/// What they say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes through.
    Allowed,
    /// It does not, because of each of these.
    Denied(Vec<Reason>),
    /// These decide, and nobody can tell how.
    Unknown(Vec<Reason>),
}

/// What decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A statement.
    Statement {
        /// Where the policy is attached.
        node: String,
        /// The policy.
        policy: String,
        /// The statement.
        statement: String,
        /// The keys whose values would have to be known.
        keys: Vec<String>,
    },
    /// No policy there allows it.
    NothingAllows {
        /// The root, OU or account.
        node: String,
        /// Whether that is sure.
        sure: bool,
    },
    /// A policy that is not understood.
    Unread {
        /// Where it is attached.
        node: String,
        /// The policy.
        policy: String,
        /// Why.
        why: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Statement { node, policy, statement, keys } => {
                write!(f, "{statement} of {policy} on {node}")?;
                if keys.is_empty() { Ok(()) } else { write!(f, " (by {})", keys.join(", ")) }
            }
            Reason::NothingAllows { node, sure: true } => {
                write!(f, "no policy on {node} allows it")
            }
            Reason::NothingAllows { node, sure: false } => {
                write!(f, "no policy on {node} is known to allow it")
            }
            Reason::Unread { node, policy, why } => {
                write!(f, "{policy} on {node} is not understood: {why}")
            }
        }
    }
}

impl Reason {
    /// The same where it is clear which policy is meant.
    pub fn short(&self) -> String {
        match self {
            Reason::Statement { statement, keys, .. } if keys.is_empty() => statement.clone(),
            Reason::Statement { statement, keys, .. } => {
                format!("{statement} (by {})", keys.join(", "))
            }
            Reason::NothingAllows { .. } | Reason::Unread { .. } => self.to_string(),
        }
    }
}

/// Asks all levels. A sure denial decides, whatever else is not known.
///
/// AWS lets nobody detach the last policy of a root, OU or account. Where no level has any, SCPs are not in force;
/// where one has none and another does, they were read while somebody changed them.
pub fn judge(levels: &[Level], request: &Request) -> Verdict {
    if levels.iter().all(|l| l.policies.is_empty()) {
        return Verdict::Allowed;
    }
    let (mut denied, mut unknown) = (Vec::new(), Vec::new());
    for (level, policy) in levels.iter().flat_map(|l| l.policies.iter().map(move |p| (l, p))) {
        let (node, id) = (level.node.clone(), policy.name.clone());
        let statements = match &policy.policy {
            Ok(policy) => policy.statements.iter().filter(|s| s.denies),
            Err(why) => {
                unknown.push(Reason::Unread { node, policy: id, why: why.clone() });
                continue;
            }
        };
        for statement in statements {
            let reason = |keys| Reason::Statement {
                node: node.clone(),
                policy: id.clone(),
                statement: statement.name.clone(),
                keys,
            };
            match statement.applies(request) {
                Some(true) => denied.push(reason(Vec::new())),
                Some(false) => {}
                None => unknown.push(reason(statement.unknown_keys(request))),
            }
        }
    }
    for level in levels {
        let node = level.node.clone();
        let policies = level.policies.iter().filter_map(|p| p.policy.as_ref().ok());
        let allows = policies.flat_map(|p| p.statements.iter().filter(|s| !s.denies));
        match any(allows.map(|s| s.applies(request))) {
            Some(true) => {}
            // What is not understood, or was not read, may be what allows it.
            Some(false) if known(level) => {
                denied.push(Reason::NothingAllows { node, sure: true });
            }
            Some(false) | None => unknown.push(Reason::NothingAllows { node, sure: false }),
        }
    }
    match (denied.is_empty(), unknown.is_empty()) {
        (false, _) => Verdict::Denied(denied),
        (true, false) => Verdict::Unknown(unknown),
        (true, true) => Verdict::Allowed,
    }
}

fn known(level: &Level) -> bool {
    !level.policies.is_empty() && level.policies.iter().all(|p| p.policy.is_ok())
}
