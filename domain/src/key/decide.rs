//! What is to be done next for one cell's key: a table over what was read of it.

use super::job::{ATTEMPTS_MAX, Act, JOB_MAX, Job};
use super::plan::Change;
use super::{Key, KeyFacts, policy};
use crate::time::{Span, Time};

/// What was read of a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The key behind the alias, with its rotation and policy; `None` if there is none.
    pub behind: Option<Key>,
    /// Where there is none behind the alias: keys that bear our tags with it and with this work's plans.
    pub ours: Vec<Key>,
    /// Keys that do not let us see their tags.
    pub unread: Vec<String>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask AWS for one thing.
    Act(Act),
    /// Look again later.
    Wait(String),
    /// All is as planned.
    Finish,
    /// A person must look.
    AskHuman(String),
}

/// What to do next, given what was read.
pub fn decide(job: &Job, seen: &Observed, now: Time, expect_for: Span) -> Step {
    if job.is_late(now) {
        return Step::AskHuman(format!("not done within {JOB_MAX}: {}", job.why));
    }
    let planned = job.item.change;
    match (planned, &seen.behind) {
        (Change::Create, Some(key)) => match job.made.as_ref() == Some(&key.arn) {
            true => mend(job, key, true, now, expect_for),
            // Whoever made this one, its policy is not what people agreed to.
            false => Step::AskHuman(format!(
                "{} points at {} now, which is not from this plan: plan again",
                job.alias, key.arn
            )),
        },
        (Change::Create, None) => create(job, seen, now, expect_for),
        (Change::Mend, Some(key)) if Some(&key.arn) == job.item.key_arn.as_ref() => {
            mend(job, key, false, now, expect_for)
        }
        (Change::Mend, Some(key)) => Step::AskHuman(format!(
            "{} points at {} now, which is not the key that was planned for: plan again",
            job.alias, key.arn
        )),
        (Change::Mend, None) => Step::AskHuman(format!("{} is gone: plan again", job.alias)),
        (Change::Nothing | Change::Blocked, _) => Step::Finish,
    }
}

/// There is no alias yet.
fn create(job: &Job, seen: &Observed, now: Time, expect_for: Span) -> Step {
    let made = |key: &&Key| job.made.as_ref() == Some(&key.arn);
    let usable = || seen.ours.iter().filter(|k| trouble(job, k).is_none());
    let ours = seen.ours.iter().find(made).or_else(|| usable().min_by_key(|k| &k.arn));
    match (ours.or(seen.ours.first()), &job.made) {
        (Some(key), _) => complete(job, key, now, expect_for),
        (None, Some(made)) if job.is_settling(now, expect_for) => {
            Step::Wait(format!("waiting for {made} to show"))
        }
        (None, Some(made)) => Step::AskHuman(format!("{made} was made, and does not show")),
        (None, None) if job.is_settling(now, expect_for) => {
            Step::Wait("waiting for the key to show that was asked for".to_owned())
        }
        // It may be among those, and then it would be the second.
        (None, None) if job.intents.contains_key("create") && !seen.unread.is_empty() => {
            Step::AskHuman(format!(
                "a key was asked for, and whether it was made cannot be told: {} does not let us see its tags (kms:ListResourceTags)",
                seen.unread.join(", ")
            ))
        }
        (None, None) => ask(job, Act::Create, now, expect_for),
    }
}

/// Why RDS could not use a key.
fn trouble(job: &Job, key: &Key) -> Option<String> {
    let facts = KeyFacts { alias: job.alias.clone(), answer: Ok(key.clone()) };
    facts.trouble(&job.item.account, job.item.region.as_str())
}

/// The key that we made: its policy is looked at, it is rotated, and only then the alias points at it.
fn complete(job: &Job, key: &Key, now: Time, expect_for: Span) -> Step {
    let cannot = |why: &str| format!("the key that we made cannot be used: {why}");
    if let Some(why) = trouble(job, key) {
        return Step::AskHuman(cannot(&why));
    }
    let settling = job.is_settling(now, expect_for);
    match (&key.policy, &key.rotation) {
        (Some(Ok(facts)), _) if facts.lets != policy::Lets::Named => Step::AskHuman(cannot(
            &format!("the policy of {} is not the one that it was made with", key.arn),
        )),
        (Some(Ok(_)), Some(Ok(true))) => {
            ask(job, Act::Alias { key: key.arn.clone() }, now, expect_for)
        }
        (Some(Ok(_)), Some(Ok(false))) => {
            ask(job, Act::Rotate { key: key.arn.clone() }, now, expect_for)
        }
        (Some(Err(why)), _) | (_, Some(Err(why))) if !settling => Step::AskHuman(cannot(why)),
        _ => Step::Wait(format!("waiting to see the policy and the rotation of {}", key.arn)),
    }
}

