//! RDS: reading a cell, and the writes of a remediation.

mod around;
mod blue_green;
mod convert;
mod endpoints;
mod probe;
mod read;
mod snapshot;
mod write;
mod write_cluster;
mod write_instance;
mod write_place;
mod write_replica;

pub use around::in_time;
pub use write::Made;
