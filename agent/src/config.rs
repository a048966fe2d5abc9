//! The configuration: a TOML file, then `RINGFENCE_SECTION__KEY` from the environment. Read once.
//!
//! One file serves server and agents, so there is one reader. It is here because the server links
//! the agent (its embedded one), and an agent must not link the server and its store.

mod keys;

use keys::{KEYS, Type};
use ringfence_aws::limits::Rates;
use ringfence_aws::{Settings, SourceIdentity};
use ringfence_domain::bounds::REGIONS_MAX_AGE;
use ringfence_domain::campaign::{Limits, Share};
use ringfence_domain::id::Region;
use ringfence_domain::isolation::Isolation;
use ringfence_domain::key::Wanted;
use ringfence_domain::plan::Guess;
use ringfence_domain::remediation::Bounds;
use ringfence_domain::rollout::{Alarm, OnDrift};
use ringfence_domain::time::Span;
use ringfence_domain::window;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A configuration that was checked.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is the key of its name; the README has the table")]
pub struct Config {
    pub listen: SocketAddr,
    pub embedded_agent: bool,
    pub store_url: String,
    pub aws: Settings,
    pub regions: Vec<Region>,
    pub key: Wanted,
    pub require_kms_key: bool,
    pub plan_max_age: Span,
    pub recheck_timeout: Span,
    pub bounds: Bounds,
    pub check_command: String,
    pub check_timeout: Span,
    pub poll: Span,
    pub isolation: Isolation,
    pub window: window::Rule,
    pub guess: Guess,
    pub require_jobs_acknowledged: bool,
    pub campaign: Limits,
    pub evidence_max_age: Span,
    pub accept_configured_regions: bool,
    pub org_max_age: Span,
    pub policies_per_target: usize,
    pub policy_size: usize,
    /// `rollout.max_accounts`: how many accounts one stage may bind; 0 is no limit.
    pub accounts_per_stage: usize,
    pub approvals_remediation: usize,
    pub approvals_rollout: usize,
    /// `approvals.rollout_valid_for`: how old an approval may be when a rollout starts or goes on.
    pub approvals_rollout_valid_for: Span,
    pub health_command: String,
    pub health_timeout: Span,
    pub observe_every: Span,
    pub guard_every: Span,
    /// `rollout.watch_denials`: whether CloudTrail is asked what a policy denied while a stage bakes.
    pub watch_denials: bool,
    /// `rollout.trail_delay`: how late CloudTrail may be.
    pub trail_delay: Span,
    /// `rollout.access_analyzer`: whether it is asked what it finds in a policy.
    pub access_analyzer: bool,
    /// `rollout.history_max_age`: what was read of CloudTrail serves again for so long.
    pub history_max_age: Span,
    pub retreat_all: bool,
    /// `rollout.alarms`: signs of health while a stage bakes.
    pub alarms: Vec<Alarm>,
    /// `rollout.gate_command`: asked before each target, besides the evidence.
    pub gate_command: String,
    pub gate_timeout: Span,
    /// `rollout.on_drift`: what becomes of a rollout that somebody detaches.
    pub on_drift: OnDrift,
    /// `rollout.probe_every`: how often a stage is probed until it was seen in force.
    pub probe_every: Span,
    /// `rollout.probe_for`: how long, before a person is asked.
    pub probe_for: Span,
    pub approvals_decommission: usize,
    pub agent_server: String,
    pub agent_name: String,
    pub join_token: String,
    pub agent_threads: usize,
    pub agent_accounts_per_thread: usize,
    pub agent_drain_for: Span,
    pub agent_ca_file: String,
    pub lease_for: Span,
    pub tls: Option<(PathBuf, PathBuf)>,
    pub scan_schedule: String,
    pub scan_jitter: Span,
    pub scan_calls_per_hour: u32,
    pub scan_regions_max_age: Span,
    pub scan_org_max_age: Span,
    pub scan_aws_config: bool,
    pub scan_aggregator: String,
    pub scan_aggregator_region: Option<Region>,
}

/// Why a configuration is refused. Every message names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

fn fail<T>(message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(message.into()))
}

