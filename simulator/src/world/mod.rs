//! An AWS organization in memory: deterministic, without a clock, without I/O.
//!
//! [`World::handle`] is what the front door calls: who is it, is the region on, is there a fault, a
//! token in the bucket, a policy against it; then [`World::apply`] does the call, and CloudTrail and
//! the call log remember it. The same calls at the same times give the same world, always.

pub(crate) mod account;
pub(crate) mod analyzer;
pub(crate) mod authorize;
pub mod change;
pub(crate) mod cloudformation;
pub(crate) mod cloudtrail;
pub(crate) mod cloudwatch;
pub(crate) mod config;
pub(crate) mod ec2;
pub(crate) mod iam;
pub(crate) mod kms;
pub(crate) mod organizations;
pub(crate) mod rds;
pub(crate) mod secrets;
pub(crate) mod sts;
mod table;
#[cfg(test)]
mod tests;

use crate::fault::{Fault, Kind};
use crate::faults::{Effect, Faults};
use crate::generate::Generator;
use crate::log::Log;
use crate::regions;
use crate::settings::Settings;
use crate::throttle::Throttle;
use crate::value::{Map, Time};
use crate::wire::{Request, Service};
use std::collections::HashMap;
use std::sync::Arc;
pub(crate) use table::{find, table};

/// A name of a region, from the table of those that exist.
pub type Region = &'static str;

/// An account's number; AWS writes it with twelve digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u64);

impl std::fmt::Display for AccountId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

impl std::str::FromStr for AccountId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<AccountId, Fault> {
        let digits = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number
            .map(AccountId)
            .ok_or_else(|| Fault::validation(format!("{text} is not an account id of 12 digits")))
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The account of its credentials.
    pub account: AccountId,
    /// What GetCallerIdentity says.
    pub arn: String,
    /// What policies see as `aws:PrincipalArn`: the role behind a session.
    pub principal_arn: String,
    /// Kept through role chaining.
    pub source_identity: Option<String>,
    /// The session policy, which can only take away.
    pub session_policy: Option<Arc<iam_rs::IAMPolicy>>,
    /// The role's own policy; without one it may do everything.
    pub role_policy: Option<Arc<iam_rs::IAMPolicy>>,
    /// Whether this is a session of AssumeRole.
    pub assumed: bool,
}

/// What is in one account and region.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    pub(crate) rds: rds::Rds,
    /// Earlier states, for reads that lag; see [`Settings::read_lag_ms`].
    pub(crate) rds_before: Vec<(Time, rds::Rds)>,
    pub(crate) kms: kms::Kms,
    pub(crate) config: config::Config,
    pub(crate) trail: Vec<cloudtrail::Event>,
    pub(crate) metrics: cloudwatch::Metrics,
    pub(crate) groups: Vec<ec2::Group>,
    pub(crate) policies: Vec<iam::Policy>,
    pub(crate) roles: Vec<String>,
    pub(crate) stack_sets: std::collections::BTreeMap<String, cloudformation::StackSet>,
    pub(crate) secrets: Vec<secrets::Secret>,
}

/// Whether an operation changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It only looks.
    Read,
    /// It changes, and CloudTrail's event history shows it.
    Write,
}

/// An operation of a service.
pub struct Op {
    /// Its name.
    pub name: &'static str,
    /// Read or write.
    pub access: Access,
    /// The parameters it models; any other is refused aloud, for a parameter that is silently ignored
    /// hides a mistake.
    pub params: &'static [&'static str],
    pub(crate) run: fn(&mut Ctx<'_>, &Map) -> Result<Map, Fault>,
}

/// Where and for whom a call runs.
pub(crate) struct Ctx<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    pub(crate) who: &'a Principal,
    pub(crate) now: Time,
}

impl Ctx<'_> {
    pub(crate) fn cell(&mut self) -> &mut Cell {
        self.world.cells.entry((self.account, self.region)).or_default()
    }

    pub(crate) fn rds(&mut self) -> &mut rds::Rds {
        &mut self.cell().rds
    }

    /// When a state that takes AWS so many seconds will be over.
    pub(crate) fn after(&self, seconds: i64) -> Time {
        self.now.plus(self.world.scaled(seconds))
    }

    /// `arn:aws:<service>:<region>:<account>:<resource>`
    pub(crate) fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.region, self.account)
    }

    /// A new id of a resource, as letters and digits.
    pub(crate) fn id(&mut self, length: usize) -> String {
        self.world.made += 1;
        crate::hash::letters(crate::hash::mix(self.world.settings.seed, self.world.made), length)
    }
}

