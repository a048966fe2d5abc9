//! The isolation group of a swap: the one that was named, the one that is there, or one that is to be made.

use super::Wanted;
use super::checks::Checks;
use super::standing::known;
use crate::isolation::{Group, NewGroup};
use crate::remediation::Swap;

const NAME: &str = "isolation";
const WHAT: &str = "security groups";

/// The isolation groups of a region, or why they could not be read.
pub(super) type Groups = Result<Vec<Group>, String>;

/// The id of the group for a VPC, or, with an empty id, the group that is to be made there.
pub(super) fn choose(
    vpc: &str,
    groups: Option<&Groups>,
    wanted: &Wanted,
) -> Result<(String, Option<NewGroup>), String> {
    let name = &wanted.isolation.name;
    if let Some(given) = wanted.isolation.groups.get(vpc) {
        return Ok((given.clone(), None));
    }
    let there = known(WHAT, groups);
    if let Some(found) =
        there.iter().flat_map(|all| all.iter()).find(|g| g.vpc == vpc && g.name == *name)
    {
        return Ok((found.id.clone(), None));
    }
    if wanted.make_groups {
        return Ok((String::new(), Some(NewGroup { vpc: vpc.to_owned(), name: name.clone() })));
    }
    let unread = there.err().map_or(String::new(), |why| format!(" that is known ({why})"));
    Err(format!(
        "{vpc} has no isolation group {name}{unread}, as of the last scan: plan with --make-isolation-groups, or name one that lets nobody in: `{vpc}=sg-...` in remediation.isolation_groups"
    ))
}

/// Whether the group of a swap isolates, as last read.
pub(super) fn see(
    swap: Option<&Swap>,
    vpc: Option<&str>,
    groups: Option<&Groups>,
    checks: &mut Checks,
) {
    let Some(swap) = swap.filter(|s| !s.isolation.is_empty()) else {
        return checks.block(NAME, None); // none is needed, or it is made
    };
    let id = &swap.isolation;
    let all = match known(WHAT, groups) {
        Ok(all) => all,
        Err(why) => {
            return checks
                .warn(NAME, [format!("{why}, so nobody checked that {id} lets nobody in")]);
        }
    };
    let Some(group) = all.iter().find(|g| g.id == *id) else {
        return checks.block(NAME, [format!(
            "{id} is not among the security groups that were read: it is not there, or the agents' remediation.isolation_groups does not name it"
        )]);
    };
    checks.block(NAME, group.open());
    let other = vpc.filter(|vpc| *vpc != group.vpc);
    checks.block(
        NAME,
        other.map(|vpc| {
            format!(
                "{id} ({}) is of {}, and the database of {vpc}: remediation.isolation_groups",
                group.name, group.vpc
            )
        }),
    );
    let out = (!group.lets_out.is_empty()).then(|| {
        format!(
            "{id} ({}) lets out {}: what runs by itself in a copy reaches other systems until its cutover",
            group.name,
            group.lets_out.join(", ")
        )
    });
    checks.warn(NAME, out);
}

#[cfg(test)]
mod tests {
    use super::super::checks::Verdict;
    use super::*;
    use crate::isolation::Isolation;

    fn group(id: &str, vpc: &str, lets_in: &[&str], lets_out: &[&str]) -> Group {
        let list = |rules: &[&str]| rules.iter().map(|r| (*r).to_owned()).collect();
        let (id, name, vpc) = (id.to_owned(), "ringfence-isolation".to_owned(), vpc.to_owned());
        Group { id, name, vpc, lets_in: list(lets_in), lets_out: list(lets_out), ours: false }
    }

    fn wanted(given: &[(&str, &str)], make_groups: bool) -> Wanted {
        let own = |(vpc, id): &(&str, &str)| ((*vpc).to_owned(), (*id).to_owned());
        let groups = given.iter().map(own).collect();
        let isolation = Isolation { groups, name: "ringfence-isolation".into() };
        Wanted { isolation, make_groups, ..Wanted::default() }
    }

    #[test]
    fn the_named_one_first_then_the_one_that_is_there_then_a_new_one() {
        let there: Groups = Ok(vec![group("sg-1", "vpc-1", &[], &[])]);
        let said =
            |vpc: &str, groups: Option<&Groups>, wanted: &Wanted| match choose(vpc, groups, wanted)
            {
                Ok((id, None)) => id,
                Ok((_, Some(new))) => format!("make {} in {}", new.name, new.vpc),
                Err(why) => format!("no: {why}"),
            };
        let (none, make) = (wanted(&[], false), wanted(&[], true));
        assert_eq!(said("vpc-1", Some(&there), &wanted(&[("vpc-1", "sg-own")], true)), "sg-own");
        assert_eq!(said("vpc-1", Some(&there), &make), "sg-1");
        assert_eq!(said("vpc-2", Some(&there), &make), "make ringfence-isolation in vpc-2");
        assert_eq!(
            said("vpc-1", None, &make),
            "make ringfence-isolation in vpc-1",
            "found when it is made"
        );
        assert!(said("vpc-2", Some(&there), &none).starts_with(
            "no: vpc-2 has no isolation group ringfence-isolation, as of the last scan: plan with"
        ));
        assert!(
            said("vpc-1", Some(&Err("denied".into())), &none).contains("could not be read: denied")
        );
    }

    #[test]
    fn a_group_that_lets_in_blocks_and_one_that_lets_out_warns() {
        let (tcp, all) = ("tcp 5432 from 10.0.0.0/8", "everything to 0.0.0.0/0");
        for (id, groups, want, text) in [
            ("", None, Verdict::Pass, ""),
            ("sg-1", Some(Ok(vec![group("sg-1", "v", &[], &[])])), Verdict::Pass, ""),
            (
                "sg-1",
                Some(Ok(vec![group("sg-1", "v", &[tcp], &[])])),
                Verdict::Block,
                "lets in tcp 5432 from 10.0.0.0/8, so it isolates nobody",
            ),
            (
                "sg-1",
                Some(Ok(vec![group("sg-1", "v", &[], &[all])])),
                Verdict::Warn,
                "lets out everything to 0.0.0.0/0",
            ),
            ("sg-2", Some(Ok(vec![group("sg-1", "v", &[], &[])])), Verdict::Block, "is not among"),
            (
                "sg-1",
                Some(Ok(vec![group("sg-1", "w", &[], &[])])),
                Verdict::Block,
                "is of w, and the database of v",
            ),
            (
                "sg-1",
                Some(Err("denied".to_owned())),
                Verdict::Warn,
                "could not be read: denied, so nobody checked",
            ),
            ("sg-1", None, Verdict::Warn, "were not read: run `ringfence scan start`"),
        ] {
            let mut checks = Checks::default();
            let swap = Swap { isolation: id.to_owned(), ..Swap::default() };
            see(Some(&swap), Some("v"), groups.as_ref(), &mut checks);
            assert_eq!(checks.0.len(), 1, "{:?}", checks.0);
            assert_eq!(checks.0[0].verdict, want, "{}", checks.0[0].text);
            assert!(checks.0[0].text.contains(text), "{}", checks.0[0].text);
        }
    }
}