/// Reads the file, if one is given, and the process's environment.
///
/// # Errors
/// An unreadable file, TOML that is not, an unknown key (with the nearest known one), a value of
/// another type or out of range.
pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    let text = match file {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|e| ConfigError(format!("read {}: {e}", path.display())))?,
    };
    parse(&text, std::env::vars())
}

/// [`load`] with everything given.
pub fn parse(
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(e) => return fail(format!("the configuration file is not TOML: {e}")),
    };
    let mut values: BTreeMap<&'static str, String> =
        KEYS.iter().map(|(key, _, default)| (*key, (*default).to_owned())).collect();
    let mut given = Vec::new();
    flatten("", &table, &mut given)?;
    for (name, value) in environment {
        // A variable without `__` is never a key: RINGFENCE_SERVER and RINGFENCE_USER are the CLI's.
        if let Some(key) = name.strip_prefix("RINGFENCE_").filter(|rest| rest.contains("__")) {
            let key = key.to_ascii_lowercase().replace("__", ".");
            given.push((key, value, format!("environment variable {name}")));
        }
    }
    for (key, value, place) in given {
        // The environment has no `-`, so controls.rds_encryption stands for controls.rds-encryption.
        let same = |known: &str| known == key || known.replace('-', "_") == key;
        let Some((known, kind, _)) = KEYS.iter().find(|(known, _, _)| same(known)) else {
            return fail(unknown(&key, &place));
        };
        check(known, *kind, &value, &place)?;
        values.insert(known, value);
    }
    Config::new(&values)
}

/// All leaves of a table as `a.b.c`, with lists joined by commas.
fn flatten(
    prefix: &str,
    table: &Table,
    out: &mut Vec<(String, String, String)>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let text = match value {
            Value::Table(inner) => {
                flatten(&key, inner, out)?;
                continue;
            }
            Value::String(text) => text.clone(),
            Value::Integer(n) => n.to_string(),
            Value::Boolean(b) => b.to_string(),
            Value::Array(list) => {
                let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                let Some(texts) = texts else {
                    return fail(format!("{key}: the list must hold texts"));
                };
                texts.join(",")
            }
            Value::Float(_) | Value::Datetime(_) => {
                return fail(format!("{key}: `{value}` is no value of any key"));
            }
        };
        out.push((key, text, "the configuration file".to_owned()));
    }
    Ok(())
}

/// `vpc-1=sg-1, vpc-2=sg-2`.
fn pairs(key: &str, text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut found = BTreeMap::new();
    for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let good =
            |(vpc, group): &(&str, &str)| vpc.starts_with("vpc-") && group.starts_with("sg-");
        match one.split_once('=').map(|(a, b)| (a.trim(), b.trim())).filter(good) {
            Some((vpc, group)) => found.insert(vpc.to_owned(), group.to_owned()),
            None => {
                return fail(format!(
                    "{key}: `{one}`: each must be a VPC and its security group, such as vpc-0a1b=sg-0c2d"
                ));
            }
        };
    }
    Ok(found)
}

