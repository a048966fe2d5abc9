//! The controls there are.

pub mod rds_encryption;

use crate::control::Control;

/// Every control.
pub const ALL: &[&dyn Control] = &[&rds_encryption::RdsEncryption];
