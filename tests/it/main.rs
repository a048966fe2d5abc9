//! All tests that need more than one crate: one binary.
#![expect(clippy::disallowed_methods, reason = "tests read the clock, and wait for processes")]

mod bad_input;
mod crash;
mod deploy;
mod first_light;
mod many_accounts;
mod store_contract;
mod tidy;
