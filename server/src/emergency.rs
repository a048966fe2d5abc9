//! Takes a policy off everything that it is attached to, with nothing but AWS: no store, no server, no plan.
//!
//! For the moment in which a policy locks people out. Detaching is always allowed, and it is all that this does.

use ringfence_aws::Cloud;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::id::NodeId;
use ringfence_domain::time::Span;
use std::io::Write;

/// AWS's own, which allows everything. Where it is taken off alone, nothing is allowed any more (Organizations guide,
/// "Strategies for using SCPs").
const FULL_ACCESS: &str = "p-FullAWSAccess";

/// So often one target is tried while others change the organization, and so often it is read back.
const TRIES: u32 = 10;

/// Detaches `policy` from all its targets, or from `only` these; says each on `out`. With `dry` it says and does not.
///
/// # Errors
/// What AWS refused, or what is still attached when all is read back; it went on with the others before.
pub async fn detach(
    cloud: &Cloud,
    policy: &str,
    only: &[NodeId],
    dry: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        policy != FULL_ACCESS,
        "{FULL_ACCESS} is what allows everything: detaching it locks out all that is under its targets"
    );
    let caller = cloud.caller().await?;
    let Some(attached) = cloud.targets_if_there(policy).await? else {
        anyhow::bail!(
            "there is no policy {policy} in this organization, so nothing was detached: `aws organizations list-policies --filter SERVICE_CONTROL_POLICY` names those that there are"
        );
    };
    // Said again after a part of it was done, it does the rest.
    for strange in only.iter().filter(|t| !attached.contains(*t)) {
        writeln!(out, "  not attached to {strange}")?;
    }
    // The root first, then OUs: what holds most accounts.
    let wanted = |t: &&NodeId| only.is_empty() || only.contains(*t);
    let targets: Vec<&NodeId> = attached.iter().rev().filter(wanted).collect();
    writeln!(out, "{policy} is attached to {} targets, says {}", attached.len(), caller.arn)?;
    if dry {
        for target in targets {
            writeln!(out, "  would be detached from {target}")?;
        }
        return Ok(());
    }
    let mut refused = Vec::new();
    for target in &targets {
        match detach_one(cloud, policy, target).await {
            Ok(()) => writeln!(out, "  detached from {target}")?,
            Err(error) => {
                writeln!(out, "  NOT detached from {target}: {error}{}", advice(&error))?;
                refused.push(*target);
            }
        }
        out.flush()?;
    }
    let left = read_back(cloud, policy, &targets, refused.len()).await?;
    anyhow::ensure!(
        left.is_empty(),
        "{policy} is still attached to {}",
        left.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    );
    writeln!(out, "read back: it is attached to none of these any more")?;
    writeln!(
        out,
        "a rollout that is under way, or with rollout.on_drift = \"reattach\", may attach it again: `ringfence rollout abort` it as soon as its server answers"
    )?;
    Ok(())
}

/// Others may be changing the organization: AWS says so, and does nothing (Organizations API reference,
/// ConcurrentModificationException). Detaching twice is no harm.
async fn detach_one(cloud: &Cloud, policy: &str, target: &NodeId) -> Result<(), CloudError> {
    for _ in 1..TRIES {
        match cloud.detach_policy(policy, target).await {
            Err(e) if matches!(e.class, ErrorClass::Conflict | ErrorClass::Unknown) => rest().await,
            answer => return answer,
        }
    }
    cloud.detach_policy(policy, target).await
}

/// Which of these it is still attached to; reads may be older than the last change.
async fn read_back(
    cloud: &Cloud,
    policy: &str,
    targets: &[&NodeId],
    refused: usize,
) -> Result<Vec<NodeId>, CloudError> {
    let mut left = Vec::new();
    for _ in 0..TRIES {
        let attached = cloud.targets_of(policy).await?;
        left = attached.into_iter().filter(|t| targets.contains(&t)).collect();
        if left.len() <= refused {
            break;
        }
        rest().await;
    }
    Ok(left)
}

fn advice(error: &CloudError) -> &'static str {
    // The one constraint that a detach can violate: MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED (API reference,
    // DetachPolicy); AWS tells that reason apart from the message.
    match error.code == "ConstraintViolationException" {
        true => {
            " If it is the only one there, attach p-FullAWSAccess first (`aws organizations attach-policy`)"
        }
        false => "",
    }
}

#[expect(clippy::disallowed_methods, reason = "a retry loop of its own, for there is no server")]
async fn rest() {
    tokio::time::sleep(Span::seconds(2).to_duration()).await;
}
