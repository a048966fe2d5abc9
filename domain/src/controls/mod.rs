//! The controls there are.

pub mod rds_encryption;
pub mod rds_snapshot_encryption;

use crate::control::Control;
use crate::finding::Kind;
use rds_encryption::RdsEncryption;
use rds_snapshot_encryption::RdsSnapshotEncryption;

/// The controls that every scan judges, and that the ledger is about.
pub const ALL: &[&dyn Control] = &[&RdsEncryption];

/// The control that a resource of this kind breaks.
pub fn of(kind: Kind) -> &'static dyn Control {
    match kind {
        Kind::Instance | Kind::Cluster => &RdsEncryption,
        Kind::Snapshot => &RdsSnapshotEncryption,
    }
}
