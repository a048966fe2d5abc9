//! Scans that nobody asks for: full ones on a cron schedule, and small ones that keep evidence young.
//!
//! What is due is a function of the time, and a scan's id of what was due: however many servers look, and
//! whatever ends in between, each is made once.

use crate::app::{App, Fault, now, rest};
use crate::scans::{self, Start};
use crate::store::{Filter, Kind, Target};
use anyhow::Context;
use croner::Cron;
use ringfence_domain::audit::Actor;
use ringfence_domain::hash;
use ringfence_domain::id::AccountId;
use ringfence_domain::time::{Span, Time};
use ringfence_domain::work::Trigger;

const LOOK_MS: u64 = 1_000;

/// A full scan that could not begin at its time (no server, another one running) begins up to so much
/// later; after that it is left out, and the next one comes.
const CATCH_UP: Span = Span::hours(1);

/// The shortest time between two small scans.
const INCREMENT_LEAST: Span = Span::seconds(60);

/// `scan.schedule`, understood.
///
/// # Errors
/// Names the key and what is wrong with it.
pub fn parse(schedule: &str) -> anyhow::Result<Option<Cron>> {
    if schedule.is_empty() {
        return Ok(None);
    }
    let fix = || {
        format!(
            "scan.schedule = `{schedule}`: it must be a cron schedule of five fields in UTC, for example `0 2 * * *`"
        )
    };
    anyhow::ensure!(schedule.split_whitespace().count() == 5, fix());
    let cron = schedule.parse::<Cron>().with_context(fix)?;
    let never = cron.find_next_occurrence(&chrono::DateTime::UNIX_EPOCH, true).is_err();
    anyhow::ensure!(!never, "scan.schedule = `{schedule}`: there is no such day");
    Ok(Some(cron))
}

/// The full scan that is due now, by its time on the schedule: jitter spreads the load of many
/// organizations that all begin at two, and is the same for the same time.
fn due(cron: &Cron, jitter: Span, salt: &str, now: Time) -> Option<Time> {
    let at = chrono::DateTime::from_timestamp_millis(now.0)?;
    // Jitter may have moved the last but one behind the last.
    let mut before = cron.find_previous_occurrence(&at, true).ok()?;
    for _ in 0..2 {
        let time = Time(before.timestamp_millis());
        let late = now.since(time.plus(shift(jitter, salt, time)));
        if late.0 >= 0 {
            return (late <= CATCH_UP).then_some(time);
        }
        before = cron.find_previous_occurrence(&before, false).ok()?;
    }
    None
}

/// How much later than on the schedule.
fn shift(jitter: Span, salt: &str, time: Time) -> Span {
    let dice =
        u64::from_str_radix(&hash::short(&format!("{salt} {}", time.0), 12), 16).unwrap_or(0);
    let most = u64::try_from(jitter.0).unwrap_or(0);
    Span(i64::try_from(dice % (most + 1)).unwrap_or(0))
}

/// How often a small scan is made, and of how many accounts, so that the calls stay within the budget.
/// `calls`: what one account costs.
fn increment(budget_per_hour: u32, calls: u32) -> (Span, usize) {
    let (budget, calls) = (i64::from(budget_per_hour.max(1)), i64::from(calls.max(1)));
    let hour = Span::hours(1).0;
    // At least one account at a time, so a small budget makes the time longer.
    let every = INCREMENT_LEAST.0.max((hour * calls + budget - 1) / budget);
    let accounts = (budget * every / hour / calls).max(1);
    (Span(every), usize::try_from(accounts).unwrap_or(1))
}

/// Makes the scans that are due, for ever.
pub async fn run(app: App, cron: Option<Cron>) {
    let began = now();
    loop {
        if let Some(cron) = &cron
            && let Err(fault) = full(&app, cron, began).await
        {
            tracing::warn!("the scheduled scan: {fault}; it is tried again");
            rest(10 * LOOK_MS).await;
        }
        if app.config.scan_calls_per_hour > 0
            && let Err(fault) = small(&app).await
        {
            tracing::warn!("the incremental scan: {fault}; it is tried again");
            rest(10 * LOOK_MS).await;
        }
        rest(LOOK_MS).await;
    }
}

async fn exists(app: &App, id: &str) -> Result<bool, Fault> {
    Ok(app.store.get(Kind::Scan, id).await?.is_some())
}

/// Whether a scan of the whole organization runs.
async fn busy(app: &App) -> Result<bool, Fault> {
    Ok(scans::running(app).await?.iter().any(|scan| scan.whole))
}

