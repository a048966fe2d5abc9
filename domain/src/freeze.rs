//! Freezes: times in which Ringfence changes nothing in AWS. What is read goes on being read, and taking an
//! SCP off stays allowed, for that is a way back.

use crate::id::{AccountId, NodeId, Region};
use crate::org::OrgTree;
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// A time in which nothing is changed, everywhere or in a part of the organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// `fr-` and 12 hex digits.
    pub id: String,
    /// From when.
    pub from: Time,
    /// Until when.
    pub to: Time,
    /// Why.
    pub reason: String,
    /// Who made it.
    pub by: String,
    /// OUs, or the root. Without OUs and accounts it is for the whole organization.
    pub ous: Vec<NodeId>,
    /// Accounts.
    pub accounts: Vec<AccountId>,
    /// Regions; all unless some are named.
    pub regions: Vec<Region>,
    /// Whether it also stops a swap whose databases are cut off or between two names. Without it those are
    /// brought to their end, or their applications would stay without a database for as long as it lasts.
    pub midway: bool,
    /// When, by whom and why it was ended before its time.
    pub lifted: Option<(Time, String, String)>,
}

/// What is about to be changed.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The account.
    pub account: &'a AccountId,
    /// The region.
    pub region: &'a Region,
    /// The OUs above the account; `None` where nobody knows.
    pub above: Option<&'a [NodeId]>,
    /// Whether databases are cut off or between two names there.
    pub midway: bool,
}

impl Freeze {
    /// `planned`, `active`, `over` or `lifted`.
    pub fn state(&self, now: Time) -> &'static str {
        match () {
            () if self.lifted.is_some() => "lifted",
            () if now < self.from => "planned",
            () if now < self.to => "active",
            () => "over",
        }
    }

    /// Whether a change there must wait.
    pub fn holds(&self, place: &Place<'_>, now: Time) -> bool {
        let under = |above: &[NodeId]| self.ous.iter().any(|ou| above.contains(ou));
        let account = self.whole()
            || self.accounts.contains(place.account)
            // Where nobody knows, it is held.
            || (!self.ous.is_empty() && place.above.is_none_or(under));
        let stops = self.midway || !place.midway;
        self.state(now) == "active" && account && self.is_in(Some(place.region)) && stops
    }

    /// Whether a part of an account, an OU or the root with all that is under it is in its scope, or what that
    /// is under. Without a region, all are meant.
    pub fn meets(&self, tree: &OrgTree, target: &NodeId, region: Option<&Region>) -> bool {
        let under =
            |id: &NodeId, top: &NodeId| id == top || tree.ancestors(id).any(|node| node.id == *top);
        let ou = self.ous.iter().any(|ou| under(ou, target) || under(target, ou));
        let account = self.accounts.iter().any(|a| under(&NodeId::from(a), target));
        self.is_in(region) && (self.whole() || ou || account)
    }

    /// Whether it is for the whole organization.
    fn whole(&self) -> bool {
        self.ous.is_empty() && self.accounts.is_empty()
    }

    fn is_in(&self, region: Option<&Region>) -> bool {
        self.regions.is_empty() || region.is_none_or(|region| self.regions.contains(region))
    }

    /// What is said to who must wait.
    pub fn text(&self) -> String {
        format!("frozen until {} by {}: {} ({})", self.to, self.by, self.reason, self.id)
    }
}

