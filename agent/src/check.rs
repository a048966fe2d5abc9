//! The check of a twin's data, a command of the operator's own (`remediation.check_command`); and, the same way, of a
//! stage's health (`rollout.health_command`).
//!
//! Whether a twin has the rows that its original has is seen inside of it, with credentials that Ringfence does
//! not have and does not want. The command is told which two databases are meant, reads what it likes, and says
//! by its exit code whether they agree. It changes nothing, so after a crash it may run once more.

use ringfence_domain::time::{Span, Time};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// So much of what a command says last is kept, in characters: a sentence, and no dump.
const SAID_MAX: usize = 200;

/// So much of its output is looked at for that, in bytes.
const TAIL: u64 = 4_096;

/// The checks of one process; all its threads share them.
#[derive(Clone)]
pub struct Checks {
    command: PathBuf,
    most: Span,
    running: Arc<Mutex<HashMap<String, Running>>>,
}

struct Running {
    child: Child,
    output: File,
    since: Time,
}

/// How a check stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Since when.
    Running(Time),
    /// The databases agree; what the command said last.
    Passed(String),
    /// They do not, or nobody knows: its exit code, if it had one, and why.
    Failed(Option<i32>, String),
}

impl Checks {
    /// `None` where no command is configured.
    pub fn new(command: &str, most: Span) -> Option<Checks> {
        (!command.is_empty()).then(|| Checks {
            command: command.into(),
            most,
            running: Arc::default(),
        })
    }

    /// Begins the check of what has this id, or looks how it stands.
    pub fn look(&self, id: &str, about: &[(&str, String)], now: Time) -> Look {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(one) = running.get_mut(id) else {
            return match self.begin(about, now) {
                Ok(one) => {
                    running.insert(id.to_owned(), one);
                    Look::Running(now)
                }
                Err(error) => {
                    Look::Failed(None, format!("{} cannot be run: {error}", self.command.display()))
                }
            };
        };
        let look = match one.child.try_wait() {
            Ok(None) if now.since(one.since) > self.most => {
                drop(one.child.kill());
                drop(one.child.wait());
                Look::Failed(None, format!("it did not end within {}", self.most))
            }
            Ok(None) => return Look::Running(one.since),
            // An answer that nobody came for in so long is of another time: a freeze or a pause was in between.
            Ok(Some(_)) if now.since(one.since) > self.most => {
                running.remove(id);
                drop(running);
                return self.look(id, about, now);
            }
            Ok(Some(status)) if status.success() => Look::Passed(said(&mut one.output)),
            Ok(Some(status)) => {
                let how = status.code().map_or(status.to_string(), |c| format!("exit code {c}"));
                let why = match said(&mut one.output) {
                    said if said.is_empty() => how,
                    said => format!("{how}: {said}"),
                };
                Look::Failed(status.code(), why)
            }
            Err(error) => Look::Failed(None, error.to_string()),
        };
        running.remove(id);
        look
    }

    fn begin(&self, about: &[(&str, String)], now: Time) -> std::io::Result<Running> {
        let output = tempfile::tempfile()?;
        let mut command = Command::new(&self.command);
        // What is configured for the agent, its join token too, is none of the command's business.
        for key in ours() {
            command.env_remove(key);
        }
        command.envs(about.iter().map(|(key, value)| (format!("RINGFENCE_{key}"), value)));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        Ok(Running { child: command.spawn()?, output, since: now })
    }
}

fn ours() -> Vec<OsString> {
    let all = std::env::vars_os().map(|(key, _)| key);
    all.filter(|key| key.to_string_lossy().starts_with("RINGFENCE_")).collect()
}

/// The last line that is not empty.
fn said(output: &mut File) -> String {
    let length = output.metadata().map_or(0, |m| m.len());
    let mut tail = Vec::new();
    let read = output
        .seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .and_then(|_| output.read_to_end(&mut tail));
    if read.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&tail);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let clean = |c: &char| !c.is_control();
    last.unwrap_or_default().chars().filter(clean).take(SAID_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn end(text: &str, most: Span) -> Look {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("check");
        std::fs::write(&script, format!("#!/bin/sh\n{text}\n")).expect("write");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let checks = Checks::new(script.to_str().expect("text"), most).expect("a command");
        let about = [("TWIN", "encrypted-orders".to_owned())];
        for n in 0.. {
            // Time passes by a second a look, and the child is given the processor in between.
            match checks.look("rem-1", &about, Time(n * 1_000)) {
                Look::Running(_) => std::thread::yield_now(),
                look => return look,
            }
        }
        unreachable!("it ends, or its time does")
    }

    #[test]
    fn the_exit_code_says_whether_they_agree() {
        let long = Span::hours(1_000_000);
        assert_eq!(
            end("echo noise; echo \"7 rows of $RINGFENCE_TWIN\"", long),
            Look::Passed("7 rows of encrypted-orders".into())
        );
        assert_eq!(
            end("echo 'rows differ'; echo; exit 3", long),
            Look::Failed(Some(3), "exit code 3: rows differ".into())
        );
        assert_eq!(
            end("exec sleep 1000", Span::seconds(5)),
            Look::Failed(None, "it did not end within 5s".into())
        );
        assert_eq!(end("exit 4", long), Look::Failed(Some(4), "exit code 4".into()));
        assert_eq!(
            end("echo 'no answer' >&2; exit 2", long),
            Look::Failed(Some(2), "exit code 2: no answer".into())
        );
        let none = Checks::new("/nowhere/check", long).expect("a command");
        assert!(
            matches!(none.look("rem-1", &[], Time(0)), Look::Failed(None, why) if why.contains("cannot be run"))
        );
        assert!(Checks::new("", long).is_none());
    }
}
