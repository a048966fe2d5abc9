//! What will be done, in words: what people agree to.

use crate::far;
use crate::finding::Resource;
use crate::rds::Cluster;
use crate::remediation::{Quiesce, Swap, held_name, twin_name};

/// The steps for one database.
pub(super) fn of(
    resource: &Resource,
    remediation: &str,
    swap: Option<&Swap>,
    made: &[String],
) -> Vec<String> {
    let name = resource.name();
    let mut steps = Vec::new();
    if let Some(swap) = swap.filter(|s| s.green.is_some()) {
        return green(resource, remediation, swap);
    }
    if let Some(swap) = swap {
        steps.extend(before(name, swap));
    }
    let mut made_so = twin(resource, remediation, swap, made);
    if swap.is_some_and(|s| s.quiesce == Quiesce::Stop) {
        // As soon as its snapshot is there.
        let until = "until its cutover, and ask CloudWatch what it did until it was down";
        made_so.insert(1, format!("stop {name} {until}"));
    }
    steps.extend(made_so);
    if let Some(swap) = swap {
        steps.extend(after(resource, swap, made));
    }
    steps.iter().map(|s| far::said_in(s)).collect()
}

/// The steps where AWS makes the twin and swaps the names.
fn green(resource: &Resource, remediation: &str, swap: &Swap) -> Vec<String> {
    let name = resource.name();
    let mut all = vec![name];
    all.extend(resource.dependents().iter().map(|d| d.id.as_str()));
    let (what, all) = (format!("ringfence-{remediation}"), all.join(", "));
    let when = match swap.auto {
        true => "at once",
        false => "when a person says so (`ringfence remediation cutover`)",
    };
    let mut steps: Vec<String> = make_group(swap).into_iter().collect();
    steps.extend([
        format!("make the blue/green deployment {what} of {all}: AWS makes a green environment, encrypted under the key, and keeps it in step"),
        format!("compare each of it with its original field by field, and mend what can be; if AWS did not encrypt one, delete {what} with its green environment"),
        format!("{when}: compare again, and switch over: AWS stops all writes, waits until the green environment has everything, and swaps the names; {name} is then most likely called {name}-old1"),
        "compare again; delete the deployment, whose databases stay".to_owned(),
        format!("keep the original: isolated in {}, protected from deletion, stopped where AWS lets it be, until it is decommissioned on an approval of its own", swap.group()),
    ]);
    steps
}

/// The isolation group, where it is made.
fn make_group(swap: &Swap) -> Option<String> {
    let new = swap.make.as_ref()?;
    Some(format!(
        "make security group {} in {} unless it is there by then, without a rule, for all swaps of that VPC; it stays",
        new.name, new.vpc
    ))
}

fn before(name: &str, swap: &Swap) -> Vec<String> {
    let group = swap.group();
    let mut steps: Vec<String> = make_group(swap).into_iter().collect();
    if swap.quiesce == Quiesce::Confirm {
        steps.push(format!(
            "wait until somebody says that nobody writes to {name} any more (`ringfence remediation confirm`)"
        ));
    }
    if swap.quiesce.isolates() {
        steps.push(format!(
            "cut {name} off: put it into {group}, and reboot it if connections outlive that"
        ));
    }
    let long = match swap.quiesce {
        Quiesce::Confirm => "for two of remediation.metric_period after that",
        Quiesce::Observe | Quiesce::Isolate | Quiesce::Stop => "for remediation.quiet_for",
    };
    steps.push(format!(
        "wait until CloudWatch shows no connection to {name} and next to no writes {long}"
    ));
    steps
}

