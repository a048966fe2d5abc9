//! What a person can say to remediations that are under way: pause, resume, cancel, retry.

use crate::app::{App, Fault, because, now, refused};
use crate::remediations::{of_plan, row_with};
use crate::store::{Kind, Row};
use crate::{decommission, freezes, plans, reports};
use ringfence_domain::audit::Actor;
use ringfence_domain::finding::Finding;
use ringfence_domain::plan::Plan;
use ringfence_domain::remediation::{Goal, JOB_FOR_MAX, Remediation, State};
use ringfence_domain::time::Time;
use std::collections::BTreeSet;

/// Agents write too; an order is read and written again so often.
const TRIES: u32 = 8;

/// The order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Ask AWS for nothing more until it is resumed. What was asked for goes on in AWS.
    Pause,
    /// Go on; the failures so far are looked at.
    Resume,
    /// End it: its snapshots are deleted; the original and a twin stay.
    Cancel,
    /// Begin again with what stands.
    Retry,
    /// Put the twin into the original's place.
    CutOver,
    /// Put the original back.
    RollBack,
    /// Nobody writes to the original any more.
    Confirm,
    /// Delete a twin that nobody ever connected to.
    Discard,
}

impl Order {
    fn verb(self) -> &'static str {
        match self {
            Order::Pause => "pause",
            Order::Resume => "resume",
            Order::Cancel => "cancel",
            Order::Retry => "retry",
            Order::CutOver => "cutover",
            Order::RollBack => "rollback",
            Order::Confirm => "confirm",
            Order::Discard => "discard",
        }
    }

    /// Whether something is to be changed in AWS for it. A cancel deletes scratch only, and that waits.
    fn begins_work(self) -> bool {
        matches!(self, Order::Retry | Order::CutOver | Order::RollBack | Order::Discard)
    }

    /// Whether it is for a remediation as that one stands.
    fn fits(self, rem: &Remediation) -> bool {
        self.refusal(rem).is_none()
    }

    /// Why it is not for a remediation as that one stands; the text is empty where its state says all.
    fn refusal(self, rem: &Remediation) -> Option<String> {
        let mut tried = rem.clone();
        match self {
            Order::CutOver => tried.cut_over(now()),
            Order::RollBack => tried.roll_back(now()),
            Order::Discard => tried.discard(now()),
            Order::Confirm => tried.confirm("", now()),
            Order::Pause | Order::Cancel
                if rem.goal != Goal::Twin && rem.state == State::Running =>
            {
                Some(match rem.goal {
                    Goal::Decommission => {
                        "what it was about is being deleted: wait until that is done".into()
                    }
                    _ => "its databases change places; wait until that is done, or roll it back"
                        .into(),
                })
            }
            Order::Cancel if rem.state == State::Verified && rem.swap.is_some() => Some(
                "its twin is verified: `remediation discard` deletes it, and gives the original back where that was cut off"
                    .into(),
            ),
            Order::Pause if rem.state == State::Running && rem.cuts_off() => {
                Some("its original is cut off while it works: cancel gives it back".into())
            }
            _ => (!self.holds(rem)).then(String::new),
        }
    }

    fn holds(self, rem: &Remediation) -> bool {
        let verified = rem.verified_at.is_some();
        // A pause between two names would leave the application without a database.
        let making = rem.goal == Goal::Twin;
        match (self, rem.state) {
            (Order::Pause, State::Pending | State::Running) => {
                rem.giving_up.is_none() && making && !rem.cuts_off()
            }
            (Order::Resume, State::Paused) => true,
            (Order::Cancel, State::Pending | State::Running | State::Paused) => {
                !verified && !rem.cancelled
            }
            // Also one whose clean-up failed.
            (Order::Cancel, State::Stopped) => !verified,
            (Order::Retry, State::Stopped | State::Cancelled | State::Discarded) => true,
            _ => false,
        }
    }

    fn give(self, rem: &mut Remediation, who: &str, reason: &str, at: Time) {
        let why = |verb: &str| format!("{verb} by {who}: {reason}");
        match self {
            Order::Pause => (rem.state, rem.why) = (State::Paused, why("paused")),
            Order::Resume => {
                (rem.state, rem.why, rem.wake_at) = (State::Pending, why("resumed"), at);
            }
            Order::Cancel => rem.cancel(why("cancelled"), at),
            Order::Retry => {
                rem.retry(at);
                rem.why = why("retried");
            }
            // What refuses them was asked before.
            Order::CutOver => {
                rem.cut_over(at);
                rem.why = why("cutover ordered");
            }
            Order::RollBack => {
                rem.roll_back(at);
                rem.why = why("rollback ordered");
            }
            Order::Discard => {
                rem.discard(at);
                rem.why = why("discard ordered");
            }
            Order::Confirm => {
                rem.confirm(who, at);
                rem.why = why("quiet, confirmed");
            }
        }
    }
}

