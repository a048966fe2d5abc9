//! The built-in policy with what an organization sets of it.

use super::RDS_ENCRYPTION;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What can be set of the built-in policy, in the rollout file under `[parameters]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// More engines whose instances are not asked whether they are encrypted: `custom-*`, `mariadb`.
    pub exempt_engines: Vec<String>,
    /// The path of the roles that nothing of it binds: `/break-glass/`. The policy keeps all others from making or
    /// changing a role there, so the roles must be there before. Empty: nobody is exempt.
    pub break_glass: String,
    /// The tag of snapshots that nobody may restore: `unencrypted` or `unencrypted=yes`, and nobody may take off. Empty:
    /// none.
    pub restore_denied_tag: String,
}

/// Changes of a role by which somebody would become it (Service Authorization Reference, IAM).
const ROLE_CHANGES: &[&str] = &[
    "iam:AttachRolePolicy",
    "iam:CreateRole",
    "iam:DeleteRole",
    "iam:DeleteRolePermissionsBoundary",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
    "iam:PutRolePermissionsBoundary",
    "iam:PutRolePolicy",
    "iam:UpdateAssumeRolePolicy",
    "iam:UpdateRole",
];

/// The built-in policy with these parameters; without any it is [`RDS_ENCRYPTION`].
///
/// # Errors
/// A parameter that is not what it must be: its name, and what it must be.
pub fn rds_encryption(parameters: &Parameters) -> Result<String, String> {
    if *parameters == Parameters::default() {
        return Ok(RDS_ENCRYPTION.to_owned());
    }
    let mut policy: Value = serde_json::from_str(RDS_ENCRYPTION).map_err(|e| e.to_string())?;
    for engine in &parameters.exempt_engines {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-*?".contains(c);
        if engine.is_empty() || !engine.contains(char::is_alphanumeric) || !engine.chars().all(fine)
        {
            return Err(format!(
                "parameters.exempt_engines: `{engine}` is no engine's name (`mariadb`, `custom-*`)"
            ));
        }
        if let Some(Value::Array(engines)) =
            policy.pointer_mut("/Statement/0/Condition/StringNotLike/rds:DatabaseEngine")
        {
            engines.push(engine.as_str().into());
        }
    }
    let mut more = Vec::new();
    if !parameters.restore_denied_tag.is_empty() {
        more.extend(tagged(&parameters.restore_denied_tag)?);
    }
    if !parameters.break_glass.is_empty() {
        more.push(protect(&parameters.break_glass)?);
    }
    if let Some(Value::Array(statements)) = policy.get_mut("Statement") {
        statements.extend(more);
        if !parameters.break_glass.is_empty() {
            let exempt = format!("arn:*:iam::*:role{}*", parameters.break_glass);
            for statement in statements {
                statement["Condition"]["ArnNotLike"] = json!({"aws:PrincipalArn": exempt});
            }
        }
    }
    serde_json::to_string_pretty(&policy).map_err(|e| e.to_string())
}

/// Whoever could make a role on an exempt path would be exempt.
fn protect(path: &str) -> Result<Value, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "/-_+=.@,".contains(c);
    let inner = path.strip_prefix('/').and_then(|p| p.strip_suffix('/'));
    if inner.is_none_or(str::is_empty) || !path.chars().all(fine) {
        return Err(format!(
            "parameters.break_glass: `{path}` is no path of roles of their own (`/break-glass/`)"
        ));
    }
    Ok(json!({
        "Sid": "ProtectBreakGlass",
        "Effect": "Deny",
        "Action": ROLE_CHANGES,
        "Resource": format!("arn:*:iam::*:role{path}*"),
    }))
}

/// Restores of what bears a tag. `rds:snapshot-tag` and `rds:cluster-snapshot-tag` are of the snapshots that a call names
/// (Service Authorization Reference, RDS). Who may take the tag off may restore.
fn tagged(tag: &str) -> Result<[Value; 4], String> {
    let (key, value) = tag.split_once('=').unwrap_or((tag, "*"));
    let fine = |c: char| c.is_ascii_alphanumeric() || "_.:/=+-@*".contains(c);
    if key.is_empty() || key.contains('*') || !tag.chars().all(fine) {
        return Err(format!(
            "parameters.restore_denied_tag: `{tag}` is no tag (`unencrypted` or `unencrypted=yes`)"
        ));
    }
    let restore = |sid: &str, action: &str, of: &str| {
        json!({
            "Sid": sid, "Effect": "Deny", "Action": action, "Resource": "*",
            "Condition": {"StringLike": {format!("rds:{of}-tag/{key}"): value}},
        })
    };
    Ok([
        restore("DenyRestoreOfTagged", "rds:RestoreDBInstanceFromDBSnapshot", "snapshot"),
        restore(
            "DenyClusterRestoreOfTagged",
            "rds:RestoreDBClusterFromSnapshot",
            "cluster-snapshot",
        ),
        json!({
            "Sid": "KeepTag", "Effect": "Deny", "Action": "rds:RemoveTagsFromResource",
            "Resource": ["arn:*:rds:*:*:snapshot:*", "arn:*:rds:*:*:cluster-snapshot:*"],
            "Condition": {"ForAnyValue:StringEquals": {"aws:TagKeys": key}},
        }),
        // Another value would be as good as none.
        json!({
            "Sid": "KeepTagsValue", "Effect": "Deny", "Action": "rds:AddTagsToResource",
            "Resource": ["arn:*:rds:*:*:snapshot:*", "arn:*:rds:*:*:cluster-snapshot:*"],
            "Condition": {
                "ForAnyValue:StringEquals": {"aws:TagKeys": key},
                "StringLike": {format!("aws:ResourceTag/{key}"): value},
            },
        }),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::{coverage, lint, own};
    use super::*;
    use crate::history::replay;

    fn all() -> Parameters {
        Parameters {
            exempt_engines: vec!["mariadb".into()],
            break_glass: "/break-glass/".into(),
            restore_denied_tag: "unencrypted=yes".into(),
        }
    }

    #[test]
    fn parameters_change_what_they_say_and_nothing_else() {
        assert_eq!(rds_encryption(&Parameters::default()).unwrap(), RDS_ENCRYPTION);
        let text = rds_encryption(&all()).unwrap();
        let policy = lint(&text).unwrap();
        assert_eq!(policy.warnings, [], "its own exemption is protected");
        assert!(policy.minified.len() < 3_000, "{}", policy.minified.len());
        let covered = coverage(&text).unwrap();
        assert_eq!(covered[0].unencrypted, "denied by DenyUnencryptedInstance");
        let role = "arn:aws:iam::111122223333:role/RingfenceRemediation";
        let own = own(&replay("p", &text).unwrap(), role);
        assert_eq!(own.refusals(), Vec::<String>::new());
        assert!(own.warnings()[0].contains("rds:"), "{:?}", own.warnings());
        let exempt = "arn:aws:iam::111122223333:role/break-glass/ann";
        let free = super::super::own(&replay("p", &text).unwrap(), exempt);
        assert_eq!(free, super::super::Own::default(), "nothing binds who breaks the glass");
    }

    #[test]
    fn bad_parameters_are_refused_by_name() {
        for (parameters, want) in [
            (
                Parameters { exempt_engines: vec!["*".into()], ..all() },
                "parameters.exempt_engines: `*`",
            ),
            (Parameters { exempt_engines: vec!["My SQL".into()], ..all() }, "`My SQL`"),
            (Parameters { break_glass: "/".into(), ..all() }, "parameters.break_glass: `/`"),
            (Parameters { break_glass: "break-glass".into(), ..all() }, "`/break-glass/`"),
            (Parameters { break_glass: "/*/".into(), ..all() }, "`/*/`"),
            (
                Parameters { restore_denied_tag: "a b".into(), ..all() },
                "parameters.restore_denied_tag",
            ),
            (Parameters { restore_denied_tag: "=x".into(), ..all() }, "`=x`"),
        ] {
            let error = rds_encryption(&parameters).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