fn twin(
    resource: &Resource,
    remediation: &str,
    swap: Option<&Swap>,
    made: &[String],
) -> Vec<String> {
    let into =
        swap.map_or(String::new(), |s| format!(" but its security groups: into {}", s.group()));
    let snapshot = format!("ringfence-{remediation}-plain");
    let copy = format!("ringfence-{remediation}-enc");
    let twin = &made[0];
    match resource {
        Resource::Instance { instance, replicas } => {
            let mut steps = vec![
                format!("snapshot {} as {snapshot}", instance.id),
                format!("copy it, encrypted under the key, to {copy}"),
                format!("restore it as {twin}, with every setting of {}{into}", instance.id),
            ];
            if !replicas.is_empty() {
                steps.push(format!(
                    "create its read replicas, each after its source: {}",
                    made[1..].join(", ")
                ));
            }
            steps.push(format!(
                "compare {twin} with {} field by field; set deletion protection last",
                instance.id
            ));
            steps.push(format!("delete {copy} and {snapshot}"));
            steps
        }
        Resource::Cluster { cluster, .. } => {
            let mut steps = vec![
                format!("snapshot cluster {} as {snapshot}", cluster.id),
                format!(
                    "restore it as {twin} under the key, at engine version {}, with every setting{into}",
                    cluster.engine_version
                ),
                "check that it is encrypted under the key before any member is made".to_owned(),
                format!("create its members, writer first: {}", made[1..].join(", ")),
                format!(
                    "compare {twin} with {} field by field; set deletion protection last",
                    cluster.id
                ),
            ];
            steps.extend(endpoints(cluster, swap.is_none()));
            steps.push(format!("delete {snapshot}"));
            steps
        }
        Resource::Snapshot { snapshot: old, .. } => vec![
            format!("copy {}, encrypted under the key, to {twin}, with its tags", old.id),
            format!("compare {twin} with {} field by field", old.id),
            format!("keep {} until it is decommissioned on an approval of its own", old.id),
        ],
    }
}

/// The custom endpoints of a twin that stands beside its original.
fn endpoints(cluster: &Cluster, beside: bool) -> Option<String> {
    let names = cluster.endpoints.iter().map(|e| twin_name(&e.id, &cluster.resource_id));
    let names: Vec<String> = names.collect();
    (beside && !names.is_empty())
        .then(|| format!("make its custom endpoints: {}", names.join(", ")))
}

fn after(resource: &Resource, swap: &Swap, made: &[String]) -> Vec<String> {
    let name = resource.name();
    let group = swap.group();
    let when = match swap.auto {
        true => "at once",
        false => "when a person says so (`ringfence remediation cutover`)",
    };
    let mut steps = Vec::new();
    if swap.quiesce == Quiesce::Stop {
        steps.push(format!("{when}: start {name} again, which stays cut off"));
    }
    let when = if swap.quiesce == Quiesce::Stop { "then" } else { when };
    steps.push(format!(
        "{when}: prove by CloudWatch that nobody used {name} since before the snapshot, nor the twin at all; put it into {group}, and prove it again"
    ));
    steps.push("if somebody did: give it its groups back, delete the twin, and begin again, three times at most".into());
    let mut pairs = vec![(name, resource.resource_id(), made[0].clone())];
    let dependents = resource.dependents().iter();
    pairs.extend(
        dependents
            .map(|d| (d.id.as_str(), d.resource_id.as_str(), twin_name(&d.id, &d.resource_id))),
    );
    for (own, resource_id, twin) in pairs {
        let held = held_name(own, resource_id);
        steps.push(format!("rename {own} to {held}, and {twin} to {own}"));
    }
    if let Resource::Cluster { cluster, .. } = resource
        && !cluster.endpoints.is_empty()
    {
        let names: Vec<&str> = cluster.endpoints.iter().map(|e| e.id.as_str()).collect();
        steps.push(format!(
            "move its custom endpoints: each is deleted on the one cluster and made on the other: {}",
            names.join(", ")
        ));
    }
    steps.push(format!(
        "put {name} (encrypted now) into its own security groups, and compare again"
    ));
    steps.push(format!(
        "keep {}: isolated, protected from deletion, stopped where AWS lets it be, until it is decommissioned on an approval of its own",
        held_name(name, resource.resource_id())
    ));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::NewGroup;
    use crate::remediation::sample;

    #[test]
    fn a_group_is_made_first_and_an_original_is_stopped_after_its_snapshot() {
        let resource =
            Resource::Instance { instance: sample::instance("orders"), replicas: Vec::new() };
        let make = NewGroup { vpc: "vpc-1".into(), name: "nobody".into() };
        let swap = Swap { make: Some(make), quiesce: Quiesce::Stop, ..Swap::default() };
        let steps = of(&resource, "rem-1", Some(&swap), &["encrypted-orders".to_owned()]);
        let at = |text: &str| {
            let found = steps.iter().position(|s| s.starts_with(text));
            found.unwrap_or_else(|| panic!("{text}: {steps:#?}"))
        };
        assert_eq!(at("make security group nobody in vpc-1"), 0);
        assert_eq!(at("cut orders off: put it into nobody"), 1);
        assert_eq!(at("stop orders until its cutover"), at("snapshot orders") + 1);
        assert!(at("when a person says so") > at("compare encrypted-orders"), "{steps:#?}");
        assert!(steps[at("when a person says so")].contains("start orders again"), "{steps:#?}");
    }
}
