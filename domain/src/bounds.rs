//! Every bound of the fan-out, in one place, with its reason. What an operator may want to change is a
//! key of the configuration, and named here by its default; the rest follows from AWS or from measuring.

use crate::time::Span;

/// `agent.accounts_per_thread`: accounts that one agent thread reads at a time. A near account takes
/// about 0.2 s (AssumeRole, ListRegions, its regions at once), so 48 of them keep a thread busy at 240
/// accounts a second, about what its CPU can do; more would only wait, in memory.
pub const ACCOUNTS_PER_THREAD: u32 = 48;

/// `limits.in_flight_per_region`: calls in flight to one region, by one agent thread. Each region has
/// its own, so that a far one holds none of the others' slots. 32 calls of 80 ms are 400 a second, of
/// 250 ms 128. A call in flight takes about 50 KB with its connection, so 17 regions take 27 MB a thread
/// at most.
pub const IN_FLIGHT_PER_REGION: u32 = 32;

/// `limits.attempt_timeout`: one try of a call. The SDK has no read timeout by default, so one lost
/// answer would hold a worker for ever. RDS's largest page takes seconds at worst.
pub const ATTEMPT_TIMEOUT: Span = Span::seconds(20);

/// `limits.call_deadline`: one call with its repeats after throttles, from its first try.
pub const CALL_DEADLINE: Span = Span::seconds(120);

/// Calls in a row without any answer, in one region, until its breaker opens. A single lost packet is
/// no outage; five in a row, over all accounts, are.
pub const BREAKER_LOST: u32 = 5;

/// How long an open breaker rests before it lets one call through to see; doubled each time that the
/// probe is not answered, up to [`BREAKER_REST_MAX`].
pub const BREAKER_REST: Span = Span::seconds(5);

/// See [`BREAKER_REST`].
pub const BREAKER_REST_MAX: Span = Span::seconds(60);

/// Probes of a dead region that a later pass of a scan waits for: one alone can be lost on the way.
pub const PROBES_A_PASS: usize = 3;

/// How often the unreachable cells of a scan are tried again before it ends.
pub const UNREACHABLE_PASSES: i64 = 1;

/// Cells in one report from agent to server: one transaction. At 300 bytes a cell it is far below
/// the largest message (16 MiB), even where databases were found.
pub const REPORT_CELLS: usize = 2_048;

/// How long a report gathers cells while accounts are being read. A transaction costs a disk flush and some
/// ten statements, 5 ms on the machine of docs/adr/0010, so two a second from each thread leave the store
/// nearly idle. Nobody waits for it: the account's slot is free by then.
pub const REPORT_EVERY: Span = Span(400);

/// Databases in one report: a finding carries the whole database, some 4 KB.
pub const REPORT_FINDINGS: usize = 512;

/// `scan.regions_max_age`: how long an account's list of enabled regions is used again by scans that
/// nobody waits for. Gates want one that was read with the evidence.
pub const REGIONS_MAX_AGE: Span = Span::hours(24);

/// How much older than the evidence its list of regions may be.
pub const REGIONS_WITH_EVIDENCE: Span = Span::hours(1);

/// How long AWS Config is waited for in one cell, all its calls together. Its opinion is the second: a
/// throttled Config must not make a scan of databases take hours.
pub const OPINION_FOR: Span = Span::seconds(30);
