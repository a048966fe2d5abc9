//! What every store promises, on both of them.

use crate::log_contract::log;
use ringfence_domain::audit::{Actor, Event};
use ringfence_domain::id::AccountId;
use ringfence_domain::ledger::{Cell, CellState, RegionsSource};
use ringfence_domain::opinion::Opinion;
use ringfence_domain::org::{AccountState, Node, NodeKind};
use ringfence_domain::time::{Span, Time};
use ringfence_server::store::{
    self, AgentSeen, End, EventFilter, Fenced, Filter, In, Kind, Lease, Page, Part, Progress, Row,
    Store, Target, Token,
};
use ringfence_tests::postgres::Postgres;
use std::sync::Arc;

const TTL: Span = Span::seconds(60);

pub(crate) fn event(action: &str) -> Event {
    Actor::system("test").did(Time(1), action, "subject", "why")
}

fn account(n: u32) -> AccountId {
    format!("{n:012}").parse().expect("an account")
}

pub(crate) fn row(kind: Kind, id: &str, account: &str) -> Row {
    Row { account: account.to_owned(), ..Row::new(kind, id, "pending", Time(5), &id) }
}

/// A remediation whose turn has come.
fn running(id: &str, account: &str, wake_at: Time) -> Row {
    Row { wake_at, state: "running".into(), ..row(Kind::Remediation, id, account) }
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
    assert!(store.update(&[a.clone(), b], &event("make")).await.unwrap());
    let twice = [row(Kind::Plan, "c", ""), a];
    assert!(!store.update(&twice, &event("twice")).await.unwrap(), "an id that is taken");
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
    let events = store.events(EventFilter::default(), i64::MAX, 10).await.unwrap();
    let actions: Vec<&str> = events.iter().map(|e| e.event.action.as_str()).collect();
    assert_eq!(actions, ["change", "make"], "events of refused writes are not there");
    let only = EventFilter { subject: "subject", actor: "system/test", action: "make" };
    assert_eq!(store.events(only, events[0].sequence, 10).await.unwrap().len(), 1);
    for none in [EventFilter { subject: "other", ..only }, EventFilter { action: "ma", ..only }] {
        assert!(store.events(none, i64::MAX, 10).await.unwrap().is_empty());
    }
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
    assert_eq!(store.places(&["000000000001"]).await.unwrap()[0].2, "scan-0");
    store.release("agent", &[lease]).await.unwrap();
    store.put_org(Time(8), &[], &[], &[cell], &[], &event("sync")).await.unwrap();
    let tally = vec![("000000000001".into(), "cell/clean".into(), 1)];
    assert_eq!(store.tally_by_account(&["000000000001".into()]).await.unwrap(), tally);
    assert_eq!(store.org_version().await.unwrap(), 2);
    let gone = ["000000000001".parse().expect("an id")];
    store.put_org(Time(9), &[], &gone, &[], &[account(1)], &event("sync")).await.unwrap();
    assert_eq!(store.org().await.unwrap().expect("it").1.len(), 1);
    assert!(store.cells("", ("", ""), 10).await.unwrap().is_empty());
}

/// Starts a scan of one account, leases it, and reports one cell.
async fn store_one(store: &dyn Store, scan: &str, n: u32, cell: &Cell) -> Lease {
    let queued = row(Kind::Scan, scan, "");
    store.start_scan(&queued, &Target::whole(&[account(n)]), 1, &event("scan")).await.unwrap();
    let leases = store.claim("agent", Time(10), TTL, 10).await.unwrap();
    assert_eq!(leases.len(), 1, "{scan}");
    let part = part(&leases[0], scan, vec![cell.clone()], Some(End::default()));
    assert_eq!(store.report("agent", &[part]).await.unwrap(), [Fenced::Done]);
    assert_eq!(progress(store, scan).await, (1, 1));
    leases[0].clone()
}

fn part(lease: &Lease, scan: &str, cells: Vec<Cell>, end: Option<End>) -> Part {
    Part { lease: lease.clone(), scans: [(scan.into(), 0)].into(), cells, end, ..Part::default() }
}

async fn progress(store: &dyn Store, scan: &str) -> (i64, i64) {
    let Progress { accounts, done, .. } = store.scan_progress(scan).await.unwrap();
    (accounts, done)
}

