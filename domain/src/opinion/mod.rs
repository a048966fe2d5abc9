//! AWS Config's word on a cell: a second opinion, kept beside what Describe says and never instead of it.
//!
//! Config judges recorded items. Where its recorder does not see databases it is *blind*, which is a state
//! of its own and never compliance. Its items have no storage encryption type, so a database under an
//! AWS-owned key may count as not compliant there (aws-config-resource-schema, AWS::RDS::DBCluster); how
//! the rules judge those is not documented. Describe decides, and what differs is shown.

mod rule;

pub use rule::{Rule, Verdict};

use crate::control::Detection;
use crate::finding::{Detected, Resource};
use crate::rds::{Sweep, out_of_scope};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which types of resources a recorder records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// All that Config knows.
    All,
    /// These.
    Only(Vec<String>),
    /// All but these.
    Except(Vec<String>),
}

impl Recorded {
    fn sees(&self, kind: &str) -> bool {
        match self {
            Recorded::All => true,
            Recorded::Only(kinds) => kinds.iter().any(|k| k == kind),
            Recorded::Except(kinds) => kinds.iter().all(|k| k != kind),
        }
    }
}

/// A configuration recorder; an account has one a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorder {
    /// Whether it is switched on.
    pub recording: bool,
    /// What its last delivery failed with; empty if it did not.
    pub failure: String,
    /// What it records.
    pub recorded: Recorded,
}

/// A rule that is there, under whatever name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// Which.
    pub rule: Rule,
    /// What it says of the whole cell.
    pub verdict: Verdict,
    /// What it says of each resource, by its id; of rules about databases.
    pub resources: BTreeMap<String, bool>,
}

/// All that Config says of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFacts {
    /// The recorder; `None` if there is none.
    pub recorder: Option<Recorder>,
    /// The rules.
    pub deployed: Vec<Deployed>,
}

/// Config and Describe say different things of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    /// The database's name, or the id that Config has where Describe does not show it.
    pub resource: String,
    /// The rule.
    pub rule: Rule,
    /// What Config says.
    pub config: Verdict,
    /// What Describe says: an encryption type, or `absent`.
    pub describe: String,
}

/// The second opinion on a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    /// In one word: see [`Opinion::new`].
    pub verdict: Verdict,
    /// Why Config is blind, or was not read; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What each rule says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<Rule, Verdict>,
    /// Where the two differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disagreements: Vec<Disagreement>,
}

/// The word for a cell where Config and Describe differ.
pub const DISAGREES: &str = "disagrees";

/// A database as Describe has it, and the rule that judges it.
struct Known<'a> {
    rule: Rule,
    resource_id: &'a str,
    name: &'a str,
    encryption: String,
    breaks: bool,
}

impl Opinion {
    /// Config was asked and did not answer.
    pub fn unread(why: String) -> Opinion {
        let (verdict, rules) = (Verdict::Unread, BTreeMap::new());
        Opinion { verdict, why, rules, disagreements: Vec::new() }
    }

    fn blind(why: &str) -> Opinion {
        Opinion { verdict: Verdict::Blind, why: why.to_owned(), ..Opinion::unread(String::new()) }
    }

    /// Puts what Config says beside what Describe says.
    ///
    /// Blind where the recorder is missing, off or failing, or leaves out databases. Else the worst word of
    /// the rules about databases that there is something to judge for; a rule that left one of them out is
    /// not compliant. The snapshots' rule can only make it worse: a scan does not read snapshots.
    pub fn new(facts: &ConfigFacts, sweep: &Sweep, found: &Detection) -> Opinion {
        let recorder = match &facts.recorder {
            None => return Opinion::blind("there is no configuration recorder"),
            Some(r) if !r.recording => return Opinion::blind("the recorder is stopped"),
            Some(r) if !r.failure.is_empty() => {
                return Opinion::blind(&format!("the recorder fails: {}", r.failure));
            }
            Some(recorder) => recorder,
        };
        let known = known(sweep, found);
        let mut opinion = Opinion::unread(String::new());
        let (mut words, mut unseen) = (Vec::new(), Vec::new());
        for rule in Rule::ALL {
            let left_out = rule.judges().iter().filter(|k| !recorder.recorded.sees(k));
            let before = unseen.len();
            unseen.extend(left_out.copied());
            let verdict = match unseen.len() > before {
                true => Verdict::Blind,
                false => said(rule, facts, &known),
            };
            opinion.rules.insert(rule, verdict);
            let there = known.iter().any(|k| k.rule == rule);
            let counts = match verdict {
                Verdict::Blind => rule.about_databases(),
                Verdict::NonCompliant => true,
                Verdict::Compliant | Verdict::NoData | Verdict::NoRule | Verdict::Unread => there,
            };
            words.extend(counts.then_some(verdict));
        }
        if !unseen.is_empty() {
            opinion.why = format!("the recorder leaves out {}", unseen.join(", "));
        }
        let ruled = |rule: &Rule| opinion.rules.get(rule) != Some(&Verdict::NoRule);
        let nothing = match Rule::ALL.iter().filter(|r| r.about_databases()).any(ruled) {
            true => Verdict::Compliant,
            false => Verdict::NoRule,
        };
        opinion.verdict = words.into_iter().min_by_key(Verdict::order).unwrap_or(nothing);
        opinion.disagreements = disagreements(facts, &opinion.rules, sweep, &known);
        opinion
    }