/// The organization and all that is in it.
pub struct World {
    /// How it behaves.
    pub settings: Settings,
    pub(crate) org: organizations::Organization,
    pub(crate) org_before: Vec<(Time, organizations::Organization)>,
    pub(crate) sessions: sts::Sessions,
    pub(crate) cells: HashMap<(AccountId, Region), Cell>,
    pub(crate) across: Vec<rds::Across>,
    pub(crate) regions: Vec<Region>,
    pub(crate) opted: HashMap<AccountId, Vec<Region>>,
    pub(crate) config_org: config::OrganizationRules,
    pub(crate) generator: Option<Arc<Generator>>,
    /// Rates of calls.
    pub throttle: Throttle,
    /// Faults that wait for their call.
    pub faults: Faults,
    /// What was called.
    pub log: Log,
    made: u64,
    requests: u64,
}

/// What became of a request.
pub struct Outcome {
    /// AWS's request id.
    pub id: String,
    /// The reply.
    pub result: Result<Map, Fault>,
}

impl World {
    /// A world with one account, which may found an organization, and these regions.
    pub fn new(settings: Settings, regions: Vec<Region>) -> World {
        let management =
            AccountId(100_000_000_000 + crate::hash::mix(settings.seed, 7) % 1_000_000);
        World {
            throttle: Throttle::default(),
            faults: Faults::new(settings.seed),
            log: Log::new(settings.log_size),
            org: organizations::Organization::new(management, settings.seed),
            org_before: Vec::new(),
            sessions: sts::Sessions::default(),
            cells: HashMap::new(),
            across: Vec::new(),
            opted: HashMap::new(),
            config_org: config::OrganizationRules::default(),
            generator: None,
            regions,
            settings,
            made: 0,
            requests: 0,
        }
    }

    /// The management account.
    pub fn management(&self) -> AccountId {
        self.org.management
    }

    /// The regions that exist here.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Every operation there is.
    pub fn operations() -> impl Iterator<Item = (Service, &'static Op)> {
        Service::ALL.into_iter().flat_map(|s| table(s).iter().map(move |op| (s, op)))
    }

    pub(crate) fn scaled(&self, seconds: i64) -> i64 {
        (seconds as f64 * 1000.0 / self.settings.time_scale) as i64
    }

    /// Whether the region is on in the account.
    pub(crate) fn region_on(&self, account: AccountId, region: Region) -> bool {
        if !self.regions.contains(&region) {
            return false;
        }
        if !regions::opt_in(region) {
            return true;
        }
        if let Some(on) = self.opted.get(&account) {
            return on.contains(&region);
        }
        self.generator.as_ref().is_some_and(|g| g.opted_in(account, region))
    }

    /// The fault that waits for this request, if any. Asked once a request, before [`World::handle`]. What others
    /// change right before it is done here, so that the call can meet another fault too.
    pub fn effect(&mut self, request: &Request, now: Time) -> Option<Effect> {
        if self.faults.none() {
            return None;
        }
        let account = self.who(request, Time(i64::MIN)).map_or(self.org.management, |w| w.account);
        let access = find(request.service, &request.operation).ok().map(|op| op.access);
        let mut after = 0;
        loop {
            let (id, effect) = self.faults.take(request, account, access, after)?;
            let Effect::Change(change) = effect else { return Some(effect) };
            if let Err(error) = self.change(&change, now) {
                let code = format!("SimulatorChangeFailed: {error}");
                return Some(Effect::Error { status: 500, code, message: String::new() });
            }
            after = id;
        }
    }

    /// Handles a request: identity, region, throttle, policies, and then the call itself.
    pub fn handle(&mut self, request: &Request, now: Time, effect: Option<&Effect>) -> Outcome {
        self.requests += 1;
        let id = crate::hash::uuid(self.settings.seed, self.requests);
        let result = self.answer(request, now, effect, &id);
        Outcome { id, result }
    }

