//! The rollout file (TOML), read strictly: an unknown key is an error, not a stage left out.

use super::{Hours, Stage};
use crate::id::NodeId;
use crate::probe::Place;
use crate::scp::Parameters;
use crate::time::Span;
use serde::Deserialize;
use std::collections::BTreeSet;

/// The name of the built-in policy.
pub const BUILT_IN: &str = "rds-encryption";

/// A rollout file, as written by people (TOML).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// `rds-encryption`, or the path of a policy document.
    pub policy: String,
    /// What is set of the built-in policy.
    #[serde(default)]
    pub parameters: Parameters,
    /// Whose denials by the policy are no harm: patterns of the ARNs of principals.
    #[serde(default)]
    pub expected_denials: Vec<String>,
    /// The id of an earlier rollout, whose policy is detached where this one binds, once all has baked.
    #[serde(default)]
    pub replaces: String,
    /// Whether each stage is probed, in one of its accounts, once it is attached.
    #[serde(default)]
    pub probe: bool,
    /// When alone anything is attached: `mon:09:00-mon:16:00`. Any time without.
    #[serde(default)]
    pub windows: Vec<String>,
    /// The time zone of the windows; UTC without.
    #[serde(default)]
    pub time_zone: String,
    /// The stages, in order.
    #[serde(default)]
    pub stage: Vec<FileStage>,
}

/// One stage of a rollout file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileStage {
    /// What people call it.
    pub name: String,
    /// OUs, accounts or (with `--allow-root`) the root, in order.
    pub targets: Vec<String>,
    /// How long it must have been attached before the next stage begins: `24h`.
    #[serde(default)]
    pub bake: Option<String>,
    /// How many healthy observations that takes at least.
    #[serde(default)]
    pub observations: u32,
    /// How many calls that the policy judges CloudTrail must have shown by then.
    #[serde(default)]
    pub calls: u32,
    /// How many people must have approved the rollout before the stage begins.
    #[serde(default)]
    pub approvals: u32,
    /// How many accounts it may bind that no earlier stage binds.
    #[serde(default)]
    pub max_accounts: Option<u32>,
    /// Where it is probed, `111122223333/eu-west-1`; without it a place is chosen when it is planned.
    #[serde(default)]
    pub probe_in: Option<String>,
}

/// The longest bake: a stage that is watched for longer is a rollout of its own.
pub const BAKE_MAX: Span = Span::hours(90 * 24);

/// Reads a rollout file. The error names the key or the target, and what would be right.
pub fn parse(text: &str) -> Result<(File, Vec<Stage>), String> {
    let file: File = toml::from_str(text).map_err(|e| {
        let message = e.message().to_owned();
        let line = e.span().map(|s| 1 + text[..s.start.min(text.len())].matches('\n').count());
        match line {
            Some(line) => format!("line {line}: {message}"),
            None => message,
        }
    })?;
    if file.policy != BUILT_IN && file.parameters != Parameters::default() {
        return Err(format!("[parameters] are of the built-in policy `{BUILT_IN}` only"));
    }
    if let Some(odd) = file.expected_denials.iter().find(|p| !is_principal(p)) {
        return Err(format!(
            "expected_denials: `{odd}` is no pattern of a role's or user's ARN (arn:aws:iam::*:role/ci-*)"
        ));
    }
    if file.stage.is_empty() {
        return Err("there is no [[stage]]".into());
    }
    Hours::new(&file.windows, &file.time_zone)?;
    let mut seen = BTreeSet::new();
    let mut stages = Vec::new();
    for stage in &file.stage {
        if stage.targets.is_empty() {
            return Err(format!("stage `{}` has no targets", stage.name));
        }
        let mut targets = Vec::new();
        for target in &stage.targets {
            let id: NodeId = target.parse().map_err(|e| format!("stage `{}`: {e}", stage.name))?;
            if !seen.insert(id.clone()) {
                return Err(format!("stage `{}`: {id} is a target twice", stage.name));
            }
            targets.push(id);
        }
        let bake = match &stage.bake {
            None => Span(0),
            Some(text) => Span::parse(text).filter(|s| *s <= BAKE_MAX && s.0 % 1_000 == 0).ok_or_else(|| {
                format!("stage `{}`: bake = \"{text}\": it must be whole seconds up to {BAKE_MAX}, such as 24h", stage.name)
            })?,
        };
        let probe = match &stage.probe_in {
            None => None,
            Some(_) if !file.probe => {
                return Err(format!("stage `{}`: probe_in says where, and `probe = true` that it is probed at all: it stands before the first [[stage]]", stage.name));
            }
            Some(text) => Some(Place::parse(text).ok_or_else(|| {
                format!("stage `{}`: probe_in = \"{text}\": it must be an account and a region, such as 111122223333/eu-west-1", stage.name)
            })?),
        };
        let max_accounts = match stage.max_accounts {
            Some(0) => {
                return Err(format!(
                    "stage `{}`: max_accounts = 0: leave it out for no limit",
                    stage.name
                ));
            }
            most => most.unwrap_or(0),
        };
        let FileStage { observations, calls, approvals, .. } = *stage;
        let name = stage.name.clone();
        stages.push(Stage {
            name,
            targets,
            bake,
            observations,
            calls,
            approvals,
            max_accounts,
            probe,
        });
    }
    Ok((file, stages))
}

