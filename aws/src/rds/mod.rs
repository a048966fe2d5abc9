//! RDS: reading a cell, and the writes of a remediation.

mod convert;
mod read;
mod write;
mod write_cluster;
mod write_instance;

pub use write::Made;