fn unknown(key: &str, place: &str) -> String {
    let nearest = KEYS
        .iter()
        .map(|(known, _, _)| (strsim::jaro_winkler(known, key), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match nearest {
        Some((score, known)) if score > 0.8 => format!("; did you mean `{known}`?"),
        _ => "; the README lists the keys".to_owned(),
    };
    format!("unknown key `{key}` in {place}{hint}")
}

fn check(key: &str, kind: Type, value: &str, place: &str) -> Result<(), ConfigError> {
    let wanted = match kind {
        Type::Text | Type::Texts => return Ok(()),
        Type::Bool => value.parse::<bool>().err().map(|_| "true or false"),
        Type::Count => value.parse::<u32>().err().map(|_| "a whole number"),
        Type::Share => {
            value.parse::<Share>().err().map(|_| "a number such as 5, or a share such as 10%")
        }
        Type::Duration => {
            Span::parse(value).is_none().then_some("a duration such as 90s, 15m or 24h")
        }
    };
    match wanted {
        None => Ok(()),
        Some(wanted) => fail(format!("{key} = `{value}` in {place}: it must be {wanted}")),
    }
}

impl Config {
    /// What an agent of that name needs of it.
    pub fn agent(&self, name: String, names: crate::Names) -> crate::Settings {
        crate::Settings {
            name,
            regions: self.regions.clone(),
            key: self.key.clone(),
            require_kms_key: self.require_kms_key,
            isolation: self.isolation.clone(),
            bounds: self.bounds,
            checks: crate::Checks::new(&self.check_command, self.check_timeout),
            poll: self.poll,
            max_accounts: self.agent_accounts_per_thread,
            threads: self.agent_threads,
            drain_for: self.agent_drain_for,
            names,
        }
    }

    fn new(values: &BTreeMap<&'static str, String>) -> Result<Config, ConfigError> {
        let text = |key: &str| values.get(key).cloned().unwrap_or_default();
        let count = |key: &str| text(key).parse::<u32>().unwrap_or_default();
        let size = |key: &str| count(key) as usize;
        let flag = |key: &str| text(key) == "true";
        let span = |key: &str| Span::parse(&text(key)).unwrap_or_default();
        // Checked before; nothing runs by a share that is none.
        let share = |key: &str| text(key).parse().unwrap_or(Share::Count(0));
        let listen = text("server.listen");
        let Ok(listen) = listen.parse::<SocketAddr>() else {
            return fail(format!(
                "server.listen = `{listen}`: it must be an address and port, for example 127.0.0.1:7443"
            ));
        };
        let tls = match (text("server.tls.cert_file"), text("server.tls.key_file")) {
            (cert, key) if cert.is_empty() && key.is_empty() => None,
            (cert, _) if cert.is_empty() => {
                return fail(
                    "server.tls.cert_file is empty, and server.tls.key_file is not: TLS takes both",
                );
            }
            (_, key) if key.is_empty() => {
                return fail(
                    "server.tls.key_file is empty, and server.tls.cert_file is not: TLS takes both",
                );
            }
            (cert, key) => Some((PathBuf::from(cert), PathBuf::from(key))),
        };
        if !listen.ip().is_loopback() && tls.is_none() {
            return fail(format!(
                "server.listen = {listen}: only a loopback address is served without TLS; set server.tls.cert_file and server.tls.key_file"
            ));
        }
        let source_identity = match text("aws.source_identity").as_str() {
            "auto" => SourceIdentity::Auto,
            "off" => SourceIdentity::Off,
            other => {
                return fail(format!("aws.source_identity = `{other}`: it must be auto or off"));
            }
        };
        let region_list = |key: &str| -> Result<Vec<Region>, ConfigError> {
            let list = text(key);
            let names = list.split(',').map(str::trim).filter(|r| !r.is_empty());
            let named: Result<Vec<Region>, _> =
                names.map(|n| n.parse().map_err(|e| ConfigError(format!("{key}: {e}")))).collect();
            let mut seen = std::collections::BTreeSet::new();
            named.map(|all| all.into_iter().filter(|r| seen.insert(r.clone())).collect())
        };
        let regions = region_list("aws.regions")?;
        let sts_regions = region_list("aws.sts_regions")?.iter().map(ToString::to_string).collect();
        let aggregator_region = region_list("scan.aggregator_region")?;
        if aggregator_region.len() > 1 {
            return fail("scan.aggregator_region: an aggregator is in one region");
        }
        let aggregator_region = aggregator_region.into_iter().next();
        let kms_alias = text("kms.alias");
        if kms_alias == "alias/aws/rds" {
            return fail(
                "kms.alias = alias/aws/rds: that key is AWS's, its policy cannot be edited nor its snapshots shared; name a customer managed key",
            );
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "/_-".contains(c);
        if !kms_alias.starts_with("alias/") || kms_alias.len() < 7 || !kms_alias.chars().all(plain)
        {
            return fail(format!(
                "kms.alias = `{kms_alias}`: it must be alias/ and letters, digits and /_- (a key ARN would be of one region only)"
            ));
        }
        let central = match text("kms.account") {
            none if none.is_empty() => None,
            account => Some(account.parse().map_err(|e| ConfigError(format!("kms.account: {e}")))?),
        };
        let key = Wanted { alias: kms_alias, central };
        let role = text("aws.role_name");
        let plain = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-/".contains(c);
        if role.is_empty() || !role.chars().all(plain) {
            return fail(format!(
                "aws.role_name = `{role}`: it must be the name of the role to assume in every account (letters, digits and _+=,.@-)"
            ));
        }
        if span("scan.regions_max_age") > REGIONS_MAX_AGE {
            return fail(format!(
                "scan.regions_max_age = {}: it must be {REGIONS_MAX_AGE} or less, for an account may turn regions on",
                text("scan.regions_max_age")
            ));
        }
        let unhealthy = text("rollout.on_unhealthy");
        if !["stage", "all"].contains(&unhealthy.as_str()) {
            return fail(format!(
                "rollout.on_unhealthy = `{unhealthy}`: it is stage (take back the stage that does harm) or all"
            ));
        }
        let mut alarms = Vec::new();
        for arn in text("rollout.alarms").split(',').filter(|arn| !arn.is_empty()) {
            alarms.push(Alarm::parse(arn).ok_or_else(|| {
                ConfigError(format!(
                    "rollout.alarms: `{arn}` is no ARN of an alarm (arn:aws:cloudwatch:REGION:ACCOUNT:alarm:NAME)"
                ))
            })?);
        }
        let drift = text("rollout.on_drift");
        let Some((_, on_drift)) = OnDrift::ALL.into_iter().find(|(name, _)| *name == drift) else {
            return fail(format!(
                "rollout.on_drift = `{drift}`: it is pause, reattach (through its gate) or adopt (it stays off)"
            ));
        };
        for key in ["approvals.remediation", "approvals.rollout", "approvals.decommission"] {
            if count(key) == 0 {
                return fail(format!("{key} = 0: at least one other person must approve"));
            }
        }
        for key in [
            "remediation.max_running",
            "remediation.max_running_per_ou",
            "remediation.max_running_per_account",
            "remediation.max_running_per_cell",
        ] {
            let share = share(key);
            if matches!(share, Share::Count(0) | Share::Percent(0)) {
                return fail(format!("{key} = {share}: no remediation would ever begin"));
            }
        }
        // "A period can be as short as one second and must be a multiple of 60, or 1, 5, 10, 20 or 30" (CloudWatch
        // API reference, MetricStat).
        let seconds = span("remediation.metric_period").0 / 1_000;
        if !(seconds > 0 && seconds % 60 == 0 || [1, 5, 10, 20, 30].contains(&seconds)) {
            return fail(
                "remediation.metric_period: it must be 1m or a multiple of it; 1s, 5s, 10s, 20s and 30s are for emulators",
            );
        }
        if span("remediation.quiet_for").0 < span("remediation.metric_period").0 {
            return fail("remediation.quiet_for: it must be remediation.metric_period or more");
        }
        let isolation = Isolation {
            groups: pairs("remediation.isolation_groups", &text("remediation.isolation_groups"))?,
            name: text("remediation.isolation_name"),
        };
        // "Up to 255 characters in length. Cannot start with sg-" (EC2 API reference, CreateSecurityGroup).
        if isolation.name.is_empty()
            || isolation.name.len() > 255
            || isolation.name.starts_with("sg-")
        {
            return fail("remediation.isolation_name: 1 to 255 characters, and no id (sg-...)");
        }
        let rates = Rates::each(|class| count(&format!("limits.{}", class.as_str())));
        for key in ["limits.call_deadline", "limits.attempt_timeout", "server.lease_for"] {
            if span(key) < Span::seconds(1) {
                return fail(format!("{key} = {}: it must be 1s or more", text(key)));
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = match size("agent.threads") {
            0 => cores,
            n => n,
        };
        let agent_name = text("agent.name");
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if agent_name.is_empty() || agent_name.len() > 64 || !agent_name.chars().all(plain) {
            return fail(format!(
                "agent.name = `{agent_name}`: it must be 1 to 64 letters, digits, `-` and `.`"
            ));
        }
        Ok(Config {
            listen,
            embedded_agent: flag("server.embedded_agent"),
            store_url: text("store.url"),
            aws: Settings {
                role_name: text("aws.role_name"),
                external_id: text("aws.external_id"),
                source_identity,
                rates,
                call_deadline: span("limits.call_deadline").to_duration(),
                attempt_timeout: span("limits.attempt_timeout").to_duration(),
                in_flight_per_region: count("limits.in_flight_per_region"),
                sts_regions,
            },
            regions,
            key,
            require_kms_key: flag("controls.rds-encryption.require_kms_key"),
            plan_max_age: span("remediation.plan_max_age"),
            recheck_timeout: span("remediation.recheck_timeout"),
            bounds: Bounds {
                expect_for: span("remediation.expect_for"),
                quiet_for: span("remediation.quiet_for"),
                quiet_writes: count("remediation.quiet_writes"),
                metric_period: span("remediation.metric_period"),
                // Its values come once a period; asking more often says nothing new.
                measure_every: span("remediation.metric_period"),
                hold: span("remediation.hold"),
                hold_look: span("remediation.hold_look"),
                check: !text("remediation.check_command").is_empty(),
            },
            check_command: text("remediation.check_command"),
            check_timeout: span("remediation.check_timeout"),
            poll: span("remediation.poll"),
            window: text("remediation.window").parse().map_err(|e| {
                ConfigError(format!("remediation.window: {e}; or `database` for each one's own"))
            })?,
            guess: Guess {
                base: span("remediation.estimate_base"),
                per_gib: span("remediation.estimate_per_gib"),
            },
            require_jobs_acknowledged: flag("remediation.require_jobs_acknowledged"),
            isolation,
            campaign: Limits {
                organization: share("remediation.max_running"),
                ou: share("remediation.max_running_per_ou"),
                account: share("remediation.max_running_per_account"),
                cell: share("remediation.max_running_per_cell"),
                failures: share("remediation.failure_budget"),
            },
            evidence_max_age: span("rollout.evidence_max_age"),
            accept_configured_regions: flag("rollout.accept_configured_regions"),
            org_max_age: span("rollout.org_max_age"),
            policies_per_target: size("rollout.max_policies_per_target"),
            policy_size: size("rollout.max_policy_size"),
            accounts_per_stage: size("rollout.max_accounts"),
            health_command: text("rollout.health_command"),
            health_timeout: span("rollout.health_timeout"),
            observe_every: span("rollout.observe_every"),
            guard_every: span("rollout.guard_every"),
            watch_denials: flag("rollout.watch_denials"),
            trail_delay: span("rollout.trail_delay"),
            access_analyzer: flag("rollout.access_analyzer"),
            history_max_age: span("rollout.history_max_age"),
            retreat_all: text("rollout.on_unhealthy") == "all",
            alarms,
            gate_command: text("rollout.gate_command"),
            gate_timeout: span("rollout.gate_timeout"),
            on_drift,
            probe_every: span("rollout.probe_every"),
            probe_for: span("rollout.probe_for"),
            approvals_remediation: size("approvals.remediation"),
            approvals_rollout: size("approvals.rollout"),
            approvals_rollout_valid_for: span("approvals.rollout_valid_for"),
            approvals_decommission: size("approvals.decommission"),
            agent_server: text("agent.server"),
            agent_name,
            join_token: text("agent.join_token"),
            agent_threads: threads,
            agent_accounts_per_thread: size("agent.accounts_per_thread").max(1),
            agent_drain_for: span("agent.drain_for"),
            agent_ca_file: text("agent.ca_file"),
            lease_for: span("server.lease_for"),
            tls,
            scan_schedule: text("scan.schedule"),
            scan_jitter: span("scan.jitter"),
            scan_calls_per_hour: count("scan.calls_per_hour"),
            scan_regions_max_age: span("scan.regions_max_age"),
            scan_org_max_age: span("scan.org_max_age"),
            scan_aws_config: flag("scan.aws_config"),
            scan_aggregator: text("scan.aggregator"),
            scan_aggregator_region: aggregator_region,
        })
    }
}

#[cfg(test)]
mod tests;
