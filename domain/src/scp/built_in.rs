//! The built-in policy with what an organization sets of it.

use super::RDS_ENCRYPTION;
use crate::id::AccountId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What can be set of the built-in policy, in the rollout file under `[parameters]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// More engines whose instances are not asked whether they are encrypted: `custom-*`, `mariadb`.
    pub exempt_engines: Vec<String>,
    /// The path of the roles that nothing of it binds: `/break-glass/`. The policy keeps all others from making or
    /// changing a role there, so the roles must be there before. Empty: nobody is exempt.
    pub break_glass: String,
    /// Whether accounts with a waiver (`ringfence finding waive --account`) when it is planned are left alone by all of it
    /// but what protects `break_glass`.
    pub exempt_waived: bool,
    /// The tag of snapshots that nobody may restore: `unencrypted` or `unencrypted=yes`, and nobody may take off. Empty:
    /// none.
    pub restore_denied_tag: String,
}

/// The statement that protects the exempt roles.
const PROTECT: &str = "ProtectBreakGlass";

/// The account of whoever calls (IAM user guide, global condition keys).
const ACCOUNT: &str = "aws:PrincipalAccount";

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

/// The built-in policy with these parameters; without any it is [`RDS_ENCRYPTION`]. `waived` are the accounts that have a
/// waiver, of which nothing is said unless `exempt_waived` is set.
///
/// # Errors
/// A parameter that is not what it must be: its name, and what it must be.
pub fn rds_encryption(
    parameters: &Parameters,
    waived: &BTreeSet<AccountId>,
) -> Result<String, String> {
    let waived: Vec<&str> = match parameters.exempt_waived {
        true => waived.iter().map(AccountId::as_str).collect(),
        false => Vec::new(),
    };
    let others = Parameters { exempt_waived: false, ..parameters.clone() };
    if waived.is_empty() && others == Parameters::default() {
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
        // A service's own calls have no such key, and stay denied.
        for statement in statements.iter_mut().filter(|s| !waived.is_empty() && s["Sid"] != PROTECT)
        {
            statement["Condition"]["StringNotEquals"] = json!({ACCOUNT: waived});
        }
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
        "Sid": PROTECT,
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
    use super::super::{coverage, exempt, lint, own};
    use super::*;
    use crate::history::replay;

    fn all() -> Parameters {
        Parameters {
            exempt_engines: vec!["mariadb".into()],
            break_glass: "/break-glass/".into(),
            exempt_waived: false,
            restore_denied_tag: "unencrypted=yes".into(),
        }
    }

    #[test]
    fn parameters_change_what_they_say_and_nothing_else() {
        let built = |parameters: &Parameters| rds_encryption(parameters, &BTreeSet::new()).unwrap();
        assert_eq!(built(&Parameters::default()), RDS_ENCRYPTION);
        let text = built(&all());
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
    fn accounts_with_a_waiver_are_left_alone_where_that_is_wanted() {
        let waived: BTreeSet<AccountId> = ["444455556666".parse().unwrap()].into();
        let free = Parameters { exempt_waived: true, ..Parameters::default() };
        assert_eq!(rds_encryption(&free, &BTreeSet::new()).unwrap(), RDS_ENCRYPTION);
        assert_eq!(rds_encryption(&Parameters::default(), &waived).unwrap(), RDS_ENCRYPTION);
        for parameters in [free, Parameters { exempt_waived: true, ..all() }] {
            let text = rds_encryption(&parameters, &waived).unwrap();
            assert_eq!(lint(&text).unwrap().warnings, []);
            assert_eq!(
                coverage(&text).unwrap()[0].unencrypted,
                "denied by DenyUnencryptedInstance"
            );
            let said = exempt(&text).remove(0);
            let want = "whose aws:PrincipalAccount is 444455556666: not by DenyUnencryptedInstance, DenyUnencryptedCluster";
            assert!(said.starts_with(want), "{said}");
            let policy: Value = serde_json::from_str(&text).unwrap();
            let protect =
                policy["Statement"].as_array().unwrap().iter().find(|s| s["Sid"] == PROTECT);
            assert!(protect.is_none_or(|s| s["Condition"]["StringNotEquals"].is_null()));
        }
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
            let error = rds_encryption(&parameters, &BTreeSet::new()).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
