//! How a command ends.

use std::process::ExitCode;
use tonic::{Code, Status};

/// The exit codes; `ringfence help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Error = 1,
    Present = 2,
    Partial = 3,
    Forbidden = 4,
    Refused = 5,
    Failed = 6,
    Timeout = 7,
    Unreachable = 8,
    Usage = 64,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), hint: None }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        // A connection that broke has no code of its own: tonic says Unknown or Internal.
        let broken = ["h2 protocol error", "transport error", "tcp connect error"];
        if broken.iter().any(|text| status.message().contains(text)) {
            return Failure {
                exit: Exit::Unreachable,
                message: format!("the connection to the server broke ({})", status.message()),
                hint: Some(
                    "what was started goes on when the server is back; is it a Ringfence server?"
                        .into(),
                ),
            };
        }
        let exit = match status.code() {
            Code::FailedPrecondition => Exit::Refused,
            Code::PermissionDenied | Code::Unauthenticated => Exit::Forbidden,
            Code::DeadlineExceeded => Exit::Timeout,
            Code::Unavailable => Exit::Unreachable,
            _ => Exit::Error,
        };
        Failure::new(exit, status.message())
    }
}

/// The result of a command.
pub(crate) type End = Result<Exit, Failure>;
