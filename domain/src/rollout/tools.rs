//! Other tools that attach service control policies, by the traces that they leave: one that undoes what others do would
//! undo a rollout, too.

/// A tool that manages policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tool {
    /// What people call it.
    pub name: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

/// Its moves of accounts, and those of others.
pub const CONTROL_TOWER: Tool = Tool {
    name: "AWS Control Tower",
    advice: "it leaves policies of others alone; an account that is moved is drift to it (Control Tower user guide, drift)",
};

/// Its function that undoes attachments has a role of this name, whatever prefix and suffix it was given: the function is there
/// only where `scpRevertChangesConfig` is enabled (landing-zone-accelerator-on-aws, `revert-scp-changes.ts`, in the management
/// account).
pub const REVERTS: &str = "RevertScpChanges";

/// What may undo a rollout.
pub const ACCELERATOR: Tool = Tool {
    name: "Landing Zone Accelerator",
    advice: "with scpRevertChangesConfig enabled it undoes attachments that its configuration does not have: turn that off, or name the policy there",
};

const CUSTOMIZATIONS: Tool = Tool {
    name: "Customizations for AWS Control Tower",
    advice: "it updates the policies of its manifest everywhere at once: keep this policy out of the manifest",
};

const FRAMEWORK: Tool = Tool {
    name: "AWS Deployment Framework",
    advice: "it manages the policies of its adf-bootstrap folders: keep this policy out of them",
};

/// The tool that made a policy of this name.
pub fn of_policy(name: &str) -> Option<Tool> {
    let name = name.to_ascii_lowercase();
    let first = |prefix: &str| name.starts_with(prefix);
    match () {
        () if first("aws-guardrails-") => Some(CONTROL_TOWER),
        () if first("awsaccelerator") => Some(ACCELERATOR),
        () if first("adf-") => Some(FRAMEWORK),
        () => None,
    }
}

/// The tool whose role this session or role is (its ARN).
pub fn of_principal(arn: &str) -> Option<Tool> {
    let session = arn.split(":assumed-role/").nth(1).and_then(|s| s.split('/').next());
    let role = session.or(arn.split(":role/").nth(1))?.to_ascii_lowercase();
    let has = |part: &str| role.contains(part);
    match () {
        // Its stack's name begins its roles' names.
        () if has("customcontroltower") || has("custom-control-tower") => Some(CUSTOMIZATIONS),
        () if has("awscontroltower") => Some(CONTROL_TOWER),
        () if has("awsaccelerator") => Some(ACCELERATOR),
        () if has("adf-") || has("aws-deployment-framework") => Some(FRAMEWORK),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_known_by_their_traces() {
        for (arn, want) in [
            ("arn:aws:sts::111122223333:assumed-role/AWSControlTowerAdmin/x", "AWS Control Tower"),
            (
                "arn:aws:sts::111122223333:assumed-role/AWSAccelerator-RevertScpChanges-1/fn",
                "Landing Zone Accelerator",
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/CustomControlTowerStack-StateMachineLambdaRole-1/fn",
                "Customizations for AWS Control Tower",
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/adf-global-base/x",
                "AWS Deployment Framework",
            ),
            ("arn:aws:sts::111122223333:assumed-role/admin/AWSAccelerator", ""),
            ("arn:aws:iam::111122223333:user/awscontroltower", ""),
        ] {
            assert_eq!(of_principal(arn).map_or("", |t| t.name), want, "{arn}");
        }
        assert_eq!(of_policy("aws-guardrails-aBcDeF").map(|t| t.name), Some("AWS Control Tower"));
        assert_eq!(of_policy("ringfence-rds-encryption-12345678"), None);
    }
}
