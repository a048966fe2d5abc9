//! What people want of a rollout, and where it stands.

use serde::{Deserialize, Serialize};

/// What a person asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Nothing yet.
    Planned,
    /// Go on.
    Run,
    /// Attach nothing more; keep what is attached.
    Pause,
    /// Detach what this rollout attached.
    Abort,
    /// Detach this stage and all after it, for it does harm.
    Retreat {
        /// Its number, from 0.
        stage: usize,
    },
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Planned, not started.
    Planned,
    /// Attaching.
    Running,
    /// A stage is attached and watched, before the next one begins.
    Baking,
    /// A person paused it.
    Paused,
    /// A gate or an approval refuses; `why` says which. `resume` tries again.
    Blocked,
    /// Detaching.
    Aborting,
    /// All targets are attached.
    Complete,
    /// All that it attached is detached again.
    Aborted,
    /// A person must look.
    Failed,
    /// A later version has taken its place.
    Superseded,
}

impl State {
    /// All states.
    pub const ALL: [State; 10] = [
        State::Planned,
        State::Running,
        State::Baking,
        State::Paused,
        State::Blocked,
        State::Aborting,
        State::Complete,
        State::Aborted,
        State::Failed,
        State::Superseded,
    ];

    /// The name in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Planned => "planned",
            State::Running => "running",
            State::Baking => "baking",
            State::Paused => "paused",
            State::Blocked => "blocked",
            State::Aborting => "aborting",
            State::Complete => "complete",
            State::Aborted => "aborted",
            State::Failed => "failed",
            State::Superseded => "superseded",
        }
    }
}
