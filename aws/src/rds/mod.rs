//! RDS: reading a cell, and the writes of a remediation.

mod convert;
mod read;
mod write;

pub use write::Made;