async fn leases(store: &dyn Store) {
    let scan = row(Kind::Scan, "scan-1", "");
    let accounts: Vec<AccountId> = (1..=3).map(account).collect();
    assert!(store.start_scan(&scan, &Target::whole(&accounts), 1, &event("scan")).await.unwrap());
    assert!(
        !store.start_scan(&scan, &Target::whole(&accounts), 1, &event("scan")).await.unwrap(),
        "twice is once"
    );
    let first = store.claim("one", Time(10), TTL, 2).await.unwrap();
    let second = store.claim("two", Time(10), TTL, 10).await.unwrap();
    assert_eq!((first.len(), second.len()), (2, 1), "nobody gets what another holds");
    assert!(store.claim("three", Time(10), TTL, 10).await.unwrap().is_empty());
    let wanted = store.wanted(&[first[0].account.as_str()]).await.unwrap();
    assert_eq!((wanted.len(), wanted[0].scan.as_str(), wanted[0].pass), (1, "scan-1", 0));

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
    let late = part(&first[0], "scan-1", vec![cell.clone()], Some(End::default()));
    assert_eq!(store.report("one", &[late]).await.unwrap(), [Fenced::Lost]);
    assert_eq!(progress(store, "scan-1").await, (3, 0), "the late report wrote nothing");
    // One of a batch is lost, the other is written.
    let end = End { release: true, ..End::default() };
    let parts = [
        part(&first[0], "scan-1", Vec::new(), Some(end.clone())),
        part(&taken[0], "scan-1", vec![cell], Some(end.clone())),
    ];
    assert_eq!(store.report("two", &parts).await.unwrap(), [Fenced::Lost, Fenced::Done]);
    assert!(
        store.claim("two", Time(10), TTL, 10).await.unwrap().is_empty(),
        "it has nothing more to do"
    );
    for lease in first.iter().skip(1).chain(&second) {
        let owner = if first.contains(lease) { "one" } else { "two" };
        let last = part(lease, "scan-1", Vec::new(), Some(end.clone()));
        assert_eq!(store.report(owner, &[last]).await.unwrap(), [Fenced::Done]);
    }
    assert!(store.end_pass("scan-1").await.unwrap());
    assert!(store.leases_held().await.unwrap().is_empty(), "given back with the last report");
}

/// Regions that did not answer are tried once more, after all else.
async fn passes(store: &dyn Store) {
    let accounts = [account(21), account(22)];
    store
        .start_scan(&row(Kind::Scan, "scan-p", ""), &Target::whole(&accounts), 1, &event("scan"))
        .await
        .unwrap();
    let leases = store.claim("p", Time(10), TTL, 10).await.unwrap();
    let lost = End {
        unreachable: vec!["eu-west-1".into()],
        release: true,
        counts: (17, 1, 2),
        ..End::default()
    };
    let first = part(&leases[0], "scan-p", Vec::new(), Some(lost.clone()));
    assert_eq!(store.report("p", &[first]).await.unwrap(), [Fenced::Done]);
    assert!(!store.end_pass("scan-p").await.unwrap());
    assert!(store.claim("p", Time(10), TTL, 10).await.unwrap().is_empty(), "not before the others");
    let well = End { release: true, counts: (17, 0, 0), ..End::default() };
    let second = part(&leases[1], "scan-p", Vec::new(), Some(well.clone()));
    assert_eq!(store.report("p", &[second]).await.unwrap(), [Fenced::Done]);
    assert!(!store.end_pass("scan-p").await.unwrap(), "one is tried again");
    let again = store.claim("p", Time(10), TTL, 10).await.unwrap();
    assert_eq!(again.len(), 1);
    let wanted = store.wanted(&[again[0].account.as_str()]).await.unwrap();
    assert_eq!((wanted[0].pass, wanted[0].retry.join(",")), (1, "eu-west-1".into()));
    let kept = End { release: false, ..lost.clone() };
    let repeated = part(&again[0], "scan-p", Vec::new(), Some(kept));
    assert_eq!(store.report("p", &[repeated]).await.unwrap(), [Fenced::Done]);
    assert!(!store.end_pass("scan-p").await.unwrap(), "the first pass's report, come again");
    let mut last = part(&again[0], "scan-p", Vec::new(), Some(lost));
    last.scans.insert("scan-p".into(), 1);
    assert_eq!(store.report("p", &[last]).await.unwrap(), [Fenced::Done]);
    assert!(store.end_pass("scan-p").await.unwrap(), "once");
    let Progress { cells, failed, found, parked, .. } =
        store.scan_progress("scan-p").await.unwrap();
    assert_eq!((cells, failed, found, parked), (34, 1, 4, 0));
}

