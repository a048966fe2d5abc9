//! What Ringfence decides, and the types it decides on.
//!
//! Nothing in this crate can block: no tokio, no AWS SDK, no database, no clock and no randomness
//! (`now` is an argument). A reader may follow the modules in this order:
//!
//! 1. [`id`], [`time`], [`org`]: names, instants, the organization tree.
//! 2. [`rds`], [`cloud`]: what was read from an account, and how a call can fail.
//! 3. [`ledger`], [`control`], [`finding`]: what a scan concludes.
//! 4. [`plan`], [`approval`], [`remediation`], [`campaign`], [`freeze`]: what is proposed, who agreed, the
//!    next step, whose turn it is, and when nothing may be changed.
//! 5. [`iam`], [`history`], [`scp`], [`probe`], [`rollout`]: what policies say, and would have said of the past, the fence,
//!    how it is seen to stand, and how it is put up.
//! 6. [`key`]: the keys, and how they are made.
//! 7. [`audit`]: who did what, when, on what, why.

pub mod approval;
pub mod around;
pub mod audit;
pub mod bounds;
pub mod campaign;
pub mod cloud;
pub mod control;
pub mod controls;
pub mod deployment;
pub mod far;
pub mod finding;
pub mod freeze;
pub mod hash;
pub mod history;
pub mod iam;
pub mod id;
pub mod isolation;
pub mod key;
pub mod ledger;
pub mod opinion;
pub mod org;
pub mod plan;
pub mod probe;
pub mod rds;
pub mod remediation;
pub mod rollout;
pub mod scp;
pub mod staging;
pub mod time;
pub mod window;
pub mod work;
