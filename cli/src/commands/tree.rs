//! A rollout as a tree: stages, and what is under each.

use super::rollout::target_state;
use ringfence_domain::time::Span;
use ringfence_proto::v1;
use ringfence_proto::v1::RolloutTargetState as T;

/// Targets of one stage and state that are listed; of more, their number is told.
const LISTED: usize = 20;

/// The lines, without the heading.
pub(super) fn lines(rollout: &v1::Rollout) -> Vec<String> {
    let mut stages: Vec<(&str, Vec<&v1::RolloutTarget>)> = Vec::new();
    for target in &rollout.targets {
        match stages.last_mut().filter(|(name, _)| *name == target.stage) {
            Some((_, targets)) => targets.push(target),
            None => stages.push((&target.stage, vec![target])),
        }
    }
    let mut lines = Vec::new();
    let count = stages.len();
    for (n, (name, targets)) in stages.into_iter().enumerate() {
        let last = n + 1 == count;
        let bake = rollout.bakes.iter().find(|b| b.stage == name);
        let stage = rollout.stages.iter().find(|s| s.name == name);
        lines.push(format!(
            "{}{} {}",
            branch(last),
            mark(&targets),
            heading(name, &targets, bake, stage)
        ));
        let below = if last { "   " } else { "│  " };
        if let Some(probe) = rollout.probes.iter().find(|p| p.stage == name) {
            lines.push(format!("{below}   {}", probed(probe)));
        }
        if let Some(bake) = bake.filter(|b| !b.began_at.is_empty()) {
            lines.push(format!("{below}   {}", baked(bake)));
        }
        lines.extend(listed(&targets).into_iter().map(|line| format!("{below}{line}")));
    }
    lines
}

fn branch(last: bool) -> &'static str {
    if last { "└─ " } else { "├─ " }
}

/// Whether the policy binds it, by itself or through its OU.
pub(super) fn attached(target: &v1::RolloutTarget) -> bool {
    matches!(target.state(), T::Attached | T::AttachedBefore | T::Replaced)
}

/// Of a stage: all there, some there, something wrong, or nothing yet.
fn mark(targets: &[&v1::RolloutTarget]) -> char {
    let done = |t: &&v1::RolloutTarget| attached(t) || t.state() == T::Skipped;
    match () {
        () if targets.iter().any(|t| t.state() == T::Lost) => '✗',
        () if targets.iter().all(|t| t.state() == T::Skipped) => '–',
        () if targets.iter().all(&done) => '●',
        () if targets.iter().any(|t| done(t) || t.state() == T::Attaching) => '◐',
        () => '○',
    }
}

fn heading(
    name: &str,
    targets: &[&v1::RolloutTarget],
    bake: Option<&v1::RolloutBake>,
    stage: Option<&v1::RolloutStage>,
) -> String {
    let done = targets.iter().filter(|t| attached(t)).count();
    let accounts: i32 = targets.iter().map(|t| t.accounts).sum();
    let accounts =
        if accounts == 1 { "1 account".to_owned() } else { format!("{accounts} accounts") };
    let mut text = format!("{name}: {done} of {} attached, {accounts}", targets.len());
    let skipped = targets.iter().filter(|t| t.state() == T::Skipped).count();
    if skipped > 0 {
        text.push_str(&format!(", {skipped} skipped"));
    }
    if let Some(bake) = bake {
        let time = Span(bake.bake_seconds.saturating_mul(1_000));
        text.push_str(&format!(", then bakes {time} at least"));
        if bake.observations > 0 {
            text.push_str(&format!(" and {} healthy observations", bake.observations));
        }
    }
    if let Some(stage) = stage {
        if stage.calls > 0 {
            text.push_str(&format!(", and {} calls in CloudTrail", stage.calls));
        }
        if stage.approvals > 0 {
            text.push_str(&format!(", wants {} approvals", stage.approvals));
        }
    }
    text
}

