//! 200 accounts x 4 regions of empty cells, on both stores. `make bench` prints the cost; here it
//! must be whole, and exactly one AssumeRole an account.

use ringfence_tests::postgres::Postgres;
use ringfence_tests::scale;

const ACCOUNTS: u32 = 200;

fn check(store: Option<&str>) {
    let cost = scale::run(ACCOUNTS, 7, store);
    let calls = |operation: &str| cost.scan_calls.get(operation).copied().unwrap_or(0);
    let accounts = u64::from(ACCOUNTS) + 1;
    assert_eq!(calls("sts:AssumeRole"), accounts, "one session an account, for all regions");
    assert_eq!(calls("rds:DescribeDBInstances"), cost.cells);
    assert_eq!(calls("rds:DescribeDBClusters"), cost.cells);
    assert_eq!(calls("account:listRegions"), accounts);
    let all: u64 = cost.scan_calls.values().sum();
    // GetCallerIdentity once for each agent thread; keys are read only where something was found.
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    assert!(all <= 2 * cost.cells + 2 * accounts + threads, "{:?}", cost.scan_calls);
}

#[test]
fn every_cell_of_200_accounts_is_answered_on_sqlite() {
    check(None);
}

#[test]
fn every_cell_of_200_accounts_is_answered_on_postgres() {
    let postgres = Postgres::start();
    check(Some(&postgres.url()));
}
