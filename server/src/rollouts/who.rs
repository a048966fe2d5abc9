//! Who changed what a rollout attached, from CloudTrail of the account that Organizations is called from.

use crate::app::{App, now};
use ringfence_domain::history::{ACTS, Act};
use ringfence_domain::id::{AccountId, NodeId};
use ringfence_domain::org::Node;
use ringfence_domain::rollout::{Rollout, tools};
use ringfence_domain::time::{Span, Time};
use std::collections::BTreeSet;

/// How long CloudTrail is waited for: what happened is said without it, too.
const ASKED_FOR: Span = Span::seconds(20);

/// What was done to the organization from our own account since then; or why nobody can say.
pub(super) async fn acts(app: &App, names: &[&str], since: Time) -> Result<Vec<Act>, String> {
    let asked = app.cloud.acts(names, (since, now()));
    match tokio::time::timeout(ASKED_FOR.to_duration(), asked).await {
        Ok(acts) => acts.map_err(|error| error.to_string()),
        Err(_) => Err(format!("CloudTrail did not answer within {ASKED_FOR}")),
    }
}

/// One line for each lost target, and one for a policy that was edited; or why nobody can say. Empty where nothing of it
/// is known to be somebody's act.
pub(super) async fn did_it(app: &App, rollout: &Rollout, edited: bool) -> Vec<String> {
    let policy = rollout.policy_id.clone().unwrap_or_default();
    let lost = |t: &&NodeId| rollout.attachments.get(*t).is_some_and(|a| a.lost_at.is_some());
    let lost: Vec<&NodeId> = rollout.body.targets().filter(lost).collect();
    if policy.is_empty() || (lost.is_empty() && !edited) {
        return Vec::new();
    }
    let since = rollout.attachments.values().filter_map(|a| a.attached_at).min();
    let since = since.unwrap_or(rollout.body.created_at);
    match acts(app, ACTS, since).await {
        Ok(mut acts) => {
            acts.retain(|act| act.subject == policy);
            said(&acts, rollout, &lost, edited)
        }
        Err(why) => vec![format!("who did it cannot be said: {why}")],
    }
}

/// Who moved these accounts; or that nobody can say. Made accounts were moved by nobody.
pub(super) async fn moved(app: &App, accounts: &[AccountId], rollout: &Rollout) -> Vec<String> {
    let of = |account: &AccountId, act: &Act| act.subject == account.as_str();
    let line = |account: &AccountId, act: &Act| {
        format!("{account} was moved to {} at {} by {}", act.target, act.at, act.who)
    };
    newest(app, rollout, "MoveAccount", accounts, of, line).await
}

/// Who made these OUs; or that nobody can say.
pub(super) async fn made(app: &App, ous: &[&Node], rollout: &Rollout) -> Vec<String> {
    let of = |ou: &&Node, act: &Act| {
        let parent = ou.parent.as_ref().map(NodeId::as_str).unwrap_or_default();
        act.subject == ou.name && act.target == parent
    };
    let line = |ou: &&Node, act: &Act| format!("{} was made at {} by {}", ou.id, act.at, act.who);
    newest(app, rollout, "CreateOrganizationalUnit", ous, of, line).await
}

/// A line for each of these that somebody did this to since the rollout was planned: of the newest act.
async fn newest<T>(
    app: &App,
    rollout: &Rollout,
    name: &str,
    all: &[T],
    of: impl Fn(&T, &Act) -> bool,
    line: impl Fn(&T, &Act) -> String,
) -> Vec<String> {
    let acts = match acts(app, &[name], rollout.body.created_at).await {
        Ok(acts) => acts,
        Err(why) => return vec![format!("who did it cannot be said: {why}")],
    };
    let newest = |one: &T| acts.iter().filter(|act| of(one, act)).max_by_key(|act| act.at);
    all.iter().filter_map(|one| Some(line(one, newest(one)?))).collect()
}

/// The newest act on each of them.
fn said(acts: &[Act], rollout: &Rollout, lost: &[&NodeId], edited: bool) -> Vec<String> {
    let since = |target: &NodeId| {
        rollout.attachments.get(target).and_then(|a| a.attached_at).unwrap_or(Time(0))
    };
    let on = |target: &NodeId, act: &&Act| {
        // CloudTrail counts whole seconds.
        let after = act.at.plus(Span::seconds(1)) > since(target);
        after && act.name == "DetachPolicy" && act.target == target.as_str()
    };
    let of_policy = |act: &&Act| act.name != "DetachPolicy";
    let (mut found, mut tools) = (BTreeSet::new(), BTreeSet::new());
    let mut unseen = false;
    for target in lost {
        match acts.iter().filter(|act| on(target, act)).max_by_key(|act| act.at) {
            Some(act) => {
                tools.extend(tools::of_principal(&act.who));
                found.insert(format!("{} on {target} at {} by {}", act.name, act.at, act.who));
            }
            None => unseen = true,
        }
    }
    if edited {
        match acts.iter().filter(of_policy).max_by_key(|act| act.at) {
            Some(act) => {
                tools.extend(tools::of_principal(&act.who));
                found.insert(format!("{} at {} by {}", act.name, act.at, act.who));
            }
            None => unseen = true,
        }
    }
    if unseen {
        found.insert(
            "CloudTrail of this account does not show who did it: it is minutes late, and calls from another account are there"
                .to_owned(),
        );
    }
    let named = tools.iter().map(|tool| format!("that is {}: {}", tool.name, tool.advice));
    found.iter().cloned().chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfence_domain::rollout::{Attachment, Body, Stage};

    #[test]
    fn the_newest_act_since_it_was_attached_is_named() {
        let target: NodeId = "111122223333".parse().expect("an id");
        let stage = Stage { targets: vec![target.clone()], ..Stage::default() };
        let mut rollout = Rollout::new(Body {
            id: "ro-1".into(),
            author: "ann".into(),
            policy_name: "x".into(),
            content: "{}".into(),
            stages: vec![stage],
            ..Body::default()
        });
        let attached = Attachment { attached_at: Some(Time(10_500)), ..Attachment::default() };
        rollout.attachments.insert(target.clone(), attached);
        let act = |at: i64, name: &str, who: &str| Act {
            at: Time(at),
            name: name.into(),
            who: who.into(),
            subject: String::new(),
            target: if name == "DetachPolicy" { target.to_string() } else { String::new() },
        };
        let acts = [act(5_000, "DetachPolicy", "us, before"), act(20_000, "DetachPolicy", "eve")];
        let lines = said(&acts, &rollout, &[&target], false);
        assert!(lines.len() == 1 && lines[0].ends_with("by eve"), "{lines:?}");
        let early = said(&acts[..1], &rollout, &[&target], false);
        assert!(early[0].contains("does not show who"), "{early:?}");
        let edited = said(&[act(9, "UpdatePolicy", "bob")], &rollout, &[], true);
        assert!(edited[0].starts_with("UpdatePolicy at") && edited[0].ends_with("by bob"));
    }
}