    /// What Config says of one finding.
    pub fn of(&self, facts: &ConfigFacts, found: &Detected) -> Verdict {
        let rule = match found.resource {
            Resource::Instance { .. } => Rule::RdsStorageEncrypted,
            Resource::Cluster { .. } => Rule::RdsClusterEncryptedAtRest,
            Resource::Snapshot { .. } => Rule::RdsSnapshotEncrypted,
        };
        let verdict = self.rules.get(&rule).copied().unwrap_or(self.verdict);
        if !matches!(verdict, Verdict::Compliant | Verdict::NonCompliant | Verdict::NoData) {
            return verdict;
        }
        let said = facts.deployed.iter().filter(|d| d.rule == rule).filter_map(|d| {
            let names = [found.resource.resource_id(), found.resource.name()];
            names.iter().find_map(|id| d.resources.get(*id))
        });
        match said.min() {
            None => Verdict::NoData,
            Some(true) => Verdict::Compliant,
            Some(false) => Verdict::NonCompliant,
        }
    }

    /// The word for the ledger's counts: the verdict, or [`DISAGREES`], which goes before all others: what
    /// differs is to be looked at, though Config be blind to the rest.
    pub fn word(&self) -> &'static str {
        if self.disagreements.is_empty() { self.verdict.as_str() } else { DISAGREES }
    }
}

/// What the rules of one kind say together; there may be an account's own and the organization's.
fn said(rule: Rule, facts: &ConfigFacts, known: &[Known<'_>]) -> Verdict {
    let deployed = || facts.deployed.iter().filter(|d| d.rule == rule);
    let Some(worst) = deployed().map(|d| d.verdict).min_by_key(Verdict::order) else {
        return Verdict::NoRule;
    };
    // A rule can have a scope, and takes its time with what is new.
    let judged = |k: &Known<'_>| {
        deployed().any(|d| [k.resource_id, k.name].iter().any(|id| d.resources.contains_key(*id)))
    };
    let all = known.iter().filter(|k| k.rule == rule).all(judged);
    if worst == Verdict::Compliant && !all { Verdict::NoData } else { worst }
}