/// The key is there, behind the alias.
fn mend(job: &Job, key: &Key, new: bool, now: Time, expect_for: Span) -> Step {
    if let Some(why) = trouble(job, key) {
        return Step::AskHuman(why);
    }
    let (rotates, policy) = match (&key.rotation, &key.policy) {
        (Some(Ok(rotates)), Some(Ok(policy))) => (*rotates, policy),
        _ if job.is_settling(now, expect_for) => {
            return Step::Wait(format!(
                "waiting to see the policy and the rotation of {}",
                key.arn
            ));
        }
        (Some(Err(why)), _) | (_, Some(Err(why))) => {
            return Step::AskHuman(format!("its rotation or policy could not be read: {why}"));
        }
        _ => return Step::AskHuman("its rotation and policy could not be read".to_owned()),
    };
    // What stops it is found before anything is changed.
    let admit = !new && job.item.statements.intersection(&policy.lacks).next().is_some();
    if let policy::Lets::Denied(why) = &policy.lets {
        return Step::AskHuman(why.clone());
    }
    if admit && policy.hash != job.item.policy_hash {
        return Step::AskHuman(format!(
            "the policy of {} was changed since this was planned: plan again",
            key.arn
        ));
    }
    if job.item.rotation && !rotates {
        return ask(job, Act::Rotate { key: key.arn.clone() }, now, expect_for);
    }
    if !admit {
        return Step::Finish;
    }
    let act = Act::PutPolicy { key: key.arn.clone(), over: policy.hash.clone() };
    ask(job, act, now, expect_for)
}

/// Asks for something, unless it was asked for just now and may still show.
fn ask(job: &Job, act: Act, now: Time, expect_for: Span) -> Step {
    let Some(intent) = job.intents.get(act.key()) else {
        return Step::Act(act);
    };
    if now.since(intent.at) < expect_for {
        return Step::Wait(format!("waiting for it to show: {}", act.title()));
    }
    if intent.attempts >= ATTEMPTS_MAX {
        return Step::AskHuman(format!(
            "asked for {ATTEMPTS_MAX} times without effect: {}",
            act.title()
        ));
    }
    Step::Act(act)
}

#[cfg(test)]
mod tests {
    use super::super::job::State;
    use super::super::plan::{Body, KeyPlan};
    use super::super::policy::{Facts, Lets};
    use super::super::{Wanted, sample};
    use super::*;
    use crate::ledger::{Cell, CellState, RegionsSource};
    use std::collections::BTreeSet;

    const SHOWS: Span = Span::seconds(60);
    const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1";

    fn key(arn: &str, rotates: bool, lets: Lets) -> Key {
        let lacks: &[&str] = match lets {
            Lets::Named | Lets::Denied(_) => &[],
            Lets::ByIam | Lets::No(_) | Lets::Unclear(_) => &["RingfenceDescribe"],
        };
        Key { arn: arn.into(), ..sample(rotates, lets, lacks) }
    }

    fn job(answer: Result<Key, String>) -> Job {
        let account = "111122223333".parse().unwrap();
        let facts = Some(KeyFacts { alias: "alias/k".into(), answer });
        let pending = Cell::pending(account, "eu-west-1", RegionsSource::Account);
        let cell = Cell { state: CellState::Clean, key: facts, ..pending };
        let wanted = Wanted { alias: "alias/k".into(), central: None };
        let item = super::super::plan::item(&cell, "eu-west-1".parse().unwrap(), &wanted);
        let plan = KeyPlan::new(Body {
            id: "kp-1".into(),
            author: "ann".into(),
            created_at: Time(0),
            alias: "alias/k".into(),
            role: "R".into(),
            items: vec![item],
            left_out: 0,
        });
        Job::new(&plan, &plan.body.items[0], Time(0))
    }

    fn step(job: &Job, seen: &Observed, at: i64) -> String {
        match decide(job, seen, Time(at * 1_000), SHOWS) {
            Step::Act(act) => act.key().to_owned(),
            Step::Wait(_) => "wait".into(),
            Step::Finish => "finish".into(),
            Step::AskHuman(why) => format!("ask: {why}"),
        }
    }

    fn is(step: &str, want: &str) {
        assert!(step.starts_with(want), "{step}, not {want}");
    }

