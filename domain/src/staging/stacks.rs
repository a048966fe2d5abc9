//! StackSets that follow accounts from OU to OU.

use super::Difference;
use crate::id::{NodeId, Region};
use std::collections::BTreeSet;

/// The type of a [`Difference`] of StackSets.
const TYPE: &str = "STACK_SETS";

/// A StackSet with service-managed permissions and automatic deployment: it has stacks in every account of its targets, makes
/// them in one that comes and, unless it retains them, deletes them in one that goes, with what they made (CloudFormation user
/// guide, "Enable or disable automatic deployments").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackSet {
    /// Its name.
    pub name: String,
    /// The region that it was made in.
    pub region: Region,
    /// Whether stacks stay in an account that goes.
    pub retains: bool,
    /// OUs, or the root, with all that is in them.
    pub targets: BTreeSet<NodeId>,
}

/// What changes for an account that goes from one place (an OU and all above it) to another one and back; `None` if nothing does.
pub fn stacks(sets: &[StackSet], here: &[NodeId], there: &[NodeId]) -> Option<Difference> {
    let (mut loses, mut gets) = (Vec::new(), Vec::new());
    for set in sets {
        let on = |chain: &[NodeId]| chain.iter().any(|node| set.targets.contains(node));
        let named = format!("StackSet {} of {}", set.name, set.region);
        match (on(here), on(there), set.retains) {
            (true, false, false) => loses.push(format!(
                "{named}: its stacks in the account are DELETED, with what they made, and made anew when it comes home"
            )),
            (true, false, true) => loses.push(format!("{named}: its stacks stay, and are not updated meanwhile")),
            (false, true, false) => gets.push(format!("{named}: stacks are made, and deleted when it goes home")),
            (false, true, true) => gets.push(format!("{named}: stacks are made, and stay when it goes home")),
            (true, true, _) | (false, false, _) => {}
        }
    }
    let policy_type = TYPE.to_owned();
    (!(loses.is_empty() && gets.is_empty())).then_some(Difference { policy_type, loses, gets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_one_of_two_places_is_a_difference() {
        let id = |text: &str| text.parse::<NodeId>().unwrap();
        let (root, a, b) = (id("r-ab12"), id("ou-ab12-aaaaaaaa"), id("ou-ab12-bbbbbbbb"));
        let set = |name: &str, retains, targets: &[&NodeId]| StackSet {
            name: name.into(),
            region: "eu-west-1".parse().unwrap(),
            retains,
            targets: targets.iter().map(|t| (*t).clone()).collect(),
        };
        let sets = [
            set("everywhere", false, &[&root]),
            set("both", false, &[&a, &b]),
            set("leaves", false, &[&a]),
            set("leaves-kept", true, &[&a]),
            set("comes", false, &[&b]),
            set("none", false, &[]),
        ];
        let (here, there) = ([a.clone(), root.clone()], [b, root]);
        let found = stacks(&sets, &here, &there).unwrap();
        assert_eq!((found.loses.len(), found.gets.len()), (2, 1), "{found:?}");
        assert!(
            found.loses[0]
                .starts_with("StackSet leaves of eu-west-1: its stacks in the account are DELETED")
        );
        assert!(found.loses[1].contains("leaves-kept of eu-west-1: its stacks stay"));
        assert!(found.gets[0].contains("comes of eu-west-1: stacks are made, and deleted"));
        assert_eq!(stacks(&sets, &here, &here), None);
        assert_eq!(stacks(&[], &here, &there), None);
    }
}