fn disagreements(
    facts: &ConfigFacts,
    rules: &BTreeMap<Rule, Verdict>,
    sweep: &Sweep,
    known: &[Known<'_>],
) -> Vec<Disagreement> {
    let skipped: BTreeSet<&str> = sweep
        .instances
        .iter()
        .map(|i| (&i.engine, &i.resource_id, &i.id))
        .chain(sweep.clusters.iter().map(|c| (&c.engine, &c.resource_id, &c.id)))
        .filter(|(engine, _, _)| out_of_scope(engine))
        .flat_map(|(_, resource_id, id)| [resource_id.as_str(), id.as_str()])
        .collect();
    let mut all = Vec::new();
    for deployed in &facts.deployed {
        let (rule, seen) = (deployed.rule, rules.get(&deployed.rule) != Some(&Verdict::Blind));
        if !rule.about_databases() || !seen {
            continue;
        }
        for (id, compliant) in &deployed.resources {
            let describe =
                known.iter().find(|k| k.rule == rule && (k.resource_id == id || k.name == id));
            let (resource, says, differs) = match describe {
                Some(k) => (k.name, k.encryption.clone(), *compliant == k.breaks),
                None => (id.as_str(), "absent".to_owned(), !compliant),
            };
            if differs && !skipped.contains(id.as_str()) {
                let config = if *compliant { Verdict::Compliant } else { Verdict::NonCompliant };
                let resource = resource.to_owned();
                all.push(Disagreement { resource, rule, config, describe: says });
            }
        }
    }
    // Two rules of one kind say the same twice.
    all.sort_by(|a, b| (&a.resource, a.rule, a.config).cmp(&(&b.resource, b.rule, b.config)));
    all.dedup();
    all
}

/// The databases in scope as Describe has them.
fn known<'a>(sweep: &'a Sweep, found: &Detection) -> Vec<Known<'a>> {
    let mut breaking = BTreeSet::new();
    for detected in &found.findings {
        breaking.insert(detected.resource.resource_id());
        // Config judges members by themselves; a cluster's encryption is its members'.
        if let Resource::Cluster { members, .. } = &detected.resource {
            breaking.extend(members.iter().map(|m| m.resource_id.as_str()));
        }
    }
    let instances = sweep.instances.iter().filter(|i| !out_of_scope(&i.engine)).map(|i| {
        let cluster = i.cluster.as_ref().and_then(|c| sweep.cluster(c));
        Known {
            rule: Rule::RdsStorageEncrypted,
            resource_id: &i.resource_id,
            name: &i.id,
            encryption: cluster.map_or(&i.encryption, |c| &c.encryption).to_string(),
            breaks: breaking.contains(i.resource_id.as_str()),
        }
    });
    let clusters = sweep.clusters.iter().filter(|c| !out_of_scope(&c.engine)).map(|c| Known {
        rule: Rule::RdsClusterEncryptedAtRest,
        resource_id: &c.resource_id,
        name: &c.id,
        encryption: c.encryption.to_string(),
        breaks: breaking.contains(c.resource_id.as_str()),
    });
    instances.chain(clusters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control;
    use crate::controls::rds_encryption::RdsEncryption;
    use crate::rds::Encryption;
    use crate::remediation::sample;

    fn sweep() -> Sweep {
        let mut safe = sample::instance("safe");
        (safe.encryption, safe.resource_id) = (Encryption::SseKms, "db-SAFE".into());
        let mut orders = sample::instance("orders");
        orders.resource_id = "db-ORDERS".into();
        let mut member = sample::member("m1", "ledger");
        member.resource_id = "db-M1".into();
        let mut cluster = sample::cluster("ledger", &["m1"]);
        cluster.resource_id = "cluster-LEDGER".into();
        let (instances, clusters) = (vec![orders, safe, member], vec![cluster]);
        Sweep { instances, clusters, ..Sweep::default() }
    }

    fn recorder() -> Option<Recorder> {
        let (recording, failure) = (true, String::new());
        Some(Recorder { recording, failure, recorded: Recorded::All })
    }

    fn says(rule: Rule, resources: &[(&str, bool)]) -> Deployed {
        let all: BTreeMap<_, _> = resources.iter().map(|(id, c)| ((*id).to_owned(), *c)).collect();
        let verdict = match (all.is_empty(), all.values().all(|c| *c)) {
            (true, _) => Verdict::NoData,
            (_, true) => Verdict::Compliant,
            (_, false) => Verdict::NonCompliant,
        };
        Deployed { rule, verdict, resources: all }
    }

    fn check(facts: &ConfigFacts, sweep: &Sweep, want: &str) -> Opinion {
        let found = RdsEncryption.detect(sweep, false);
        let opinion = Opinion::new(facts, sweep, &found);
        let mut said = vec![opinion.word().to_owned()];
        said.extend((!opinion.why.is_empty()).then(|| opinion.why.clone()));
        said.extend(opinion.disagreements.iter().map(|d| {
            format!("{} {} {}/{}", d.rule.as_str(), d.resource, d.config.as_str(), d.describe)
        }));
        for detected in &found.findings {
            let verdict = opinion.of(facts, detected);
            said.push(format!("{}={}", detected.resource.name(), verdict.as_str()));
        }
        assert_eq!(said.join("; "), want);
        opinion
    }

    #[test]
    fn blind_is_never_compliant() {
        let all_good = says(Rule::RdsStorageEncrypted, &[("db-ORDERS", true)]);
        let facts = |recorder| ConfigFacts { recorder, deployed: vec![all_good.clone()] };
        let blind = "ledger=blind; orders=blind";
        let want = format!("blind; there is no configuration recorder; {blind}");
        check(&facts(None), &sweep(), &want);
        let off = Recorder { recording: false, ..recorder().unwrap() };
        check(&facts(Some(off)), &sweep(), &format!("blind; the recorder is stopped; {blind}"));
        let failing = Recorder { failure: "AccessDenied".into(), ..recorder().unwrap() };
        let want = format!("blind; the recorder fails: AccessDenied; {blind}");
        check(&facts(Some(failing)), &sweep(), &want);
        for recorded in [
            Recorded::Only(vec!["AWS::RDS::DBCluster".into()]),
            Recorded::Except(vec!["AWS::RDS::DBInstance".into()]),
        ] {
            let partly = Recorder { recorded, ..recorder().unwrap() };
            let want =
                "blind; the recorder leaves out AWS::RDS::DBInstance; ledger=no-rule; orders=blind";
            let want = match partly.recorded {
                Recorded::Only(_) => want.replace(
                    "DBInstance;",
                    "DBInstance, AWS::RDS::DBSnapshot, AWS::RDS::DBClusterSnapshot;",
                ),
                _ => want.to_owned(),
            };
            check(&facts(Some(partly)), &sweep(), &want);
        }
    }

    #[test]
    fn describe_decides_and_what_differs_is_shown() {
        let facts = |deployed| ConfigFacts { recorder: recorder(), deployed };
        check(&facts(vec![]), &sweep(), "no-rule; ledger=no-rule; orders=no-rule");
        let agree = vec![
            says(
                Rule::RdsStorageEncrypted,
                &[("db-ORDERS", false), ("db-SAFE", true), ("db-M1", false)],
            ),
            says(Rule::RdsClusterEncryptedAtRest, &[("cluster-LEDGER", false)]),
        ];
        let want = "non-compliant; ledger=non-compliant; orders=non-compliant";
        check(&facts(agree.clone()), &sweep(), want);
        check(&facts([agree.clone(), agree].concat()), &sweep(), want);
        let lies = vec![says(
            Rule::RdsStorageEncrypted,
            &[("db-ORDERS", true), ("db-SAFE", false), ("db-GONE", false), ("db-OLD", true)],
        )];
        check(
            &facts(lies),
            &sweep(),
            "disagrees; rds-storage-encrypted db-GONE non-compliant/absent; rds-storage-encrypted orders compliant/none; rds-storage-encrypted safe non-compliant/sse-kms; ledger=no-rule; orders=compliant",
        );
        // An AWS-owned key: encrypted for Describe, not for the rule.
        let mut owned = sweep();
        owned.clusters[0].encryption = Encryption::SseRds;
        let said = vec![
            says(Rule::RdsStorageEncrypted, &[("db-ORDERS", false), ("db-M1", false)]),
            says(Rule::RdsClusterEncryptedAtRest, &[("ledger", false)]),
        ];
        check(
            &facts(said),
            &owned,
            "disagrees; rds-cluster-encrypted-at-rest ledger non-compliant/sse-rds; rds-storage-encrypted m1 non-compliant/sse-rds; orders=non-compliant",
        );
    }

    #[test]
    fn what_was_not_judged_is_not_compliant() {
        let quiet = Deployed {
            rule: Rule::RdsStorageEncrypted,
            verdict: Verdict::NoData,
            resources: BTreeMap::new(),
        };
        let snapshots = says(Rule::RdsSnapshotEncrypted, &[("s", true)]);
        let facts = |deployed| ConfigFacts { recorder: recorder(), deployed };
        let both = facts(vec![quiet.clone(), snapshots.clone()]);
        check(&both, &sweep(), "no-rule; ledger=no-rule; orders=no-data");
        check(&facts(vec![snapshots.clone()]), &sweep(), "no-rule; ledger=no-rule; orders=no-rule");
        // Without clusters, and the instances' rule there, nothing is missing but its word.
        let mut lonely = sweep();
        lonely.clusters.clear();
        lonely.instances.pop();
        check(&both, &lonely, "no-data; orders=no-data");
        // A rule with a scope leaves one out, and another rule of the kind has said nothing.
        let scoped = says(Rule::RdsStorageEncrypted, &[("db-SAFE", true)]);
        check(&facts(vec![scoped.clone()]), &lonely, "no-data; orders=no-data");
        lonely.instances.remove(0);
        check(&facts(vec![scoped.clone()]), &lonely, "compliant");
        check(&facts(vec![scoped.clone(), quiet.clone()]), &lonely, "no-data");
        let unsafe_snapshot = says(Rule::RdsSnapshotEncrypted, &[("s", false)]);
        check(&facts(vec![scoped, unsafe_snapshot]), &lonely, "non-compliant");
        // A cell without databases: there is nothing to judge, unless nobody would.
        check(&facts(vec![quiet]), &Sweep::default(), "compliant");
        check(&facts(vec![snapshots]), &Sweep::default(), "no-rule");
        for rule in Rule::ALL {
            assert_eq!(Rule::of(rule.identifier()), Some(rule));
        }
    }
}