/// Whether a pattern names principals of an account: `*` alone would call every denial expected.
pub fn is_principal(pattern: &str) -> bool {
    let parts: Vec<&str> = pattern.splitn(6, ':').collect();
    let named = parts.get(5).is_some_and(|p| p.starts_with("role/") || p.starts_with("user/"));
    parts.first() == Some(&"arn") && parts.get(2) == Some(&"iam") && named
}

#[cfg(test)]
mod tests {
    use super::*;

    const OU_A: &str = "ou-ab12-aaaaaaaa";

    #[test]
    fn files_are_read_strictly() {
        let good = format!(
            "policy = \"rds-encryption\"\n[[stage]]\nname = \"a\"\ntargets = [\"{OU_A}\"]\n"
        );
        assert_eq!(parse(&good).unwrap().1.len(), 1);
        let baked = parse(&format!("{good}bake = \"24h\"\nobservations = 3\n")).unwrap().1;
        assert_eq!((baked[0].bake, baked[0].observations), (Span::hours(24), 3));
        let held = format!("{good}calls = 5\napprovals = 3\nmax_accounts = 50\n");
        let held = parse(&held).unwrap().1.remove(0);
        assert_eq!((held.calls, held.approvals, held.max_accounts), (5, 3, 50));
        let hours = "windows = [\"mon:09:00-mon:16:00\"]\ntime_zone = \"Europe/Berlin\"\n";
        assert_eq!(parse(&format!("{hours}{good}")).unwrap().0.time_zone, "Europe/Berlin");
        let place = format!("probe = true\n{good}probe_in = \"111122223333/eu-west-1\"\n");
        let probed = parse(&place).unwrap();
        assert!(probed.0.probe);
        assert_eq!(probed.1[0].probe.as_ref().unwrap().to_string(), "111122223333 eu-west-1");
        for (text, want) in [
            (place.replace("probe = true\n", ""), "stage `a`: probe_in says where"),
            (
                place.replace("/eu", " eu"),
                "stage `a`: probe_in = \"111122223333 eu-west-1\": it must",
            ),
            (format!("{good}max_accounts = 0\n"), "stage `a`: max_accounts = 0: leave it out"),
            (
                format!("{}{good}", hours.replace("Berlin", "Atlantis")),
                "time_zone = \"Europe/Atlantis\"",
            ),
            (good.replace("name", "nmae"), "unknown field `nmae`"),
            (good.replace("policy", "polcy"), "unknown field `polcy`"),
            (good.replace(OU_A, "ou-1"), "`ou-1` is not a root"),
            (good.replace(OU_A, "11112222333"), "`11112222333` is not a root"),
            (format!("{good}[[stage]]\nname = \"b\"\ntargets = [\"{OU_A}\"]\n"), "twice"),
            ("policy = \"x\"".to_owned(), "no [[stage]]"),
            (good.replace(&format!("\"{OU_A}\""), ""), "no targets"),
            (
                format!("{good}bake = \"soon\"\n"),
                "stage `a`: bake = \"soon\": it must be whole seconds",
            ),
            (format!("{good}bake = \"365d\"\n"), "up to 90d"),
            (format!("{good}bake = \"500ms\"\n"), "whole seconds"),
            (
                good.replace("[[stage]]", "[parameters]\nbreak_glas = \"/x/\"\n[[stage]]"),
                "unknown field `break_glas`",
            ),
            (
                good.replace("rds-encryption\"", "x.json\"\n[parameters]\nbreak_glass = \"/x/\""),
                "[parameters] are of the built-in policy",
            ),
            (format!("expected_denials = [\"*\"]\n{good}"), "expected_denials: `*` is no pattern"),
            (format!("{good}observations = -1\n"), "line 5: invalid value: integer `-1`"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(want), "{text}\n{error}");
        }
    }
}
