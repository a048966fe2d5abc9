//! What every store promises, on both of them.

use ringfence_domain::audit::{Actor, Event};
use ringfence_domain::id::AccountId;
use ringfence_domain::ledger::{Cell, CellState, RegionsSource};
use ringfence_domain::org::{AccountState, Node, NodeKind};
use ringfence_domain::time::{Span, Time};
use ringfence_server::store::{self, Fenced, Filter, Kind, Lease, Report, Row, Store};
use ringfence_tests::postgres::Postgres;
use std::sync::Arc;

const TTL: Span = Span::seconds(60);

fn event(action: &str) -> Event {
    Actor::system("test").did(Time(1), action, "subject", "why")
}

fn account(n: u32) -> AccountId {
    format!("{n:012}").parse().expect("an account")
}

fn row(kind: Kind, id: &str, account: &str) -> Row {
    Row { account: account.to_owned(), ..Row::new(kind, id, "pending", Time(5), &id) }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn documents(store: &dyn Store) {
    let (a, b) = (row(Kind::Plan, "a", ""), row(Kind::Plan, "b", ""));
    assert!(store.create(&[a.clone(), b], &event("make")).await.unwrap());
    let twice = [row(Kind::Plan, "c", ""), a];
    assert!(!store.create(&twice, &event("twice")).await.unwrap(), "an id that is taken");
    assert!(store.get(Kind::Plan, "c").await.unwrap().is_none(), "all or none");
    let found = store.get(Kind::Plan, "a").await.unwrap().expect("a");
    assert_eq!((found.version, found.state.as_str(), found.body.as_str()), (1, "pending", "\"a\""));
    let changed = found.clone().with("done", &"x");
    assert!(store.update(std::slice::from_ref(&changed), &event("change")).await.unwrap());
    assert!(
        !store.update(&[changed], &event("late")).await.unwrap(),
        "an old version writes nothing"
    );
    let now = store.get(Kind::Plan, "a").await.unwrap().expect("a");
    assert_eq!((now.version, now.state.as_str()), (2, "done"));
    let page = store.list(Kind::Plan, &Filter::default(), "", 1).await.unwrap();
    let next = store.list(Kind::Plan, &Filter::default(), &page[0].id, 10).await.unwrap();
    assert_eq!((page.len(), next.len(), next[0].id.as_str()), (1, 1, "b"));
    let done = Filter { state: "done".into(), ..Filter::default() };
    assert_eq!(store.list(Kind::Plan, &done, "", 10).await.unwrap().len(), 1);
    assert!(store.list(Kind::Rollout, &Filter::default(), "", 10).await.unwrap().is_empty());
    let events = store.events("", "", i64::MAX, 10).await.unwrap();
    let actions: Vec<&str> = events.iter().map(|e| e.event.action.as_str()).collect();
    assert_eq!(actions, ["change", "make"], "events of refused writes are not there");
    let older = store.events("subject", "system/test", events[0].sequence, 10).await.unwrap();
    assert_eq!(older.len(), 1);
    assert!(store.events("other", "", i64::MAX, 10).await.unwrap().is_empty());
}

async fn organization(store: &dyn Store) {
    assert!(store.org().await.unwrap().is_none());
    let node = |id: &str, kind| Node {
        id: id.parse().expect("an id"),
        parent: None,
        name: id.into(),
        kind,
    };
    let member = NodeKind::Account { state: AccountState::Active, management: false };
    let nodes = [node("r-ab12", NodeKind::Root), node("000000000001", member)];
    let cell = Cell::pending(account(1), "eu-west-1", RegionsSource::Configured);
    store
        .put_org(Time(7), &nodes, &[], std::slice::from_ref(&cell), &[], &event("sync"))
        .await
        .unwrap();
    let (as_of, read) = store.org().await.unwrap().expect("the organization");
    assert_eq!((as_of, read.len()), (Time(7), 2));
    let read = store.cells("", ("", ""), 10).await.unwrap();
    assert_eq!(read, std::slice::from_ref(&cell));
    let scanned = Cell { state: CellState::Clean, ..cell.clone() };
    // A cell that is there already is not reset by a later sync.
    let lease = store_one(store, "scan-0", 1, &scanned).await;
    store.release("agent", &lease).await.unwrap();
    store.put_org(Time(8), &[], &[], &[cell], &[], &event("sync")).await.unwrap();
    assert_eq!(store.cell_states().await.unwrap()[0].2, "clean");
    let gone = ["000000000001".parse().expect("an id")];
    store.put_org(Time(9), &[], &gone, &[], &[account(1)], &event("sync")).await.unwrap();
    assert_eq!(store.org().await.unwrap().expect("it").1.len(), 1);
    assert!(store.cells("", ("", ""), 10).await.unwrap().is_empty());
}

/// Starts a scan of one account, leases it, and reports one cell.
async fn store_one(store: &dyn Store, scan: &str, n: u32, cell: &Cell) -> Lease {
    store.start_scan(&row(Kind::Scan, scan, ""), &[account(n)], &event("scan")).await.unwrap();
    let leases = store.claim("agent", Time(10), TTL, 10).await.unwrap();
    assert_eq!(leases.len(), 1, "{scan}");
    let report = Report { cells: vec![cell.clone()], last: true, ..Report::default() };
    let done = store.report("agent", &leases[0], scan, &report, None).await.unwrap();
    assert_eq!(done, Fenced::Done);
    assert_eq!(store.scan_progress(scan).await.unwrap(), (1, 1));
    leases[0].clone()
}

async fn leases(store: &dyn Store) {
    let scan = row(Kind::Scan, "scan-1", "");
    let accounts: Vec<AccountId> = (1..=3).map(account).collect();
    assert!(store.start_scan(&scan, &accounts, &event("scan")).await.unwrap());
    assert!(!store.start_scan(&scan, &accounts, &event("scan")).await.unwrap(), "twice is once");
    let first = store.claim("one", Time(10), TTL, 2).await.unwrap();
    let second = store.claim("two", Time(10), TTL, 10).await.unwrap();
    assert_eq!((first.len(), second.len()), (2, 1), "nobody gets what another holds");
    assert!(store.claim("three", Time(10), TTL, 10).await.unwrap().is_empty());
    assert_eq!(store.scans_of(&first[0].account).await.unwrap(), ["scan-1"]);

    assert_eq!(store.renew("one", &first, TTL).await.unwrap(), first);
    assert!(store.renew("two", &first, TTL).await.unwrap().is_empty(), "not the owner");
    // The lease runs out, and another takes over: the fence is raised, the late writer is kept out.
    let expired = store.renew("one", &first[..1], Span(-1)).await.unwrap();
    assert_eq!(expired.len(), 1);
    assert!(
        store.renew("one", &first[..1], TTL).await.unwrap().is_empty(),
        "an expired lease stays lost"
    );
    let taken = store.claim("two", Time(10), TTL, 10).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(
        (taken[0].account.as_str(), taken[0].fence),
        (first[0].account.as_str(), first[0].fence + 1)
    );
    let cell = Cell::pending(account(1), "eu-west-1", RegionsSource::Configured);
    let report = Report { cells: vec![cell], last: true, ..Report::default() };
    let late =
        store.report("one", &first[0], "scan-1", &report, Some(&event("late"))).await.unwrap();
    assert_eq!(late, Fenced::Lost);
    assert_eq!(
        store.scan_progress("scan-1").await.unwrap(),
        (3, 0),
        "the late report wrote nothing"
    );
    let done = store.report("two", &taken[0], "scan-1", &report, None).await.unwrap();
    assert_eq!(done, Fenced::Done);
    store.release("two", &taken[0]).await.unwrap();
    assert!(
        store.claim("two", Time(10), TTL, 10).await.unwrap().is_empty(),
        "it has nothing more to do"
    );
    for lease in first.iter().skip(1).chain(&second) {
        let owner = if first.contains(lease) { "one" } else { "two" };
        let report = Report { last: true, ..Report::default() };
        store.report(owner, lease, "scan-1", &report, None).await.unwrap();
        store.release(owner, lease).await.unwrap();
    }
}

async fn remediations(store: &dyn Store) {
    let id = "000000000009";
    let later = Row { wake_at: Time(100), ..row(Kind::Remediation, "rem-1", id) };
    assert!(store.create(&[later], &event("apply")).await.unwrap());
    assert!(store.claim("one", Time(99), TTL, 10).await.unwrap().is_empty(), "not due yet");
    let lease = store.claim("one", Time(100), TTL, 10).await.unwrap().remove(0);
    assert_eq!(lease.account, id);
    let found = store.get(Kind::Remediation, "rem-1").await.unwrap().expect("it");
    let finding = row(Kind::Finding, "fi-1", id);
    let rows = [found.clone().with("verified", &"x"), finding];
    assert_eq!(
        store.commit("one", &lease, &rows, Some(&event("verify"))).await.unwrap(),
        Fenced::Done
    );
    assert!(store.get(Kind::Finding, "fi-1").await.unwrap().is_some());
    let stale = store.commit("one", &lease, &rows[..1], Some(&event("again"))).await.unwrap();
    assert_eq!(stale, Fenced::Stale, "an old version");
    let other = Lease { fence: lease.fence + 1, ..lease.clone() };
    let lost = store.commit("one", &other, &rows, Some(&event("lost"))).await.unwrap();
    assert_eq!(lost, Fenced::Lost);
    store.release("one", &lease).await.unwrap();
    assert!(store.claim("one", Time(999), TTL, 10).await.unwrap().is_empty(), "it has ended");
}

async fn named_leases(store: &dyn Store) {
    assert!(store.hold("x", "one", TTL).await.unwrap());
    assert!(store.hold("x", "one", TTL).await.unwrap(), "the owner keeps it");
    assert!(!store.hold("x", "two", TTL).await.unwrap());
    assert!(store.hold("x", "one", Span(-1)).await.unwrap());
    assert!(store.hold("x", "two", TTL).await.unwrap(), "it ran out");
    assert!(!store.hold("x", "one", TTL).await.unwrap());
}

/// Many workers claim at once: each account goes to exactly one.
async fn contention(store: Arc<dyn Store>) {
    let accounts: Vec<AccountId> = (100..140).map(account).collect();
    store.start_scan(&row(Kind::Scan, "scan-2", ""), &accounts, &event("scan")).await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let store = store.clone();
        workers.spawn(async move {
            let mut got = Vec::new();
            loop {
                let some = store.claim(&format!("w{worker}"), Time(10), TTL, 3).await.unwrap();
                if some.is_empty() {
                    return got;
                }
                got.extend(some.into_iter().map(|l| l.account));
            }
        });
    }
    let mut all: Vec<String> = workers.join_all().await.into_iter().flatten().collect();
    all.sort();
    let want: Vec<String> = accounts.iter().map(ToString::to_string).collect();
    assert_eq!(all, want);
}

fn contract(url: &str) {
    runtime().block_on(async {
        let store = store::open(url).await.expect("open the store");
        assert!(store.clock().await.unwrap().0 > 1_700_000_000_000, "milliseconds");
        documents(store.as_ref()).await;
        organization(store.as_ref()).await;
        leases(store.as_ref()).await;
        remediations(store.as_ref()).await;
        named_leases(store.as_ref()).await;
        contention(store).await;
        let again = store::open(url).await.expect("open it again");
        assert!(again.get(Kind::Plan, "a").await.unwrap().is_some(), "what was written is there");
    });
}

#[test]
fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    contract(&format!("sqlite://{}", folder.path().join("store.db").display()));
}

#[test]
fn postgres_keeps_the_contract() {
    let postgres = Postgres::start();
    contract(&postgres.url());
}
