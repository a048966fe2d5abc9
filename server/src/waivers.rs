//! Waivers of whole accounts, and the end of every waiver.

use crate::app::{App, Fault, changed, instant, now, readable, refused, rest};
use crate::reports::row_of;
use crate::store::{Filter, Kind, Row};
use ringfence_domain::audit::Actor;
use ringfence_domain::finding::{AccountWaiver, Finding, FindingState, Waiver};
use ringfence_domain::id::AccountId;
use std::collections::BTreeMap;

/// Rows of one write.
const BATCH: usize = 500;

/// How often waivers are looked at for their end. A gate asks for itself, whenever it is asked.
const LOOK_MS: u64 = 1_000;

const ACTIVE: &str = "active";

/// What a waiver wants: an owner, a reason, and an end that is not over.
pub(crate) fn wanted(
    actor: &Actor,
    (owner, reason, until): (&str, &str, &str),
) -> Result<Waiver, Fault> {
    for (flag, value) in [("--owner", owner), ("--reason", reason)] {
        if value.trim().is_empty() {
            return Err(Fault::Invalid(format!("a waiver needs {flag}")));
        }
    }
    let until = instant("until", until)?;
    if until <= now() {
        return Err(Fault::Invalid(format!(
            "--until {until} is in the past: a waiver ends in the future"
        )));
    }
    let (owner, reason, by) = (owner.to_owned(), reason.to_owned(), actor.name.clone());
    Ok(Waiver { owner, reason, until, by, account: false })
}

/// Waives all that is or will be found in an account until then; how many findings that is now. What could not be read
/// there stays unknown.
pub async fn waive(
    app: &App,
    actor: &Actor,
    account: &AccountId,
    asked: (&str, &str, &str),
    dry: bool,
) -> Result<(AccountWaiver, usize), Fault> {
    let waiver = Waiver { account: true, ..wanted(actor, asked)? };
    let tree = app.tree().await?;
    if tree.get(&account.into()).is_none() {
        return Err(Fault::NotFound(format!(
            "account: {account} is not in the organization as of {}",
            tree.as_of
        )));
    }
    let of_account = AccountWaiver { account: account.clone(), waiver };
    let covered = findings(app, account, |finding| of_account.cover(finding)).await?;
    if dry {
        return Ok((of_account, covered.len()));
    }
    let w = &of_account.waiver;
    let text = format!("until {}, owner {}: {}", w.until, w.owner, w.reason);
    // The waiver first: what is found from now on is covered, too.
    let row = match app.store.get(Kind::Waiver, account.as_str()).await? {
        Some(row) => row.with(ACTIVE, &of_account),
        None => Row {
            account: account.to_string(),
            ..Row::new(Kind::Waiver, account.as_str(), ACTIVE, now(), &of_account)
        },
    };
    let found = covered.len();
    write(app, actor, ("account.waive", &text), account, (row, covered)).await?;
    Ok((of_account, found))
}

/// Ends the waiver of an account; how many findings count again.
pub async fn unwaive(
    app: &App,
    actor: &Actor,
    account: &AccountId,
    reason: &str,
    dry: bool,
) -> Result<usize, Fault> {
    let row = app.store.get(Kind::Waiver, account.as_str()).await?;
    let Some(row) = row.filter(|row| row.state == ACTIVE) else {
        return refused("NOT_WAIVED", format!("{account} has no waiver"));
    };
    let end = |finding: &mut Finding| {
        finding.waiver.take_if(|w| w.account);
    };
    let covered = findings(app, account, end).await?;
    if dry {
        return Ok(covered.len());
    }
    let of_account: AccountWaiver = row.document()?;
    let found = covered.len();
    let row = row.with("ended", &of_account);
    write(app, actor, ("account.unwaive", reason), account, (row, covered)).await?;
    Ok(found)
}

/// The waivers of accounts that hold now.
pub async fn active(app: &App) -> Result<BTreeMap<AccountId, AccountWaiver>, Fault> {
    let filter = Filter { state: ACTIVE.to_owned(), ..Filter::default() };
    let all: Vec<(Row, AccountWaiver)> = app.all(Kind::Waiver, &filter).await?;
    let hold = all.into_iter().map(|(_, w)| w).filter(|w| w.waiver.until > now());
    Ok(hold.map(|w| (w.account.clone(), w)).collect())
}

/// Open findings of an account that an edit changes, as they are then.
async fn findings(
    app: &App,
    account: &AccountId,
    edit: impl Fn(&mut Finding),
) -> Result<Vec<Row>, Fault> {
    let filter = Filter {
        account: account.to_string(),
        state: FindingState::Open.as_str().to_owned(),
        ..Filter::default()
    };
    let all: Vec<(Row, Finding)> = app.all(Kind::Finding, &filter).await?;
    let mut rows = Vec::new();
    for (row, finding) in all {
        let mut after = finding.clone();
        edit(&mut after);
        if after != finding {
            rows.push(row_of(Some(row), &after));
        }
    }
    Ok(rows)
}

/// Writes a waiver and what it changes; an event for each write, of which there is mostly one.
async fn write(
    app: &App,
    actor: &Actor,
    (action, text): (&str, &str),
    account: &AccountId,
    (waiver, findings): (Row, Vec<Row>),
) -> Result<(), Fault> {
    let text = format!("{text} ({} findings)", findings.len()).trim_start().to_owned();
    let rows: Vec<Row> = std::iter::once(waiver).chain(findings).collect();
    for some in rows.chunks(BATCH) {
        let event = actor.did(now(), action, account.as_str(), text.as_str());
        if !app.store.update(some, &event).await? {
            return Err(changed(account.as_str()));
        }
    }
    Ok(())
}

/// Ends waivers whose time is over, for ever: their findings count again, and the audit log says so.
pub async fn run(app: App) {
    loop {
        rest(LOOK_MS).await;
        if let Err(fault) = end(&app).await {
            tracing::warn!("waivers: {fault}; they are looked at again");
            rest(10 * LOOK_MS).await;
        }
    }
}

async fn end(app: &App) -> Result<(), Fault> {
    let actor = Actor::system("waivers");
    for row in app.store.waivers_over(now()).await? {
        let Some(mut finding) = readable::<Finding>(row.document().map_err(Fault::from))? else {
            continue;
        };
        let Some(over) = finding.waiver.take() else { continue };
        let text = format!(
            "its waiver ended at {} (owner {}: {}): it counts again",
            over.until, over.owner, over.reason
        );
        let event = actor.did(now(), "finding.reopen", &finding.id, text);
        // Whoever changed it meanwhile: the next look sees it.
        app.store.update(&[row_of(Some(row), &finding)], &event).await?;
    }
    let filter = Filter { state: ACTIVE.to_owned(), ..Filter::default() };
    let all: Vec<(Row, AccountWaiver)> = app.all_readable(Kind::Waiver, &filter).await?;
    for (row, over) in all.into_iter().filter(|(_, w)| w.waiver.until <= now()) {
        let text =
            format!("the waiver of owner {} ended at {}", over.waiver.owner, over.waiver.until);
        let event = actor.did(now(), "account.reopen", over.account.as_str(), text);
        app.store.update(&[row.with("ended", &over)], &event).await?;
    }
    Ok(())
}
