//! Whether a blue/green deployment may be the way to a twin.
//!
//! The limits are those of the RDS guide, "Limitations and considerations for blue/green deployments", and of the
//! Aurora guide's page of that name. Copies of the first still say that an unencrypted instance cannot be changed
//! into an encrypted one, while the API has `TargetKmsKeyId` for it: so that it works is taken from what was seen in
//! an account, for an engine, and from nothing else.

use super::checks::{Checks, Verdict};
use super::standing::known;
use super::{Jobs, Strategy, Wanted};
use crate::around::{Around, keys};
use crate::finding::{Finding, Resource};
use crate::rds::Instance;

const NAME: &str = "blue-green";
const PART: &str = "deployments";

/// The engines that have blue/green deployments.
const ENGINES: [&str; 5] = ["mysql", "mariadb", "postgres", "aurora-mysql", "aurora-postgresql"];

/// Databases of one deployment at most (API reference, CreateBlueGreenDeployment: `TargetResourceConfigurations`).
const MEMBERS_MAX: usize = 20;

/// Whether it is part of a deployment already: its names are about to change hands, and AWS neither renames what is
/// part of one nor makes a second.
pub(super) fn part_of(
    resource: &Resource,
    around: Option<&Around>,
    strategy: Strategy,
    checks: &mut Checks,
) {
    let named = match known("blue/green deployments", around.map(|a| &a.deployments)) {
        Ok(named) => named,
        Err(unread) => return checks.see(PART, strategy.needs(Verdict::Warn), [unread]),
    };
    let keys = keys(resource);
    let found = keys.iter().filter_map(|(key, id)| Some((id, named.get(key)?.join(", "))));
    let text = found.map(|(id, by)| match strategy {
        Strategy::SideBySide => format!(
            "{id} is part of the blue/green deployment {by}: the twin is made of what bears the name when its snapshot is taken"
        ),
        Strategy::Swap | Strategy::BlueGreen => match by.strip_prefix("ringfence-rem-") {
            Some(rem) => format!(
                "{id} is part of the blue/green deployment {by}: let that end first (`ringfence remediation cutover` or `discard rem-{rem}`), and scan again"
            ),
            None => format!(
                "{id} is part of the blue/green deployment {by}: let that end, or delete it, and scan again"
            ),
        },
    });
    let verdict = match strategy {
        Strategy::SideBySide => Verdict::Warn,
        Strategy::Swap | Strategy::BlueGreen => Verdict::Block,
    };
    checks.see(PART, verdict, text);
}

/// What AWS makes no deployment of, and whether it was seen to encrypt one.
pub(super) fn see(finding: &Finding, wanted: &Wanted, checks: &mut Checks) {
    if wanted.strategy != Strategy::BlueGreen {
        return;
    }
    let resource = &finding.resource;
    let (name, engine) = (resource.name(), resource.engine());
    if !ENGINES.contains(&engine) {
        let why = format!("{name}: AWS has no blue/green deployments of {engine}: plan a swap");
        return checks.block(NAME, [why]);
    }
    checks.block(NAME, limits(resource));
    checks.warn("replication", replication(resource));
    // A tag says that they are known in copies; these write to what is kept in step.
    if wanted.jobs != Jobs::Acknowledged {
        checks.block("green-jobs", writers(name, engine));
    }
    let proven = wanted.proven.contains(&(finding.account.clone(), engine.to_owned()));
    if proven {
        return;
    }
    let unproven = format!(
        "{name}: that AWS encrypts a green environment of {engine} was not seen in {} yet",
        finding.account
    );
    match (wanted.unproven, wanted.auto) {
        (false, _) => checks.block(NAME, [format!(
            "{unproven}: plan one with --unproven first. Nothing happens to it: the green environment is made, compared and, if it is not encrypted, deleted; verified or discarded, it is the proof"
        )]),
        (true, true) => checks.block(NAME, [format!(
            "{unproven}, so nobody should let it switch over by itself: plan without --auto-cutover"
        )]),
        (true, false) => checks.warn(NAME, [format!("{unproven}; the plan's author wants to try")]),
    }
}