    #[test]
    fn a_key_is_made_once_whatever_is_lost_on_the_way() {
        let mut job = job(Err("NotFoundException".into()));
        let ours = |rotates| Observed {
            ours: vec![key(KEY, rotates, Lets::Named)],
            ..Observed::default()
        };
        let none = Observed::default();
        is(&step(&job, &none, 0), "create");
        job.intend(&Act::Create, Time(0));
        is(&step(&job, &none, 61), "wait");
        is(&step(&job, &ours(false), 1), "rotate");
        is(&step(&job, &none, 601), "create");
        let blind = Observed { unread: vec!["other".into()], ..Observed::default() };
        is(&step(&job, &blind, 601), "ask: a key was asked for");
        job.made = Some(KEY.into());
        is(&step(&job, &none, 61), "wait");
        is(&step(&job, &none, 601), "ask: ");
        job.intend(&Act::Rotate { key: KEY.into() }, Time(1_000));
        is(&step(&job, &ours(false), 2), "wait");
        is(&step(&job, &ours(true), 2), "alias");
        job.intend(&Act::Alias { key: KEY.into() }, Time(2_000));
        is(&step(&job, &ours(true), 3), "wait");
        let done = Observed { behind: Some(key(KEY, true, Lets::Named)), ..Observed::default() };
        is(&step(&job, &done, 3), "finish");
        job.made = None;
        is(&step(&job, &done, 3), "ask: alias/k points at");
        job.intend(&Act::Alias { key: KEY.into() }, Time(2_000));
        is(&step(&job, &done, 3), "finish");
    }

    #[test]
    fn a_plan_takes_over_what_another_one_asked_for() {
        let (mut first, mut second) =
            (job(Err("NotFoundException".into())), job(Err("NotFoundException".into())));
        second.follow(&first);
        is(&step(&second, &Observed::default(), 5), "create");
        first.intend(&Act::Create, Time(0));
        first.state = State::Stopped;
        second.follow(&first);
        assert_eq!(second.after.iter().collect::<Vec<_>>(), ["kp-1"]);
        is(&step(&second, &Observed::default(), 5), "wait");
        let there = Observed { ours: vec![key(KEY, true, Lets::Named)], ..Observed::default() };
        is(&step(&second, &there, 5), "alias");
        let others = key(KEY, true, Lets::ByIam);
        let others = Observed { ours: vec![others], ..Observed::default() };
        is(&step(&second, &others, 5), "ask: the key that we made cannot be used: the policy");
    }

    #[test]
    fn what_somebody_else_did_is_not_touched() {
        let lost = job(Err("NotFoundException".into()));
        let theirs = Observed { behind: Some(key(KEY, true, Lets::Named)), ..Observed::default() };
        is(&step(&lost, &theirs, 0), "ask: alias/k points at");
        let mut off = key(KEY, true, Lets::Named);
        off.state = "Disabled".into();
        is(
            &step(&lost, &Observed { ours: vec![off], ..Observed::default() }, 0),
            "ask: the key that we made",
        );
        let mend = job(Ok(key(KEY, true, Lets::ByIam)));
        is(&step(&mend, &Observed::default(), 0), "ask: alias/k is gone");
        let other = key("arn:aws:kms:eu-west-1:111122223333:key/2", true, Lets::ByIam);
        is(
            &step(&mend, &Observed { behind: Some(other), ..Observed::default() }, 0),
            "ask: alias/k points",
        );
        let mut changed = key(KEY, true, Lets::ByIam);
        changed.policy = changed.policy.map(|p| p.map(|f| Facts { hash: "other".into(), ..f }));
        let changed = Observed { behind: Some(changed), ..Observed::default() };
        is(&step(&mend, &changed, 0), "ask: the policy of");
    }

    #[test]
    fn a_key_is_mended_by_as_much_as_was_agreed_to() {
        let behind = |rotates, lets| Observed {
            behind: Some(key(KEY, rotates, lets)),
            ..Observed::default()
        };
        let mut both = job(Ok(key(KEY, false, Lets::No("no".into()))));
        is(&step(&both, &behind(false, Lets::No("no".into())), 0), "rotate");
        is(&step(&both, &behind(true, Lets::No("no".into())), 0), "policy");
        is(&step(&both, &behind(true, Lets::Named), 0), "finish");
        for at in [0, 100_000, 200_000] {
            both.intend(&Act::PutPolicy { key: KEY.into(), over: "h".into() }, Time(at));
        }
        is(&step(&both, &behind(true, Lets::No("no".into())), 300), "ask: asked for 3 times");
        both.again(Time(300_000));
        is(&step(&both, &behind(true, Lets::No("no".into())), 300), "policy");
        let policy = job(Ok(key(KEY, true, Lets::ByIam)));
        is(&step(&policy, &behind(false, Lets::Named), 0), "finish");
        let mut late = policy.clone();
        is(&step(&late, &behind(true, Lets::ByIam), 90_000), "policy");
        late.begun_at = Some(Time(0));
        is(&step(&late, &behind(true, Lets::ByIam), 90_000), "ask: not done within");
        // What cannot be told stays so after our statements are in.
        let mut unclear = key(KEY, true, Lets::Unclear("perhaps".into()));
        unclear.policy = unclear
            .policy
            .map(|p| p.map(|f| Facts { hash: "ours".into(), lacks: BTreeSet::new(), ..f }));
        is(&step(&policy, &Observed { behind: Some(unclear), ..Observed::default() }, 0), "finish");
    }
}
