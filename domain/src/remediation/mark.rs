//! Milestones: what AWS cannot show, set once, each before the act that it permits.

use super::{Activity, Goal, Remediation, State, Swap, Twin};
use crate::finding::Kind;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A fact that AWS cannot show. Set once, before the act that it permits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mark")]
pub enum Mark {
    /// The twin equals the original, field by field, and is encrypted under the key.
    Verified,
    /// It cannot work: what we made is taken down again, for this reason.
    GivingUp {
        /// What went wrong.
        why: String,
    },
    /// The operator's command found the data to be the same.
    Checked {
        /// What it said.
        said: String,
    },
    /// The isolation group that was to be made is there, and lets nobody in or out.
    Isolation {
        /// Its id.
        group: String,
    },
    /// AWS made the green environment.
    Greens {
        /// The twins, by the immutable ids of their originals.
        twins: BTreeMap<String, Twin>,
    },
    /// AWS has switched over.
    SwitchedOver {
        /// The names that the originals have since, by their immutable ids.
        held: BTreeMap<String, String>,
    },
    /// Nobody is connected, so the snapshot may be taken.
    Quiet {
        /// The proof.
        activity: Activity,
    },
    /// It is stopped, and was quiet until then.
    Stopped {
        /// The proof.
        proof: Activity,
    },
    /// Nobody has met the twin.
    Unmet,
    /// It was quiet up to its isolation, so names may change.
    CutOverBegins {
        /// The proof.
        proof: Activity,
    },
    /// The twin bears the name, equals the original, and is open.
    CutOver,
    /// The original was used after its snapshot.
    Stale {
        /// When, and how much.
        why: String,
    },
    /// Nobody met the twin, so names may change back.
    RollBackBegins,
    /// Somebody did: the twin stays.
    NoWayBack {
        /// When, and how much.
        why: String,
    },
    /// The twin is not discarded.
    Met {
        /// Who met it, or why that is not known.
        why: String,
    },
}

impl Remediation {
    /// Sets a milestone. The action and the reason for the audit log.
    pub fn mark(&mut self, mark: &Mark, now: Time) -> (&'static str, String) {
        // Marks of a swap are only decided where there is one.
        let mut swap = self.swap.take().unwrap_or_default();
        let swaps = !matches!(mark, Mark::Verified | Mark::GivingUp { .. } | Mark::Checked { .. });
        let mut aim = None;
        let note = |why: &str| Some(format!("{now}: {why}"));
        let said = match mark {
            Mark::Verified => {
                self.verified_at = Some(now);
                if let Some(green) = &mut swap.green {
                    green.proven_at = Some(now);
                }
                let (why, said) = match self.kind {
                    Kind::Snapshot => ("verified", "the copy has what the original has"),
                    _ if swap.green.is_some() => ("verified", "the twin equals the original"),
                    _ => ("verified; scratch is being deleted", "the twin equals the original"),
                };
                self.why = why.into();
                ("remediation.verify", said.into())
            }
            Mark::Checked { said } => {
                self.checked = Some((now, said.clone()));
                ("remediation.check", format!("remediation.check_command agrees: {said}"))
            }
            Mark::GivingUp { why } => {
                self.giving_up = Some(why.clone());
                self.why = format!("{why}; what was made is being taken down");
                ("remediation.give-up", why.clone())
            }
            Mark::Isolation { group } => {
                swap.isolation.clone_from(group);
                ("remediation.isolation", format!("{group} lets nobody in or out"))
            }
            Mark::Greens { twins } => {
                let names: Vec<&str> = twins.values().map(|t| t.name.as_str()).collect();
                let said = format!("AWS made {}", names.join(", "));
                if let Some(twin) = twins.get(self.source.resource_id()) {
                    self.names.twin.clone_from(&twin.name);
                }
                swap.green.get_or_insert_default().twins.clone_from(twins);
                ("remediation.green", said)
            }
            Mark::SwitchedOver { held } => {
                swap.began_at = Some(now);
                if !self.intents.contains_key("switch over") && self.note.is_none() {
                    self.note = note("the names had changed before Ringfence asked for it");
                }
                swap.green.get_or_insert_default().held.clone_from(held);
                ("remediation.switched-over", "the names have changed".into())
            }
            Mark::Quiet { activity } => {
                swap.quiet = Some(activity.clone());
                ("remediation.quiet", format!("quiet, {activity}"))
            }
            Mark::Stopped { proof } => {
                swap.stopped = Some(proof.clone());
                ("remediation.stopped", format!("quiet until it was stopped, {proof}"))
            }
            Mark::Unmet => {
                swap.unmet_at = Some(now);
                ("remediation.twin-untouched", "nobody connected to the twin".into())
            }
            Mark::CutOverBegins { proof } => {
                (swap.began_at, swap.proof) = (Some(now), Some(proof.clone()));
                ("remediation.cutover-begins", format!("names may change: quiet, {proof}"))
            }
            Mark::CutOver => {
                swap.done_at = Some(now);
                ("remediation.cut-over", "the twin has the original's name and settings".into())
            }
            Mark::Stale { why } => {
                swap.stale = Some(why.clone());
                self.note = note(&format!("the cutover was given up: {why}"));
                aim = Some(Goal::RollBack);
                ("remediation.stale", why.clone())
            }
            Mark::RollBackBegins => {
                swap.back_at = Some(now);
                ("remediation.rollback-begins", "nobody connected since the cutover".into())
            }
            Mark::NoWayBack { why } => {
                self.note = note(&format!("the rollback was refused: {why}"));
                swap.back_at = None;
                aim = Some(Goal::CutOver);
                ("remediation.no-way-back", why.clone())
            }
            Mark::Met { why } => {
                self.note = note(&format!("the twin is not discarded: {why}"));
                aim = Some(Goal::Twin);
                ("remediation.twin-kept", why.clone())
            }
        };
        self.swap = (swap != Swap::default()).then_some(swap);
        if let Some(goal) = aim {
            self.aim(goal, now);
        }
        if swaps {
            self.why.clone_from(&said.1);
        }
        if matches!(mark, Mark::Met { .. }) {
            let back = self.swap.as_ref().is_some_and(|s| s.back_at.is_some());
            (self.goal, self.state) = match back {
                true => (Goal::RollBack, State::RolledBack),
                false => (Goal::Twin, State::Verified),
            };
            self.why = self.note.clone().unwrap_or_default();
        }
        said
    }
}
