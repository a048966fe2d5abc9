//! What was called: the last calls one by one, and a count of all.

use crate::fault::Fault;
use crate::value::Time;
use crate::wire::{Request, Service};
use crate::world::AccountId;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// A call that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The how-manieth call it was.
    pub n: u64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The caller's account.
    pub account: String,
    /// The region that it was signed for.
    pub region: String,
    /// `rds:DescribeDBInstances`
    pub call: String,
    /// AWS's error code, or empty.
    pub error: String,
}

struct Raw {
    at: Time,
    account: AccountId,
    region: String,
    service: Service,
    operation: String,
    error: String,
}

/// The log.
pub struct Log {
    size: usize,
    entries: VecDeque<Raw>,
    total: u64,
    counts: BTreeMap<(Service, String), (u64, u64)>,
}

/// A client's text, fit to be printed.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

impl Log {
    pub(crate) fn new(size: usize) -> Log {
        Log { size, entries: VecDeque::new(), total: 0, counts: BTreeMap::new() }
    }

    /// Keeps so many calls from now on.
    pub fn resize(&mut self, size: usize) {
        self.size = size;
        while self.entries.len() > size {
            self.entries.pop_front();
        }
    }

    pub(crate) fn add(
        &mut self,
        at: Time,
        account: AccountId,
        request: &Request,
        fault: Option<&Fault>,
    ) {
        self.total += 1;
        // A name that no operation has is not worth a counter each.
        let known = crate::world::find(request.service, &request.operation).is_ok();
        let operation = if known { request.operation.clone() } else { "(unknown)".to_owned() };
        if let Some((all, failed)) = self.counts.get_mut(&(request.service, operation.clone())) {
            *all += 1;
            *failed += u64::from(fault.is_some());
        } else {
            let first = (1, u64::from(fault.is_some()));
            self.counts.insert((request.service, operation.clone()), first);
        }
        if self.size == 0 {
            return;
        }
        if self.entries.len() >= self.size {
            self.entries.pop_front();
        }
        let error = fault.map(|f| f.code(request.service).0.into_owned()).unwrap_or_default();
        let region = printable(&request.region);
        let service = request.service;
        self.entries.push_back(Raw { at, account, region, service, operation, error });
    }

    /// The calls that are kept, oldest first, from the n-th on.
    pub fn entries(&self, from: u64) -> impl Iterator<Item = Entry> {
        let first = self.total - self.entries.len() as u64 + 1;
        let entry = move |(i, raw): (usize, &Raw)| Entry {
            n: first + i as u64,
            at: raw.at.0,
            account: raw.account.to_string(),
            region: raw.region.clone(),
            call: format!("{}:{}", raw.service.prefix(), raw.operation),
            error: raw.error.clone(),
        };
        self.entries.iter().enumerate().map(entry).filter(move |e| e.n >= from)
    }

    /// How often each operation was called, and how often it failed.
    pub fn counts(&self) -> BTreeMap<String, (u64, u64)> {
        let name = |((service, op), n): (&(Service, String), &(u64, u64))| {
            (format!("{}:{op}", service.prefix()), *n)
        };
        self.counts.iter().map(name).collect()
    }

    /// All calls ever.
    pub fn total(&self) -> u64 {
        self.total
    }
}