/// Urgent work is leased first, and pages are whole whatever they are restricted to.
async fn order(store: &dyn Store) {
    let accounts: Vec<AccountId> = (30..40).map(account).collect();
    store
        .start_scan(&row(Kind::Scan, "all", ""), &Target::whole(&accounts), 1, &event("scan"))
        .await
        .unwrap();
    store
        .start_scan(&row(Kind::Scan, "one", ""), &Target::whole(&[account(37)]), 0, &event("scan"))
        .await
        .unwrap();
    let rem = running("rem-o", "000000000039", Time(5));
    store.update(&[rem], &event("apply")).await.unwrap();
    let order: Vec<AccountId> = {
        let mut all = Vec::new();
        while let Some(lease) = store.claim("o", Time(10), TTL, 1).await.unwrap().pop() {
            all.push(lease);
        }
        for lease in &all {
            let cells = ["a-x-1", "b-x-1"].map(|r| {
                let cell = Cell::pending(lease.account.parse().unwrap(), r, RegionsSource::Account);
                Cell { state: CellState::Clean, ..cell }
            });
            let mut last =
                part(lease, "all", cells.into(), Some(End { release: true, ..End::default() }));
            last.scans.insert("one".into(), 0);
            last.findings = (0..3)
                .map(|n| Row {
                    region: "a-x-1".into(),
                    state: if n == 0 { "resolved" } else { "open" }.into(),
                    label: "instance".into(),
                    ..row(Kind::Finding, &format!("fi-{}-{n}", lease.account), &lease.account)
                })
                .collect();
            assert_eq!(store.report("o", &[last]).await.unwrap(), [Fenced::Done]);
        }
        all.iter().map(|l| l.account.parse().unwrap()).collect()
    };
    assert_eq!(order[..3], [account(39), account(37), account(30)]);
    for (accounts, regions, state, want) in [
        (vec![], vec![], "open", 20),
        (vec![], vec!["b-x-1"], "", 0),
        (vec![33, 36], vec![], "", 6),
        (vec![33, 36, 99], vec!["a-x-1"], "open", 4),
    ] {
        let mut page = Page {
            accounts: accounts.iter().map(|n| account(*n).to_string()).collect(),
            regions: regions.iter().map(|r| (*r).to_owned()).collect(),
            state: state.into(),
            limit: 3,
            // Other parts of this test left findings too; they have lower accounts.
            after: ("000000000030".into(), String::new(), String::new()),
        };
        let mut found = Vec::new();
        loop {
            let rows = store.finding_page(&page).await.unwrap();
            let Some(last) = rows.last() else { break };
            page.after = (last.account.clone(), last.region.clone(), last.id.clone());
            found.extend(rows.into_iter().map(|r| (r.account, r.region, r.id)));
        }
        assert!(found.is_sorted());
        assert_eq!(found.len(), want, "{accounts:?} {regions:?} {state}");
    }
    let page = Page { accounts: vec![account(33).to_string()], limit: 9, ..Page::default() };
    assert_eq!(store.cell_page(&page).await.unwrap().len(), 2);
    for accounts in [vec![], page.accounts.clone()] {
        let of = async |state: &str| {
            let page =
                Page { state: state.into(), accounts: accounts.clone(), limit: 99, ..page.clone() };
            store.cell_page(&page).await.unwrap()
        };
        let all = of("").await;
        assert!(all.iter().any(|c| c.state == CellState::Clean));
        for state in [CellState::Clean, CellState::Findings, CellState::Denied] {
            let want: Vec<&Cell> = all.iter().filter(|c| c.state == state).collect();
            assert_eq!(of(state.as_str()).await.iter().collect::<Vec<_>>(), want);
        }
    }
    let tally = store.tally_of_scan("all", &["a-x-1".into()]).await.unwrap();
    assert_eq!(tally, [("cell/clean".into(), 10), ("open/instance".into(), 20)]);
    let tally = store.tally_by_region(&[account(33).to_string()], &[]).await.unwrap();
    assert_eq!(tally.len(), 3, "{tally:?}");
    let rem = store.get(Kind::Remediation, "rem-o").await.unwrap().expect("it");
    store.update(&[rem.with("verified", &"x")], &event("end")).await.unwrap();
    candidates(store).await;
}

