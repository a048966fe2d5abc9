//! What a person can say to remediations that are under way: pause, resume, cancel, retry.

use crate::admission::{of_plan, row_with};
use crate::app::{App, Fault, now, refused};
use crate::plans;
use crate::store::{Kind, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::plan::Plan;
use ringfence_domain::remediation::{JOB_FOR_MAX, Remediation, State};
use ringfence_domain::time::Time;

/// Agents write too; an order is read and written again so often.
const TRIES: u32 = 8;

/// The order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Ask AWS for nothing more until it is resumed. What was asked for goes on in AWS.
    Pause,
    /// Go on; the failures so far are looked at.
    Resume,
    /// End it: scratch is deleted, a twin stays.
    Cancel,
    /// Begin again with what stands.
    Retry,
}

impl Order {
    fn verb(self) -> &'static str {
        match self {
            Order::Pause => "pause",
            Order::Resume => "resume",
            Order::Cancel => "cancel",
            Order::Retry => "retry",
        }
    }

    /// Whether it is for a remediation as that one stands.
    fn fits(self, rem: &Remediation) -> bool {
        let verified = rem.verified_at.is_some();
        match (self, rem.state) {
            (Order::Pause, State::Pending | State::Running) => rem.giving_up.is_none(),
            (Order::Resume, State::Paused) => true,
            (Order::Cancel, State::Pending | State::Running | State::Paused | State::Stopped) => {
                !verified && !rem.cancelled
            }
            (Order::Retry, State::Stopped | State::Cancelled) => true,
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
        }
    }
}

/// Gives an order to a remediation, or to all of a plan that it fits. The remediations that it changed.
pub async fn give(
    app: &App,
    actor: &Actor,
    order: Order,
    id: &str,
    reason: &str,
    dry: bool,
) -> Result<Vec<Remediation>, Fault> {
    if reason.trim().is_empty() {
        return Err(Fault::Invalid("reason: say why; it goes into the audit log".into()));
    }
    for _ in 0..TRIES {
        let all = named(app, id).await?;
        let mut rows = Vec::new();
        let mut changed = Vec::new();
        for (row, rem) in all.iter().filter(|(_, rem)| order.fits(rem)) {
            let mut rem = rem.clone();
            order.give(&mut rem, &actor.name, reason.trim(), now());
            rows.push(row_with(row, &rem));
            changed.push(rem);
        }
        if changed.is_empty() {
            return refused("NOTHING_TO_CHANGE", nothing(order, id, &all));
        }
        if order == Order::Retry {
            retryable(app, &changed).await?;
        }
        if order == Order::Resume {
            rows.push(forgive(app, &changed[0].plan).await?);
        }
        if dry {
            return Ok(changed);
        }
        let event = actor.did(now(), &format!("remediation.{}", order.verb()), id, reason);
        if app.store.update(&rows, &event).await? {
            app.wake_admission.notify_one();
            app.wake_agents.notify_waiters();
            return Ok(changed);
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
/// else's.
async fn retryable(app: &App, changed: &[Remediation]) -> Result<(), Fault> {
    if let Some(old) = changed.iter().find(|r| now().since(r.approved_at) > JOB_FOR_MAX) {
        return refused(
            "APPROVAL_OLD",
            format!(
                "{}: its approval is older than {JOB_FOR_MAX}: make a new plan for {}",
                old.id,
                old.source.name()
            ),
        );
    }
    plans::busy(app, changed).await
}

/// A person has looked at the plan's failures so far.
async fn forgive(app: &App, plan: &str) -> Result<Row, Fault> {
    let (row, mut document): (Row, Plan) = app.load(Kind::Plan, plan).await?;
    let all: Vec<(Row, Remediation)> = app.all(Kind::Remediation, &of_plan(plan)).await?;
    let stopped = all.iter().filter(|(_, r)| r.state == State::Stopped).count();
    document.forgiven = u32::try_from(stopped).unwrap_or(u32::MAX);
    let state = row.state.clone();
    Ok(row.with(&state, &document))
}