/// What AWS makes no deployment of, or what it does not say enough of.
fn limits(resource: &Resource) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |holds: bool, text: String| {
        if holds {
            found.push(text);
        }
    };
    let name = resource.name();
    let managed_by = match resource {
        Resource::Instance { instance, replicas } => {
            let off = instance.settings.backup_retention_period == 0;
            say(
                off,
                format!(
                    "{name} has no automated backups: AWS needs them to make a green environment; set a backup retention period first"
                ),
            );
            let far = |r: &&Instance| r.replica_source.as_deref() != Some(instance.id.as_str());
            let cascades: Vec<&str> = replicas.iter().filter(far).map(|r| r.id.as_str()).collect();
            say(
                !cascades.is_empty(),
                format!(
                    "{name}: {} replicates a replica, and AWS makes no blue/green deployment of such a tree: plan a swap",
                    cascades.join(", ")
                ),
            );
            let secret = instance.settings.manage_master_user_password;
            say(secret, secret_text(name));
            let size = |i: &Instance| i.settings.allocated_storage;
            let other = replicas.iter().filter(|r| size(r) != size(instance));
            let other: Vec<&str> = other.map(|r| r.id.as_str()).collect();
            say(
                !other.is_empty(),
                format!(
                    "{name}: {} has other storage than its source, and AWS gives green replicas that of the green source: plan a swap",
                    other.join(", ")
                ),
            );
            let waits = std::iter::once(instance).chain(replicas).flat_map(|i| &i.out_of_sync);
            let waits: Vec<&str> = waits.map(String::as_str).collect();
            say(
                !waits.is_empty(),
                format!(
                    "{name}: {}: AWS makes no green environment of what is not in sync with its groups: reboot it first",
                    waits.join(", ")
                ),
            );
            &instance.managed_by
        }
        Resource::Cluster { cluster, .. } => {
            say(cluster.settings.manage_master_user_password, secret_text(name));
            say(
                cluster.settings.backtrack_window > 0,
                format!(
                    "{name} has Backtrack, which a green environment is made without: plan a swap"
                ),
            );
            say(
                !cluster.endpoints.is_empty(),
                format!(
                    "{name} has custom endpoints, and this version does not know what a switchover makes of them: plan a swap, which moves them"
                ),
            );
            // Default groups cannot be changed, and what AWS replicates by is off in them.
            let group = cluster.settings.db_cluster_parameter_group.as_deref().unwrap_or_default();
            let needs = match resource.engine() {
                "aurora-mysql" => "binlog_format",
                _ => "rds.logical_replication",
            };
            say(
                group.starts_with("default."),
                format!(
                    "{name} has the parameter group {group}, in which {needs} is off: give it one of its own where it is on, and reboot its writer"
                ),
            );
            &cluster.managed_by
        }
        Resource::Snapshot { .. } => {
            return vec![format!("{name} is a snapshot: it has no place")];
        }
    };
    let stack = managed_by.as_deref().filter(|by| by.contains("CloudFormation"));
    say(
        stack.is_some(),
        format!(
            "{name} is managed by {}: AWS supports no blue/green deployment of it; plan a swap",
            stack.unwrap_or_default()
        ),
    );
    let count = resource.instances().count();
    say(
        count > MEMBERS_MAX,
        format!(
            "{name} has {count} instances: a blue/green deployment can be given a key for {MEMBERS_MAX}"
        ),
    );
    found
}

fn secret_text(name: &str) -> String {
    format!(
        "{name}: its master password is managed in Secrets Manager, and AWS makes no blue/green deployment of that: plan a swap"
    )
}

/// What writes into a green environment by itself, though it is read-only for clients (RDS and Aurora guides,
/// "Limitations and considerations for blue/green deployments").
fn writers(name: &str, engine: &str) -> Option<String> {
    let what = match engine {
        e if e.contains("postgres") => {
            "pg_cron and pg_partman run their jobs in the green environment too, past its being read-only: pause them"
        }
        _ => {
            "the green environment has the parameter group of the original, and with event_scheduler on its events run there too: if it has events, set it off"
        }
    };
    Some(format!(
        "{name}: {what} until the switchover, for what they write there makes it another database than the original; then plan with --acknowledge-jobs"
    ))
}

/// What replication to a green environment needs, or does not carry.
fn replication(resource: &Resource) -> Vec<String> {
    let (name, engine) = (resource.name(), resource.engine());
    const LOGICAL: &str = "GRANT and REVOKE, unlogged tables, large objects, materialized views, and tables without a primary key do not come along, without a word from AWS; after a change of the schema it ends the replication, and refuses to switch over: change nothing of this until the switchover, and look at privileges and sequences after it";
    let mut found = Vec::new();
    match engine {
        "aurora-mysql" => found.push(format!(
            "{name}: AWS replicates by the binary log: binlog_format must be on in its cluster parameter group, and the writer restarted since; else AWS refuses, and nothing is made. Until the switchover its master user can write to the green environment, and must not"
        )),
        "aurora-postgresql" => found.push(format!(
            "{name}: AWS replicates logically: rds.logical_replication must be on, else AWS refuses, and nothing is made; {LOGICAL}"
        )),
        "postgres" => found.push(format!("{name}: where AWS replicates logically, {LOGICAL}")),
        _ => {}
    }
    if let Resource::Cluster { .. } = resource {
        found.push(format!(
            "{name}: Auto Scaling policies of the cluster are not copied (Aurora guide): make them anew after the switchover"
        ));
    }
    found
}
