//! Where a remediation stands.

use serde::{Deserialize, Serialize};

/// Where a remediation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Admitted, not begun.
    Pending,
    /// Being worked on.
    Running,
    /// The twin is verified and the scratch is gone.
    Verified,
    /// A person must look; `why` says at what.
    Stopped,
    /// A person stopped it for a while, or its plan's failures did; nothing is done.
    Paused,
    /// A person ended it; its scratch is gone.
    Cancelled,
    /// The twin has the original's name; the original is kept under another.
    CutOver,
    /// The original has its name again; the twin stays beside it.
    RolledBack,
    /// The original is gone.
    Decommissioned,
    /// A twin that nobody wanted is gone.
    Discarded,
}

impl State {
    /// All states.
    pub const ALL: [State; 10] = [
        State::Pending,
        State::Running,
        State::Verified,
        State::Stopped,
        State::Paused,
        State::Cancelled,
        State::CutOver,
        State::RolledBack,
        State::Decommissioned,
        State::Discarded,
    ];

    /// The name in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Running => "running",
            State::Verified => "verified",
            State::Stopped => "stopped",
            State::Paused => "paused",
            State::Cancelled => "cancelled",
            State::CutOver => "cut_over",
            State::RolledBack => "rolled_back",
            State::Decommissioned => "decommissioned",
            State::Discarded => "discarded",
        }
    }

    /// Whether nothing more will happen, unless a person asks for it.
    pub fn ended(self) -> bool {
        match self {
            State::Verified
            | State::Stopped
            | State::Cancelled
            | State::CutOver
            | State::RolledBack
            | State::Decommissioned
            | State::Discarded => true,
            State::Pending | State::Running | State::Paused => false,
        }
    }
}
