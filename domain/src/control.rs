//! A control: what to read, what breaks it, what would be done, what prevents it. All pure.

use crate::finding::Detected;
use crate::rds::Sweep;

/// What a scan must read before `detect` can judge a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facts {
    /// DB instances and clusters.
    Databases,
    /// Manual snapshots of both.
    Snapshots,
}

/// One control. [`crate::controls::of`] says which one a resource breaks.
pub trait Control: Sync {
    /// Its name in the store, in JSON and on screen.
    fn id(&self) -> &'static str;

    /// One sentence for help and reports.
    fn doc(&self) -> &'static str;

    /// What must be read first.
    fn needs(&self) -> &'static [Facts];

    /// What breaks the control, and what this version cannot judge.
    fn detect(&self, sweep: &Sweep, strict: bool) -> Detection;

    /// The SCP that keeps it from breaking again; `None` if no policy can.
    fn prevent(&self) -> Option<&'static str>;
}

/// What a control says of one cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detection {
    /// The resources that break it.
    pub findings: Vec<Detected>,
    /// Resources that cannot be judged: the cell becomes `error`, for these reasons.
    pub unjudged: Vec<String>,
    /// In-scope DB instances, members and replicas included.
    pub instances: u32,
    /// In-scope DB clusters.
    pub clusters: u32,
    /// Resources of engines that are out of scope.
    pub out_of_scope: u32,
}
