//! An AWS organization in memory, behind the real wire protocols: for the demo, rehearsals and tests.
//!
//! [`world`] is deterministic and pure; [`front`] puts it behind HTTP for unmodified AWS SDKs, and
//! [`admin`] is a second door, on loopback only, to see and change the world. Where it models a
//! behaviour, the comment names the page or the report it comes from. It depends on nothing else of
//! Ringfence's, so that it can be wrong in its own way only.

pub mod admin;
pub mod fault;
pub mod faults;
pub mod front;
pub mod generate;
mod hash;
pub mod inventory;
pub mod log;
pub mod regions;
pub mod run;
pub mod settings;
pub mod throttle;
pub mod truth;
pub mod value;
pub mod wire;
pub mod world;