/// A scan of one region of an account counts that cell alone; AWS Config's word is counted beside it.
async fn candidates(store: &dyn Store) {
    let target = Target { account: account(33), regions: vec!["b-x-1".into()] };
    store.start_scan(&row(Kind::Scan, "some", ""), &[target], 1, &event("scan")).await.unwrap();
    let lease = store.claim("o", Time(10), TTL, 1).await.unwrap().remove(0);
    let wanted = store.wanted(&[lease.account.as_str()]).await.unwrap();
    assert_eq!(wanted[0].regions, ["b-x-1"]);
    let mut cell = Cell::pending(account(33), "b-x-1", RegionsSource::Account);
    cell.state = CellState::Clean;
    cell.config = Some(Opinion::unread("denied".into()));
    let last = part(&lease, "some", vec![cell], Some(End { release: true, ..End::default() }));
    assert_eq!(store.report("o", &[last]).await.unwrap(), [Fenced::Done]);
    let mut tally = store.tally_of_scan("some", &[]).await.unwrap();
    tally.sort();
    assert_eq!(tally, [("cell/clean".into(), 1), ("config/unread".into(), 1)]);
    let which = In::Config(&["unread"]);
    assert_eq!(store.cells_in(which, "some", &[], &[], 9).await.unwrap().len(), 1);
    assert!(store.cells_in(In::State(&["error"]), "some", &[], &[], 9).await.unwrap().is_empty());
    let all = store.tally_by_account(&[account(33).to_string()]).await.unwrap();
    assert!(all.iter().any(|(_, key, n)| key == "config/unread" && *n == 1), "{all:?}");
    assert!(store.end_pass("some").await.unwrap());
}

/// Shares of the common budgets, names, and who is taken for dead.
async fn agents(store: &dyn Store) {
    let seen = async |name: &str, instance: &str, using: i64| {
        store.agent_seen(name, instance, using, "[]", TTL).await.unwrap()
    };
    let welcome = |share| AgentSeen::Welcome { share, draining: false };
    assert_eq!(seen("a/0", "1", 0).await, welcome(1_000_000));
    assert_eq!(seen("b/0", "1", 0).await, welcome(0), "nothing is free yet");
    assert!(matches!(seen("a/0", "2", 0).await, AgentSeen::Taken(_)));
    assert_eq!(
        seen("a/0", "1", 1_000_000).await,
        welcome(500_000),
        "it is told, and may still use all"
    );
    assert_eq!(seen("b/0", "1", 0).await, welcome(0));
    assert_eq!(seen("a/0", "1", 500_000).await, welcome(500_000));
    assert_eq!(seen("b/0", "1", 0).await, welcome(500_000));
    assert_eq!(store.drain_agent("_", true, &event("drain")).await.unwrap(), 0, "no pattern");
    assert_eq!(store.drain_agent("b", true, &event("drain")).await.unwrap(), 1);
    assert_eq!(
        seen("b/0", "1", 500_000).await,
        AgentSeen::Welcome { share: 500_000, draining: true }
    );
    store
        .start_scan(&row(Kind::Scan, "scan-a", ""), &Target::whole(&[account(50)]), 1, &event("s"))
        .await
        .unwrap();
    assert_eq!(store.claim("b/0#1", Time(10), TTL, 5).await.unwrap().len(), 1);
    store.agent_left("b/0", "1").await.unwrap();
    let freed = store.claim("a/0#1", Time(10), TTL, 5).await.unwrap();
    assert_eq!(freed.len(), 1, "the leases of one who leaves are free");
    assert_eq!(store.agents().await.unwrap().len(), 1);
    store.agent_gone("a").await.unwrap();
    assert!(store.agents().await.unwrap().is_empty());
    assert!(store.renew("a/0#1", &freed, TTL).await.unwrap().is_empty());
    let freed = store.claim("c/0#1", Time(10), TTL, 5).await.unwrap();
    let last = part(&freed[0], "scan-a", Vec::new(), Some(End { release: true, ..End::default() }));
    assert_eq!(store.report("c/0#1", &[last]).await.unwrap(), [Fenced::Done]);
    assert_eq!(seen("d/0", "1", 0).await, welcome(1_000_000));
    store.agent_seen("d/0", "1", 0, "[]", Span(-1)).await.unwrap();
    assert_eq!(
        seen("d/0", "2", 0).await,
        welcome(1_000_000),
        "a dead one's name and share are free"
    );

    let token = Token { hash: "h".into(), name: "site".into(), created_at: Time(1) };
    store.put_token(&token, Some(&event("token"))).await.unwrap();
    store.put_token(&token, None).await.unwrap();
    assert!(store.token_known("h").await.unwrap() && !store.token_known("x").await.unwrap());
    assert_eq!(store.tokens().await.unwrap(), std::slice::from_ref(&token));
    assert_eq!(store.revoke_tokens("site", &event("revoke")).await.unwrap(), 1);
    assert!(!store.token_known("h").await.unwrap());
    let configured = |hash: &str| Token { hash: hash.into(), name: "c".into(), ..token.clone() };
    store.set_token("c", Some(&configured("h1"))).await.unwrap();
    store.set_token("c", Some(&configured("h2"))).await.unwrap();
    assert!(!store.token_known("h1").await.unwrap() && store.token_known("h2").await.unwrap());
    store.set_token("c", None).await.unwrap();
    assert!(!store.token_known("h2").await.unwrap());
}

