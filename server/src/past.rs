//! What earlier remediations say of the next ones.

use crate::app::{App, Fault, readable};
use crate::store::{Filter, Kind, Row};
use ringfence_domain::id::AccountId;
use ringfence_domain::plan::Past;
use ringfence_domain::remediation::{Remediation, State};
use std::collections::BTreeSet;

/// Twins of the past that say how long one takes; more of them would say no more.
const PAST_MAX: i64 = 200;

/// How long twins of the past took.
pub(crate) async fn past(app: &App) -> Result<Vec<Past>, Fault> {
    let mut past = Vec::new();
    for state in [State::Verified, State::CutOver, State::Decommissioned] {
        let filter = Filter { state: state.as_str().into(), ..Filter::default() };
        for row in app.store.list(Kind::Remediation, &filter, "", PAST_MAX).await? {
            let found = readable::<Remediation>(row.document().map_err(Fault::from))?;
            past.extend(found.as_ref().and_then(Past::of));
        }
    }
    Ok(past)
}

/// The accounts and engines where AWS was seen to encrypt a green environment.
pub(crate) async fn proven(
    app: &App,
    accounts: BTreeSet<&AccountId>,
) -> Result<BTreeSet<(AccountId, String)>, Fault> {
    let mut proven = BTreeSet::new();
    for account in accounts {
        let filter = Filter { account: account.as_str().to_owned(), ..Filter::default() };
        let all: Vec<(Row, Remediation)> = app.all(Kind::Remediation, &filter).await?;
        let seen = |r: &Remediation| r.green().is_some_and(|g| g.proven_at.is_some());
        let found = all.into_iter().map(|(_, r)| r).filter(seen);
        proven.extend(found.map(|r| (r.account.clone(), r.source.engine().to_owned())));
    }
    Ok(proven)
}
