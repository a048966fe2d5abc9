//! All tests that need more than one crate: one binary.

mod around;
mod aws_config;
mod bad_input;
mod campaign;
mod check;
mod crash;
mod deploy;
mod fan_out;
mod first_light;
mod freeze;
mod keys;
mod kill;
mod many_accounts;
mod old_snapshots;
mod policies;
mod regions;
mod simulator;
mod stage;
mod store_contract;
mod swap;
mod swap_crash;
mod sweep;
mod tidy;
mod trouble_crash;
mod zoo;