    fn answer(
        &mut self,
        request: &Request,
        now: Time,
        effect: Option<&Effect>,
        id: &str,
    ) -> Result<Map, Fault> {
        let op = find(request.service, &request.operation);
        let who = self.who(request, now);
        let place = who.as_ref().map_or(self.org.management, |w| w.account);
        let result = match (op, who) {
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
            (Ok(op), Ok(who)) => self.permitted(request, op, &who, now, effect, id),
        };
        self.log.add(now, place, request, result.as_ref().err());
        result
    }

    fn permitted(
        &mut self,
        request: &Request,
        op: &'static Op,
        who: &Principal,
        now: Time,
        effect: Option<&Effect>,
        id: &str,
    ) -> Result<Map, Fault> {
        let region = self.place(request, who)?;
        match effect {
            Some(Effect::Throttle) => return Err(Fault::of(Kind::Throttled, "Rate exceeded")),
            Some(Effect::Error { status, code, message }) => {
                let asked = "a fault that was asked for";
                let said = if message.is_empty() { asked } else { message };
                return Err(Fault::new(*status, code.clone(), said));
            }
            Some(Effect::Expire) => {
                return Err(Fault::of(
                    Kind::Expired,
                    "The security token included in the request is expired",
                ));
            }
            _ => {}
        }
        self.throttle.take(who.account, region, (request.service, op.name), now)?;
        self.enter(who.account, region, now);
        let denied = match effect {
            Some(Effect::Deny) => Some(authorize::plain(request.service, op, who)),
            _ => self.denial((request.service, op), who, region, &request.params, now),
        };
        if let Some(fault) = denied {
            self.remember(request, op, who, region, now, id, Err(&fault));
            return Err(fault);
        }
        if let Some(Effect::FailRestore) = effect {
            self.cell_mut(who.account, region).rds.forget_newest();
        }
        let lag = match effect {
            Some(Effect::Lag { ms }) => *ms,
            _ => self.settings.read_lag_ms,
        };
        let result = self.apply_lagging(
            (who.account, region),
            who,
            (request.service, op),
            &request.params,
            now,
            lag,
        );
        if let (Some(Effect::FailRestore), Ok(_)) = (effect, &result) {
            self.cell_mut(who.account, region).rds.fail_newest();
        }
        self.remember(request, op, who, region, now, id, result.as_ref());
        result
    }

    /// The region that a request is for, if it is on in the caller's account.
    fn place(&self, request: &Request, who: &Principal) -> Result<Region, Fault> {
        let bad = || {
            let message = "The security token included in the request is invalid.";
            Fault::of(Kind::BadToken, message)
        };
        let region = regions::find(&request.region).ok_or_else(|| {
            let message =
                format!("Credential should be scoped to a valid region, not {}", request.region);
            Fault::new(403, "SignatureDoesNotMatch", message)
        })?;
        // A region that is off does not know the account's tokens (IAM guide, "Managing AWS STS in an
        // AWS Region").
        if self.region_on(who.account, region) { Ok(region) } else { Err(bad()) }
    }

    /// Brings a cell into being and up to date.
    pub(crate) fn enter(&mut self, account: AccountId, region: Region, now: Time) {
        let generator = self.generator.clone();
        let cell = self.cells.entry((account, region)).or_insert_with(|| match &generator {
            Some(generator) => generator.cell(account, region),
            None => Cell::default(),
        });
        cell.rds.settle(now);
        self.meet(account, region, now);
    }

    pub(crate) fn cell_mut(&mut self, account: AccountId, region: Region) -> &mut Cell {
        self.cells.entry((account, region)).or_default()
    }

