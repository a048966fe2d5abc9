//! The isolation group, where the plan says that it is made: one for each VPC, shared by all its databases, and
//! never deleted.

use super::steps::{create, repeat};
use super::{Act, Bounds, Goal, Mark, Remediation, Step, Swap};
use crate::rds::Sweep;
use crate::time::Time;

/// Makes the group that lets nobody in or out; `None` once it is known, or where one was given.
///
/// Somebody else may make it at the same time, another database of this plan for one: its name is taken then, and
/// it is found by that. "By default, a security group has an outbound rule that allows all outbound traffic"
/// (EC2 guide, "Security group rules"); a copy runs the jobs of its original, and must not reach their targets.
pub(super) fn group(rem: &Remediation, seen: &Sweep, now: Time, bounds: Bounds) -> Option<Step> {
    if rem.verified_at.is_some() || rem.giving_up.is_some() {
        return None;
    }
    let swap = rem.swap.as_ref().filter(|s| s.isolation.is_empty())?;
    let Some(new) = &swap.make else {
        return Some(Step::AskHuman("its plan names no isolation group: plan again".into()));
    };
    let found = seen.groups.iter().find(|g| g.vpc == new.vpc && g.name == new.name);
    let Some(group) = found else {
        let act = Act::CreateGroup { vpc: new.vpc.clone(), name: new.name.clone() };
        return Some(create(rem, act, now, bounds));
    };
    if rem.parts()[0].own.is_some_and(|(own, _)| own.contains(&group.id)) {
        return Some(Step::AskHuman(format!(
            "{} is in {} already: put it into its own groups, scan, and plan again",
            rem.source.name(),
            group.id
        )));
    }
    if let Some(open) = group.open() {
        return Some(Step::AskHuman(open));
    }
    if group.lets_out.is_empty() {
        return Some(Step::Mark(Mark::Isolation { group: group.id.clone() }));
    }
    if !group.ours {
        let (id, out) = (&group.id, group.lets_out.join(", "));
        return Some(Step::AskHuman(format!(
            "{id} ({}) was made by somebody else and lets out {out}: take its outbound rules away, or plan again, which accepts them with a warning",
            group.name
        )));
    }
    Some(repeat(rem, Act::CloseGroup { group: group.id.clone() }, now, bounds))
}

impl Remediation {
    /// Whether its isolation group is still to be found or made.
    pub fn wants_group(&self) -> bool {
        let swap = self.swap.as_ref();
        let wanted = swap.is_some_and(|s| s.isolation.is_empty() && s.make.is_some());
        wanted && self.goal == Goal::Twin && self.verified_at.is_none() && self.giving_up.is_none()
    }

    /// Whether it has asked AWS for something about its database; that its isolation group was made says nothing.
    pub fn has_begun(&self) -> bool {
        let about = |a: &Act| !matches!(a, Act::CreateGroup { .. } | Act::CloseGroup { .. });
        self.intents.values().any(|i| about(&i.act))
    }

    /// Whether an act relies on the isolation group while nothing hangs on its being done at once: until names
    /// change.
    pub fn isolates(&self, act: &Act) -> bool {
        // Of a switchover all of it follows the change of names.
        let early = |s: &&Swap| s.began_at.is_none() || s.green.is_some();
        let Some(swap) = self.swap.as_ref().filter(early) else { return false };
        match act {
            Act::SwitchOver { .. } => true,
            Act::RestoreInstance { .. } | Act::RestoreCluster { .. } => true,
            // One in another region is made into the group of that one.
            Act::CreateReplica { .. } => act.far_region().is_some(),
            Act::SetGroups { database, groups, .. } => *groups == swap.only_of(database),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Swap, decide, sample};
    use super::*;
    use crate::isolation::{Group, NewGroup};

    fn seen_group(lets_in: &[&str], lets_out: &[&str], ours: bool) -> Group {
        let list = |rules: &[&str]| rules.iter().map(|r| (*r).to_owned()).collect();
        Group {
            id: "sg-1".into(),
            name: "ringfence-isolation".into(),
            vpc: "vpc-1".into(),
            lets_in: list(lets_in),
            lets_out: list(lets_out),
            ours,
        }
    }

    #[test]
    fn a_group_is_made_closed_and_only_then_used() {
        let all = "all from 0.0.0.0/0";
        for (group, want) in [
            (None, "act make security group ringfence-isolation in vpc-1"),
            (Some(seen_group(&[], &[all], true)), "act take the outbound rules from sg-1"),
            (Some(seen_group(&[], &[], true)), "mark isolation sg-1"),
            (Some(seen_group(&[], &[], false)), "mark isolation sg-1"),
            (
                Some(seen_group(&[], &[all], false)),
                "ask sg-1 (ringfence-isolation) was made by somebody else",
            ),
            (
                Some(seen_group(&["tcp 5432 from 10.0.0.0/8"], &[], true)),
                "ask sg-1 (ringfence-isolation) lets in tcp 5432",
            ),
            // Of another VPC.
            (
                Some(Group { vpc: "vpc-2".into(), ..seen_group(&[], &[], true) }),
                "act make security group",
            ),
        ] {
            let (mut rem, mut seen, now) = sample::instance_world(&[]);
            let make = NewGroup { vpc: "vpc-1".into(), name: "ringfence-isolation".into() };
            rem.swap = Some(Swap { make: Some(make), ..Swap::default() });
            seen.groups.extend(group);
            let said = sample::show(&decide(&rem, &seen, now, sample::BOUNDS));
            assert!(said.starts_with(want), "want {want}, have {said}");
            if let Step::Mark(mark) = decide(&rem, &seen, now, sample::BOUNDS) {
                rem.mark(&mark, now);
                assert_eq!(
                    rem.twin_spec().instances().next().unwrap().settings.vpc_security_group_ids,
                    ["sg-1".to_owned()].into()
                );
                let next = sample::show(&decide(&rem, &seen, now, sample::BOUNDS));
                assert!(next.starts_with("measure"), "{next}");
            }
        }
    }

    #[test]
    fn what_was_asked_for_is_waited_for_and_nothing_is_done_without_a_group() {
        let (mut rem, seen, now) = sample::instance_world(&[]);
        let make = NewGroup { vpc: "vpc-1".into(), name: "ringfence-isolation".into() };
        rem.swap = Some(Swap { make: Some(make), ..Swap::default() });
        let Step::Act(act) = decide(&rem, &seen, now, sample::BOUNDS) else { panic!("an act") };
        rem.intend(act, now);
        let said = sample::show(&decide(&rem, &seen, now, sample::BOUNDS));
        assert!(said.starts_with("wait asked AWS to make security group"), "{said}");
        rem.swap = Some(Swap::default());
        let said = sample::show(&decide(&rem, &seen, now, sample::BOUNDS));
        assert!(!said.starts_with("act"), "{said}");
    }
}