/// The freeze that holds a change there the longest; `None` if it may be made.
pub fn held<'a>(freezes: &'a [Freeze], place: &Place<'_>, now: Time) -> Option<&'a Freeze> {
    freezes.iter().filter(|f| f.holds(place, now)).max_by_key(|f| f.to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freeze(scope: &str) -> Freeze {
        let of =
            |key: &str| scope.split(' ').filter_map(|w| w.strip_prefix(key)).collect::<Vec<_>>();
        Freeze {
            id: "fr-1".into(),
            from: Time(10),
            to: Time(20),
            reason: "year's end".into(),
            by: "ann".into(),
            ous: of("ou=").iter().map(|id| id.parse().unwrap()).collect(),
            accounts: of("account=").iter().map(|id| id.parse().unwrap()).collect(),
            regions: of("region=").iter().map(|id| id.parse().unwrap()).collect(),
            midway: scope.contains("midway"),
            lifted: scope.contains("lifted").then(|| (Time(11), "bob".into(), "over".into())),
        }
    }

    #[test]
    fn it_holds_what_is_in_its_scope_for_its_time() {
        let account: AccountId = "111122223333".parse().unwrap();
        let region: Region = "eu-west-1".parse().unwrap();
        let above: [NodeId; 2] = ["ou-abcd-11111111".parse().unwrap(), "r-abcd".parse().unwrap()];
        let there =
            Place { account: &account, region: &region, above: Some(&above), midway: false };
        let midway = Place { midway: true, ..there };
        let lost = Place { above: None, ..there };
        for (scope, place, now, want) in [
            ("", there, 9, false),
            ("", there, 10, true),
            ("", there, 19, true),
            ("", there, 20, false),
            ("lifted", there, 15, false),
            ("ou=ou-abcd-11111111", there, 15, true),
            ("ou=r-abcd", there, 15, true),
            ("ou=ou-abcd-22222222", there, 15, false),
            ("ou=ou-abcd-22222222", lost, 15, true),
            ("account=111122223333", there, 15, true),
            ("account=444455556666", there, 15, false),
            ("account=444455556666", lost, 15, false),
            ("account=444455556666 ou=r-abcd", there, 15, true),
            ("region=eu-west-1", there, 15, true),
            ("region=us-east-1", there, 15, false),
            ("account=444455556666 region=eu-west-1", there, 15, false),
            ("", midway, 15, false),
            ("midway", midway, 15, true),
        ] {
            assert_eq!(freeze(scope).holds(&place, Time(now)), want, "{scope:?} at {now}");
        }
    }

    #[test]
    fn a_target_is_met_from_above_and_below() {
        let tree = OrgTree::new(Time(0), crate::org::tests::sample()).unwrap();
        for (scope, target, region, want) in [
            ("", "ou-ab12-paymentz", None, true),
            ("ou=r-ab12", "ou-ab12-paymentz", None, true),
            ("ou=ou-ab12-paymentz", "ou-ab12-paymentz", None, true),
            ("ou=ou-ab12-paymentz", "ou-ab12-prodprod", None, true),
            ("ou=ou-ab12-paymentz", "222233334444", None, false),
            ("account=111122223333", "r-ab12", None, true),
            ("account=111122223333", "111122223333", None, true),
            ("account=222233334444", "ou-ab12-paymentz", None, false),
            ("region=us-east-1", "r-ab12", None, true),
            ("region=us-east-1", "r-ab12", Some("us-east-1"), true),
            ("region=us-east-1", "r-ab12", Some("eu-west-1"), false),
        ] {
            let region: Option<Region> = region.map(|r: &str| r.parse().unwrap());
            let met = freeze(scope).meets(&tree, &target.parse().unwrap(), region.as_ref());
            assert_eq!(met, want, "{scope:?} {target} {region:?}");
        }
    }

    #[test]
    fn the_longest_is_named() {
        let account: AccountId = "111122223333".parse().unwrap();
        let region: Region = "eu-west-1".parse().unwrap();
        let place = Place { account: &account, region: &region, above: None, midway: false };
        let (short, mut long) = (freeze(""), freeze(""));
        (long.id, long.to) = ("fr-2".into(), Time(30));
        let both = [short, long];
        assert_eq!(held(&both, &place, Time(15)).map(|f| f.id.as_str()), Some("fr-2"));
        assert_eq!(held(&both, &place, Time(31)), None);
        assert!(both[1].text().contains("by ann: year's end (fr-2)"), "{}", both[1].text());
    }
}
