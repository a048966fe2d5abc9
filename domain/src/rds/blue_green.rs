//! Blue/green deployments, as `DescribeBlueGreenDeployments` shows them.

use serde::{Deserialize, Serialize};

/// A blue/green deployment: production, a copy that AWS keeps in step with it, and a switch between the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlueGreen {
    /// `BlueGreenDeploymentIdentifier`: `bgd-` and what AWS makes of it.
    pub id: String,
    /// `BlueGreenDeploymentName`: ours to choose, and unique in an account and region.
    pub name: String,
    /// Its ARN is not in the answer; this is the ARN of what it was made of.
    pub source: String,
    /// For example `AVAILABLE`.
    pub status: String,
    /// `StatusDetails`: why it is so.
    pub details: Option<String>,
    /// Each database of it, with the one that was made of it.
    pub members: Vec<Pairing>,
    /// The `ringfence:remediation` tag, if it has one.
    pub made_by: Option<String>,
}

/// A database of a blue/green deployment and its counterpart (`SwitchoverDetails`); both as ARNs, which change with
/// the names at the switchover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairing {
    /// In the blue environment.
    pub source: String,
    /// In the green one; none until there is one.
    pub target: Option<String>,
    /// For example `PROVISIONING`.
    pub status: String,
}

/// The name at the end of an ARN.
pub fn name_in(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or(arn)
}

impl BlueGreen {
    /// The name of the counterpart of a database, by the latter's ARN.
    pub fn target_of(&self, source: &str) -> Option<&str> {
        let found = self.members.iter().find(|m| m.source == source);
        found.and_then(|m| m.target.as_deref()).map(name_in)
    }

    /// Its status, with AWS's reason.
    pub fn doing(&self) -> String {
        match self.details.as_deref().filter(|d| !d.is_empty()) {
            Some(details) => format!("{} ({details})", self.status),
            None => self.status.clone(),
        }
    }
}