/// Gives an order to a remediation, or to all of a plan that it fits. The remediations that it changed.
///
/// Each is a write of its own: of thousands some are being worked on, and one that an agent wrote meanwhile
/// must not keep the others from being paused.
pub async fn give(
    app: &App,
    actor: &Actor,
    order: Order,
    id: &str,
    reason: &str,
    dry: bool,
) -> Result<Vec<Remediation>, Fault> {
    let reason = because(reason, "it goes into the audit log")?;
    let all = named(app, id).await?;
    // Of a whole plan, what a person cancelled is not begun again with what failed.
    let whole = id.starts_with("pl-");
    let meant = |rem: &Remediation| {
        let unwanted = matches!(rem.state, State::Cancelled | State::Discarded);
        // Nor are deletions gone on with that way.
        let deletes = matches!(rem.goal, Goal::Decommission | Goal::Discard);
        order.fits(rem) && !(whole && order == Order::Retry && (unwanted || deletes))
    };
    let mut chosen: Vec<&(Row, Remediation)> = all.iter().filter(|(_, rem)| meant(rem)).collect();
    if chosen.is_empty() {
        // One reason for all of them says more than their states.
        let why: BTreeSet<String> = all.iter().filter_map(|(_, rem)| order.refusal(rem)).collect();
        let text = match why.first() {
            Some(reason) if why.len() == 1 && !reason.is_empty() => {
                format!("{id}: no {}: {reason}; nothing was changed", order.verb())
            }
            _ => nothing(order, id, &all),
        };
        return refused("NOTHING_TO_CHANGE", text);
    }
    if order.begins_work() {
        let rems = chosen.iter().map(|(_, rem)| rem);
        let free = freezes::refuse(app, rems, order == Order::RollBack).await?;
        chosen.retain(|(_, rem)| free.contains(rem.id.as_str()));
    }
    // What is being worked on first.
    chosen.sort_by_key(|(_, rem)| rem.state != State::Running);
    let mut changed = Vec::new();
    for (_, rem) in chosen {
        changed.extend(one(app, actor, order, &rem.id, reason, dry).await?);
    }
    if order == Order::Resume && !dry {
        forgive(app, actor, &all[0].1.plan, reason).await?;
    }
    app.wake_admission.notify_one();
    app.wake_agents.notify_waiters();
    Ok(changed)
}

/// Gives an order to one; `None` where it fits no more.
async fn one(
    app: &App,
    actor: &Actor,
    order: Order,
    id: &str,
    reason: &str,
    dry: bool,
) -> Result<Option<Remediation>, Fault> {
    for _ in 0..TRIES {
        let (row, mut rem): (Row, Remediation) = app.load(Kind::Remediation, id).await?;
        if !order.fits(&rem) {
            return Ok(None);
        }
        let mut rows = Vec::new();
        if order == Order::Retry {
            // Read before looking who is busy, and written with the rest: of a retry and a new plan for one
            // database, one finds its finding changed.
            let (row, finding): (Row, Finding) = app.load(Kind::Finding, &rem.finding).await?;
            rows.push(reports::row_of(Some(row), &finding));
            retryable(app, &rem).await?;
        }
        order.give(&mut rem, &actor.name, reason, now());
        rows.push(row_with(row, &rem));
        if dry {
            return Ok(Some(rem));
        }
        let event = actor.did(now(), &format!("remediation.{}", order.verb()), id, reason);
        if app.store.update(&rows, &event).await? {
            return Ok(Some(rem));
        }
    }
    Err(Fault::Conflict(format!("{id} keeps changing: try again")))
}

async fn named(app: &App, id: &str) -> Result<Vec<(Row, Remediation)>, Fault> {
    if id.starts_with("pl-") {
        let _: (Row, Plan) = app.load(Kind::Plan, id).await?;
        return app.all(Kind::Remediation, &of_plan(id)).await;
    }
    Ok(vec![app.load(Kind::Remediation, id).await?])
}

fn nothing(order: Order, id: &str, all: &[(Row, Remediation)]) -> String {
    let counts: Vec<String> = State::ALL
        .into_iter()
        .map(|state| (state, all.iter().filter(|(_, r)| r.state == state).count()))
        .filter(|(_, n)| *n > 0)
        .map(|(state, n)| format!("{n} {}", state.as_str()))
        .collect();
    let stands = if counts.is_empty() { "no remediation".to_owned() } else { counts.join(", ") };
    format!("{id}: nothing to {} ({stands}); nothing was changed", order.verb())
}

/// A retry stands on the plan's approval, which does not last for ever, and on the database being nobody
/// else's. Where the twin is verified, only scratch is left to be deleted, or what was approved apart.
async fn retryable(app: &App, rem: &Remediation) -> Result<(), Fault> {
    if rem.verified_at.is_none() && now().since(rem.approved_at) > JOB_FOR_MAX {
        return refused(
            "APPROVAL_OLD",
            format!(
                "{}: its approval is older than {JOB_FOR_MAX}: make a new plan for {}",
                rem.id,
                rem.source.name()
            ),
        );
    }
    // A deletion stands on approvals of its own, and those do not last for ever either.
    if rem.goal == Goal::Decommission {
        decommission::approved(app, rem)?;
    }
    plans::busy(app, std::slice::from_ref(rem)).await
}

/// A person has looked at the plan's failures so far.
async fn forgive(app: &App, actor: &Actor, plan: &str, reason: &str) -> Result<(), Fault> {
    let all: Vec<(Row, Remediation)> = app.all(Kind::Remediation, &of_plan(plan)).await?;
    let failed = all.into_iter().filter(|(_, r)| r.state == State::Stopped && !r.forgiven);
    let rows: Vec<Row> = failed
        .map(|(row, mut rem)| {
            rem.forgiven = true;
            row_with(row, &rem)
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let event =
        actor.did(now(), "plan.forgive", plan, format!("{} failures: {reason}", rows.len()));
    // Where one of them changed meanwhile, somebody is at it; the budget asks again.
    app.store.update(&rows, &event).await?;
    Ok(())
}
