//! The only crate that names the AWS SDK: sessions, clients, error classes, rate limits, and one
//! function for each call, which takes and gives types of `ringfence-domain`.
//!
//! Nothing here decides. Every call goes through `retry`, the one retry loop of the
//! product, with [`limits`] in front of each try: the SDK's own is off, for its token bucket is shared by the whole process (100
//! outstanding throttle retries for all accounts together) and two loops multiply.

pub mod account;
mod alarms;
mod analyzer;
mod breaker;
mod class;
mod client;
mod cloudtrail;
mod cloudwatch;
mod config;
mod ec2;
mod error;
mod iam;
mod kms;
pub mod limits;
pub mod members;
pub mod moves;
pub mod organizations;
mod pace;
pub mod rds;
mod retry;
mod secrets;
mod session;
mod stack_sets;
mod user_agent;

pub use client::{Cloud, Settings, SourceIdentity};
pub use config::{Candidate, Candidates, MemberStatus, RuleStatus};
pub use retry::Probe;
pub use session::{Caller, Phase, Session};