    /// Reads may see an earlier state; writes never do, and leave the state before them behind.
    fn apply_lagging(
        &mut self,
        (account, region): (AccountId, Region),
        who: &Principal,
        (service, op): (Service, &'static Op),
        params: &Map,
        now: Time,
        lag: i64,
    ) -> Result<Map, Fault> {
        let keep = lag > 0 || self.settings.read_lag_ms > 0 || self.faults.may_lag();
        if !keep {
            return self.apply(account, region, who, (service, op), params, now);
        }
        let moment = now.plus(-lag);
        match (service, op.access) {
            (Service::Rds, Access::Write) => {
                let cell = self.cell_mut(account, region);
                let before = cell.rds.clone();
                cell.rds_before.push((now, before));
                cell.rds_before.retain(|(at, _)| *at > now.plus(-600_000));
            }
            (Service::Organizations, Access::Write) => {
                let before = self.org.clone();
                self.org_before.push((now, before));
                self.org_before.retain(|(at, _)| *at > now.plus(-600_000));
            }
            (Service::Rds, Access::Read) if lag > 0 => {
                let cell = self.cell_mut(account, region);
                if let Some((_, old)) = cell.rds_before.iter().find(|(at, _)| *at > moment) {
                    let mut old = old.clone();
                    old.settle(moment);
                    let current = std::mem::replace(&mut cell.rds, old);
                    let result = self.apply(account, region, who, (service, op), params, now);
                    self.cell_mut(account, region).rds = current;
                    return result;
                }
            }
            (Service::Organizations, Access::Read) if lag > 0 => {
                if let Some((_, old)) = self.org_before.iter().find(|(at, _)| *at > moment) {
                    let current = std::mem::replace(&mut self.org, old.clone());
                    let result = self.apply(account, region, who, (service, op), params, now);
                    self.org = current;
                    return result;
                }
            }
            _ => {}
        }
        self.apply(account, region, who, (service, op), params, now)
    }

    /// What is in the cells that were touched, as AWS's replies show it: for tests and people.
    pub fn snapshot(&mut self, now: Time) -> serde_json::Value {
        let mut places: Vec<(AccountId, Region)> = self.cells.keys().copied().collect();
        places.sort_unstable();
        let mut all = serde_json::Map::new();
        for (account, region) in places {
            self.enter(account, region, now);
            let who = self.admin(account);
            let mut cell = serde_json::Map::new();
            for (operation, field) in [
                ("DescribeDBInstances", "DBInstances"),
                ("DescribeDBClusters", "DBClusters"),
                ("DescribeDBSnapshots", "DBSnapshots"),
                ("DescribeDBClusterSnapshots", "DBClusterSnapshots"),
            ] {
                let Ok(op) = find(Service::Rds, operation) else { continue };
                let mut ctx = Ctx { world: self, account, region, who: &who, now };
                let Ok(reply) = (op.run)(&mut ctx, &Map::new()) else { continue };
                let items: Vec<serde_json::Value> =
                    reply.items(field).iter().map(crate::wire::json::to_json).collect();
                if !items.is_empty() {
                    cell.insert(field.to_owned(), items.into());
                }
            }
            all.insert(format!("{account} {region}"), cell.into());
        }
        serde_json::json!({"cells": all, "attachments": self.org.attached_everywhere()})
    }

    /// Does a call, without asking whether it may be done.
    pub(crate) fn apply(
        &mut self,
        account: AccountId,
        region: Region,
        who: &Principal,
        (service, op): (Service, &'static Op),
        params: &Map,
        now: Time,
    ) -> Result<Map, Fault> {
        if let Some((name, _)) = params.iter().find(|(name, _)| !op.params.contains(name)) {
            let message =
                format!("the simulator does not model the parameter {name} of {}", op.name);
            return Err(Fault::of(Kind::NotModelled, message));
        }
        if service == Service::Rds
            && let Some(arn) = foreign_arn(params, account, region)
        {
            let message = format!(
                "the simulator does not model resources of another account or region: {arn}"
            );
            return Err(Fault::of(Kind::NotModelled, message));
        }
        (op.run)(&mut Ctx { world: self, account, region, who, now }, params)
    }
}

/// An ARN of RDS that names another place than the call's own; its name must not find what is here.
fn foreign_arn(params: &Map, account: AccountId, region: Region) -> Option<&str> {
    // The source of a replica may be in another region, and is looked for there.
    let texts = params.iter().filter(|(name, _)| *name != "SourceDBInstanceIdentifier");
    let texts = texts.filter_map(|(_, value)| value.as_text());
    texts.filter(|text| text.starts_with("arn:aws:rds:")).find(|text| {
        let mut parts = text.split(':').skip(3);
        parts.next() != Some(region) || parts.next() != Some(account.to_string().as_str())
    })
}

macro_rules! op {
    ($access:ident $name:literal ($($param:literal),* $(,)?) $run:expr) => {
        $crate::world::Op {
            name: $name,
            access: $crate::world::Access::$access,
            params: &[$($param),*],
            run: $run,
        }
    };
}
pub(crate) use op;