async fn full(app: &App, cron: &Cron, began: Time) -> Result<(), Fault> {
    let salt = app.config.store_url.as_str();
    let Some(time) = due(cron, app.config.scan_jitter, salt, now()) else { return Ok(()) };
    let start = Start::unasked(&format!("schedule {}", time.0), &[], Trigger::Schedule);
    // A server that is new does not make up for what was due before anybody scheduled anything.
    let first =
        time < began && app.store.list(Kind::Scan, &Filter::default(), "", 1).await?.is_empty();
    if first || exists(app, &start.id).await? || busy(app).await? {
        return Ok(());
    }
    scans::start_whole(app, &Actor::system("schedule"), start).await.map(drop)
}

/// A scan of the accounts whose evidence is oldest; what was never scanned comes first.
async fn small(app: &App) -> Result<(), Fault> {
    // A cell is two calls, and six more to AWS Config; an account two.
    let a_cell = if app.config.scan_aws_config { 8 } else { 2 };
    let calls = 2 + a_cell * u32::try_from(app.store.regions_of_an_account().await?).unwrap_or(17);
    let (every, accounts) = increment(app.config.scan_calls_per_hour, calls);
    let slot = now().0 / every.0;
    let id_of = format!("incremental {} {slot}", every.0);
    let mut start = Start::unasked(&id_of, &[], Trigger::Incremental);
    if exists(app, &start.id).await? || busy(app).await? {
        return Ok(());
    }
    let oldest = app.store.oldest(i64::try_from(accounts).unwrap_or(1)).await?;
    let oldest: Vec<AccountId> = oldest.iter().filter_map(|a| a.parse().ok()).collect();
    start.accounts = Target::whole(&oldest);
    if start.accounts.is_empty() {
        return Ok(());
    }
    scans::start(app, &Actor::system("schedule"), start).await.map(drop)
}

/// Queues a scan of accounts that were created, moved or reactivated: what binds them and what is in
/// them may be different now. Only where evidence is kept young at all.
pub async fn changed(app: &App, as_of: Time, accounts: Vec<AccountId>) -> Result<(), Fault> {
    if accounts.is_empty() || app.config.scan_calls_per_hour == 0 {
        return Ok(());
    }
    let id_of = format!("changed {}", as_of.0);
    let start = Start::unasked(&id_of, &accounts, Trigger::Incremental);
    scans::start(app, &Actor::system("schedule"), start).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time::parse(text).expect("an instant")
    }

    #[test]
    fn a_full_scan_is_due_at_its_time_with_jitter_and_for_an_hour() {
        let cron = parse("0 2 * * *").unwrap().unwrap();
        let none = Span(0);
        let due_at = |text: &str, jitter| due(&cron, jitter, "salt", at(text));
        let two = at("2026-11-24T02:00:00Z");
        assert_eq!(due_at("2026-11-24T01:59:59Z", none), None, "yesterday's is too old");
        assert_eq!(due_at("2026-11-24T02:00:00Z", none), Some(two));
        assert_eq!(due_at("2026-11-24T02:59:59Z", none), Some(two));
        assert_eq!(due_at("2026-11-24T03:00:01Z", none), None);
        let jitter = Span::seconds(600);
        let shifted = two.plus(shift(jitter, "salt", two));
        assert!(shifted > two && shifted < two.plus(jitter), "{shifted}");
        assert_eq!(due(&cron, jitter, "salt", Time(shifted.0 - 1)), None);
        assert_eq!(due(&cron, jitter, "salt", shifted), Some(two));
        assert_ne!(shift(jitter, "salt", two), shift(jitter, "other", two));
        // With jitter longer than the interval, the one before is found.
        let often = parse("* * * * *").unwrap().unwrap();
        assert!(due(&often, Span::seconds(90), "salt", two).is_some());
        for wrong in ["0 2 * *", "at two", "61 * * * *", "0 0 2 * * *", "@daily", "0 2 30 2 *"] {
            let error = format!("{:#}", parse(wrong).unwrap_err());
            assert!(error.contains("scan.schedule") && error.contains(wrong), "{error}");
        }
        assert!(parse("").unwrap().is_none());
    }

    #[test]
    fn small_scans_stay_within_their_budget() {
        for (budget, calls) in [(1, 36), (36, 36), (1_000, 36), (100_000, 36), (7, 70), (3_600, 4)]
        {
            let (every, accounts) = increment(budget, calls);
            assert!(every >= INCREMENT_LEAST && accounts >= 1);
            let per_hour = accounts as f64 * f64::from(calls) * 3.6e6 / every.0 as f64;
            assert!(per_hour <= f64::from(budget) * 1.0001, "{budget} {calls}: {per_hour}");
            assert!(per_hour > f64::from(budget) * 0.4, "{budget} {calls}: {per_hour}");
        }
    }
}
