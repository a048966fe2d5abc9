//! What holds for everything that a plan makes.

use super::{Plan, Strategy};
use crate::finding::Kind;

/// What holds for every twin, and must be known before one agrees.
const GENERAL_NOTES: &[&str] = &[
    "point-in-time history stays with the original, unencrypted",
    "not looked at: what is inside secrets, and whatever else knows its address or its resource id, which is new for a twin",
];

/// What holds for every copy of an old snapshot.
const COPY_NOTES: &[&str] = &[
    "the old snapshot stays, unencrypted, until it is decommissioned on an approval of its own",
    "what restores the old one by its name or ARN must be given the copy's; who may restore it beside its account is not carried over",
    "backups that AWS makes by itself, and those of AWS Backup, are not looked at: they end with their retention",
];

/// What holds where the twin stands beside the original.
const BESIDE_NOTE: &str = "the original is not touched: the twin holds the data of the moment of the snapshot, and later writes are not in it";

/// What holds where the twin takes the original's place.
const SWAP_NOTE: &str = "nobody may write from before the snapshot until the cutover is done: snapshot, copy, restore and renames (about 10 minutes each) are all downtime for writers, and for readers too where it is cut off or stopped, until a person orders the cutover or the plan permits it; DNS caches may hold the old address for minutes";

/// What holds where a blue/green deployment makes the twin.
const GREEN_NOTE: &str = "applications go on until the switchover, in which AWS stops all writes, ends all connections, and waits until the green environment has everything: about a minute, and never more than 5; where that is not enough, AWS puts everything back; DNS caches may hold the old address for minutes, which leads to the original, read-only and then isolated. There is no way back after it: nothing replicates to the old environment";

impl Plan {
    /// What holds for everything that it makes.
    pub(super) fn notes(&self) -> (&'static str, Vec<&'static str>) {
        if self.ready().any(|i| i.kind == Kind::Snapshot) {
            return ("copy", COPY_NOTES.to_vec());
        }
        let how = self.ready().map(|i| Strategy::of(i.swap.as_ref())).next();
        let first = match how.unwrap_or_default() {
            Strategy::SideBySide => BESIDE_NOTE,
            Strategy::Swap => SWAP_NOTE,
            Strategy::BlueGreen => GREEN_NOTE,
        };
        ("twin", std::iter::once(first).chain(GENERAL_NOTES.iter().copied()).collect())
    }
}