async fn remediations(store: &dyn Store) {
    let id = "000000000009";
    let later = running("rem-1", id, Time(100));
    // One whose turn has not come is nobody's work.
    let waits = row(Kind::Remediation, "rem-0", "000000000008");
    assert!(store.update(&[later, waits], &event("apply")).await.unwrap());
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
    store.release("one", &[lease]).await.unwrap();
    assert!(store.claim("one", Time(999), TTL, 10).await.unwrap().is_empty(), "it has ended");
}

async fn named_leases(store: &dyn Store) {
    assert_eq!(store.holder("x").await.unwrap(), None);
    assert!(store.hold("x", "one", TTL).await.unwrap());
    let (owner, until) = store.holder("x").await.unwrap().expect("somebody");
    let left = until.since(store.clock().await.unwrap());
    assert!(owner == "one" && left > Span(0) && left <= TTL, "{owner} {left}");
    assert!(store.hold("x", "one", TTL).await.unwrap(), "the owner keeps it");
    assert!(!store.hold("x", "two", TTL).await.unwrap());
    assert!(store.hold("x", "one", Span(-1)).await.unwrap());
    assert_eq!(store.holder("x").await.unwrap(), None);
    assert!(store.hold("x", "two", TTL).await.unwrap(), "it ran out");
    assert!(!store.hold("x", "one", TTL).await.unwrap());
}

/// Many workers claim at once: each account goes to exactly one.
async fn contention(store: Arc<dyn Store>) {
    let accounts: Vec<AccountId> = (100..140).map(account).collect();
    store
        .start_scan(&row(Kind::Scan, "scan-2", ""), &Target::whole(&accounts), 1, &event("scan"))
        .await
        .unwrap();
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
        passes(store.as_ref()).await;
        order(store.as_ref()).await;
        agents(store.as_ref()).await;
        contention(store.clone()).await;
        log(store, true).await;
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
    // A log of before there were seals.
    postgres.sql("update meta set value = '3' where key = 'schema'; alter table event drop column seal; delete from event where seq = 3");
    runtime().block_on(async {
        let store = store::open(&postgres.url()).await.expect("open it");
        log(store, false).await;
    });
    postgres.sql("do $$ begin
        insert into event (seq, at, actor, authenticated, action, subject, reason) values (999999, 1, '', 1, '', '', '');
        raise exception 'it was let in';
    exception when not_null_violation then null; end $$");
}