/// What the probing of a stage has come to.
fn probed(probe: &v1::RolloutProbe) -> String {
    let mut line = format!("probe in {} {}: {}", probe.account, probe.region, probe.state);
    match (probe.promoted.as_str(), probe.passed_at.as_str(), probe.state.as_str()) {
        ("", "", _) => {}
        ("", at, "in force") => line.push_str(&format!(" since {at}")),
        ("", ..) => {}
        (by, at, _) => line.push_str(&format!(" {at} without being seen, by {by}")),
    }
    if !probe.last_at.is_empty() {
        line.push_str(&format!("; last {}: {}", probe.last_at, probe.last_said));
    }
    line
}

/// What the bake of a stage has come to.
fn baked(bake: &v1::RolloutBake) -> String {
    let mut line = format!("since {}", bake.began_at);
    if !bake.last_at.is_empty() {
        line.push_str(&format!(
            "; last {} {}: {} ({} healthy and {} calls so far)",
            bake.last_at, bake.last_health, bake.last_said, bake.healthy, bake.calls
        ));
    }
    if !bake.promoted.is_empty() {
        line.push_str(&format!("; ended early by {}", bake.promoted));
    }
    if !bake.done_at.is_empty() {
        line.push_str(&format!("; done {}", bake.done_at));
    }
    line
}

/// The targets; of many in one state, the first ones.
fn listed(targets: &[&v1::RolloutTarget]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut shown = std::collections::BTreeMap::<i32, usize>::new();
    for target in targets {
        let count = shown.entry(target.state).or_default();
        *count += 1;
        if *count <= LISTED {
            lines.push(line(target));
        }
    }
    for (state, count) in shown.into_iter().filter(|(_, count)| *count > LISTED) {
        let sample = v1::RolloutTarget { state, ..Default::default() };
        lines.push(format!("   and {} more {}", count - LISTED, target_state(&sample)));
    }
    let last = lines.len();
    let mark =
        |(n, line): (usize, String)| format!("{}{}", branch(n + 1 == last), line.trim_start());
    lines.into_iter().enumerate().map(mark).collect()
}

fn line(target: &v1::RolloutTarget) -> String {
    let mut line = format!("{} {}  {}", target.id, target.name, target_state(target));
    if target.state() == T::Attached && !target.attached_at.is_empty() {
        line.push_str(&format!(" {}", target.attached_at));
    }
    if !target.replaced_by.is_empty() {
        let when = if target.state() == T::Replaced { "" } else { " at the end" };
        line.push_str(&format!(", left to {}{when}", target.replaced_by));
    }
    if !target.skipped.is_empty() {
        line.push_str(&format!(" by {}", target.skipped));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_have_their_targets_and_many_are_counted() {
        let target = |stage: &str, id: usize, state: T| v1::RolloutTarget {
            stage: stage.into(),
            id: format!("{id:012}"),
            name: "n".into(),
            state: state.into(),
            attached_at: "T".into(),
            accounts: 1,
            ..Default::default()
        };
        let mut targets = vec![target("a", 1, T::Attached), target("a", 2, T::Lost)];
        targets.extend((0..LISTED + 3).map(|n| target("b", n, T::Waiting)));
        let bake = v1::RolloutBake { stage: "a".into(), bake_seconds: 60, ..Default::default() };
        let probe = v1::RolloutProbe {
            stage: "a".into(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            state: "in force".into(),
            passed_at: "T".into(),
            ..Default::default()
        };
        let mut rollout = v1::Rollout { targets, bakes: vec![bake], ..Default::default() };
        rollout.probes.push(probe);
        let mut found = lines(&rollout);
        assert_eq!(found.remove(1), "│     probe in 111122223333 eu-west-1: in force since T");
        assert_eq!(found[0], "├─ ✗ a: 1 of 2 attached, 2 accounts, then bakes 1m00s at least");
        assert_eq!(found[1], "│  ├─ 000000000001 n  attached T");
        assert_eq!(found[2], "│  └─ 000000000002 n  lost");
        assert!(found[3].starts_with("└─ ○ b: 0 of 23"), "{}", found[3]);
        assert_eq!(found.last().unwrap(), "   └─ and 3 more waiting");
        assert_eq!(found.len(), 4 + LISTED + 1);
    }
}
