//! How long a verified twin will take, and what it costs while both stand.

use super::quota::gib;
use crate::finding::{Kind, Resource};
use crate::remediation::Remediation;
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// Fewer of the past than this say nothing.
const LEARNED_MIN: usize = 3;

/// So many of the past that are nearest in size are asked.
const NEAREST: usize = 5;

/// What is taken for true before there is a past: AWS names no speed of snapshots, copies and restores
/// (`remediation.estimate_base`, `remediation.estimate_per_gib`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guess {
    /// For any database.
    pub base: Span,
    /// For each GiB of it.
    pub per_gib: Span,
}

/// A twin that was made: how large it is, and how long it took from its snapshot until it was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    kind: Kind,
    /// By a blue/green deployment: AWS does both, and not at the same speed.
    green: bool,
    gib: i64,
    took: Span,
}

impl Past {
    /// What a remediation teaches; `None` unless its twin was verified.
    pub fn of(rem: &Remediation) -> Option<Past> {
        // From the last time that it was asked for: one that was retried had stood still.
        let green = rem.green().is_some();
        let first = match rem.kind {
            _ if green => "deployment",
            Kind::Snapshot => "copy",
            Kind::Instance | Kind::Cluster => "snapshot",
        };
        let began = rem.intents.get(first)?.at;
        let took = rem.verified_at?.since(began);
        (took > Span(0)).then(|| Past { kind: rem.kind, green, gib: gib(&rem.source), took })
    }
}

/// What one database will take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// From its snapshot to its verified twin.
    pub takes: Span,
    /// How many twins of the past say so; 0 for a guess.
    pub learned: usize,
    /// Storage that is paid for while both stand, in GiB; 0 for Aurora, which bills what is used.
    pub gib: i64,
    /// Instances that are paid for while both stand.
    pub instances: usize,
}

impl Estimate {
    /// The median of those of its kind that are nearest in size, for snapshots and copies are neither quite
    /// fixed nor quite in proportion.
    pub fn new(resource: &Resource, green: bool, past: &[Past], guess: Guess) -> Estimate {
        let (kind, gib) = match resource {
            Resource::Instance { .. } => (Kind::Instance, gib(resource)),
            Resource::Cluster { .. } => (Kind::Cluster, 0),
            Resource::Snapshot { .. } => (Kind::Snapshot, gib(resource)),
        };
        let mut near: Vec<&Past> =
            past.iter().filter(|p| p.kind == kind && p.green == green).collect();
        // Stable: of equally near ones it is chance which are asked, not who was fast.
        near.sort_by_key(|p| (p.gib - gib).abs());
        near.truncate(NEAREST);
        near.sort_by_key(|p| p.took);
        let guessed = guess.base.0.saturating_add(guess.per_gib.0.saturating_mul(gib));
        let (takes, learned) = match near.len() {
            n if n >= LEARNED_MIN => (near[n / 2].took, n),
            _ => (Span(guessed), 0),
        };
        Estimate { takes, learned, gib, instances: resource.instances().count() }
    }

    /// On screen.
    pub fn text(&self) -> String {
        let why = match self.learned {
            0 => "a guess: too few were made here yet".to_owned(),
            n => format!("as the {n} nearest in size took"),
        };
        if self.instances == 0 {
            return format!(
                "about {} to the verified copy ({why}); {} GiB of snapshot more while both stand",
                self.takes, self.gib
            );
        }
        let storage = if self.gib > 0 { format!("{} GiB and ", self.gib) } else { String::new() };
        let s = if self.instances == 1 { "" } else { "s" };
        format!(
            "about {} to the verified twin ({why}); {storage}{} instance{s} more while both stand",
            self.takes, self.instances
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remediation::sample;

    fn past(list: &[(i64, i64)]) -> Vec<Past> {
        let one = |(gib, minutes): &(i64, i64)| Past {
            green: false,
            kind: Kind::Instance,
            gib: *gib,
            took: Span::seconds(minutes * 60),
        };
        list.iter().map(one).collect()
    }

    #[test]
    fn it_is_learned_from_the_nearest_in_size() {
        let mut instance = sample::instance("orders");
        instance.settings.allocated_storage = Some(100);
        let resource = Resource::Instance { instance, replicas: vec![] };
        let guess = Guess { base: Span::seconds(1_800), per_gib: Span::seconds(30) };
        let many: Vec<(i64, i64)> = (1..=9).map(|n| (n * 1_000, 600)).collect();
        for (list, want) in [
            (vec![], (80, 0)),
            (vec![(100, 10), (100, 20)], (80, 0)),
            (vec![(100, 10), (100, 20), (90, 90)], (20, 3)),
            ([vec![(90, 40), (110, 50), (100, 45)], many].concat(), (50, 5)),
        ] {
            let found = Estimate::new(&resource, false, &past(&list), guess);
            assert_eq!((found.takes.0 / 60_000, found.learned), want, "{list:?}");
        }
        let three = past(&[(100, 10), (100, 20), (100, 30)]);
        let learned = |green| Estimate::new(&resource, green, &three, guess).learned;
        assert_eq!((learned(false), learned(true)), (3, 0), "one way teaches nothing of the other");
        let text = Estimate::new(&resource, false, &[], guess).text();
        assert!(text.contains("1h20m") && text.contains("a guess"), "{text}");
        assert!(text.ends_with("100 GiB and 1 instance more while both stand"), "{text}");
    }

    #[test]
    fn only_verified_twins_teach() {
        let (mut rem, _, now) = sample::instance_world(&[]);
        rem.intents.clear();
        rem.intend(crate::remediation::Act::CreateSnapshot { snapshot: "s".into() }, now);
        assert_eq!(Past::of(&rem), None);
        rem.verified_at = Some(now.plus(Span::hours(1)));
        assert_eq!(Past::of(&rem).map(|p| p.took), Some(Span::hours(1)));
    }
}
