//! Checks of what names a database from outside.

use super::checks::{Checks, Verdict};
use super::standing::known;
use super::{Item, Strategy};
use crate::around::{Around, Named, keys, lets_iam_in};
use crate::finding::Resource;
use crate::id::Region;

/// So many names are said; more are counted.
const NAMES_MAX: usize = 5;

fn list(names: &[String]) -> String {
    let some = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}

/// One check: what is said of each database that is named, and how it counts; or that nobody knows, and how that
/// counts.
fn see(
    (name, what): (&str, &str),
    resource: &Resource,
    around: Option<&Result<Named, String>>,
    (verdict, unknown): (Verdict, Verdict),
    say: impl Fn(&str, &[String]) -> String,
    checks: &mut Checks,
) {
    match known(what, around) {
        Err(unread) => checks.see(name, unknown, [unread]),
        Ok(named) => {
            let keys = keys(resource);
            let said = keys.iter().filter_map(|(key, id)| Some(say(id, named.get(key)?)));
            checks.see(name, verdict, said);
        }
    }
}

/// Proxies, subscriptions and alarms. A swap keeps the names, and what is by name; but AWS does not say what
/// becomes of a proxy's target whose database is renamed ("metrics and events associated with the name are
/// maintained if you reuse a DB instance name", RDS guide, "Renaming a DB instance", is of the others).
pub(super) fn around(
    resource: &Resource,
    around: Option<&Around>,
    swap: bool,
    checks: &mut Checks,
) {
    // What nobody could see is not taken for nothing where it would forbid the swap.
    let (verdict, what) = match swap {
        true => (
            Verdict::Block,
            "RDS Proxy targets (none is swapped, so the member role must be let to see them)",
        ),
        false => (Verdict::Warn, "RDS Proxy targets"),
    };
    see(
        ("proxies", what),
        resource,
        around.map(|a| &a.proxies),
        (verdict, verdict),
        |id, by| match swap {
            true => format!(
                "{id} is a target of RDS Proxy {}, and AWS does not say whether a proxy follows a rename: deregister it there before (`aws rds deregister-db-proxy-targets`), scan again, and register it after the cutover; or plan it side by side",
                list(by)
            ),
            false => format!(
                "{id} is a target of RDS Proxy {}: who comes through it stays with the original; register the twin there when they are to move",
                list(by)
            ),
        },
        checks,
    );
    see(
        ("subscriptions", "event subscriptions"),
        resource,
        around.map(|a| &a.subscriptions),
        (Verdict::Warn, Verdict::Warn),
        |id, by| match swap {
            true => format!(
                "{id} is named by event subscription {}: see that it names {id} after the cutover too",
                list(by)
            ),
            false => format!(
                "{id} is named by event subscription {}: it does not hear of the twin unless you add that",
                list(by)
            ),
        },
        checks,
    );
    see(
        ("secrets", "secrets that mention it"),
        resource,
        around.map(|a| &a.secrets),
        (Verdict::Warn, Verdict::Warn),
        |id, by| match swap {
            true => format!(
                "{id} is mentioned by secret {}: its address stays; see that a rotation which works with it still does after the cutover",
                list(by)
            ),
            false => format!(
                "{id} is mentioned by secret {}: whoever takes the address from there stays with the original",
                list(by)
            ),
        },
        checks,
    );
    if swap {
        checks.warn("alarms", None); // by name, and the name stays
        return;
    }
    see(
        ("alarms", "CloudWatch alarms"),
        resource,
        around.map(|a| &a.alarms),
        (Verdict::Warn, Verdict::Warn),
        |id, by| format!("{id} is watched by alarm {}: none of them watches the twin", list(by)),
        checks,
    );
}

/// Why a database that is to be swapped may not be, by what a fresh look at one of its regions says; `None` if it may.
pub fn proxied(item: &Item, region: &Region, fresh: Option<&Around>) -> Option<String> {
    item.swap.as_ref()?;
    let mut checks = Checks::default();
    let there = item.resource.part_in(region);
    let resource = there.as_ref().unwrap_or(&item.resource);
    around(resource, fresh, true, &mut checks);
    super::green::part_of(resource, fresh, Strategy::of(item.swap.as_ref()), &mut checks);
    checks.0.into_iter().find(|c| c.verdict == Verdict::Block).map(|c| c.text)
}

/// Policies for IAM authentication name the resource id, and the twin has another.
pub(super) fn iam(resource: &Resource, around: Option<&Around>, checks: &mut Checks) {
    if !lets_iam_in(resource) {
        return checks.warn("iam-authentication", None);
    }
    see(
        ("iam-authentication", "IAM policies that name its resource id (rds-db:connect)"),
        resource,
        around.map(|a| &a.policies),
        (Verdict::Warn, Verdict::Warn),
        |id, by| {
            format!(
                "{id} lets IAM users in, and its resource id is in {}: the twin's will be another, so extend them before anybody needs the twin",
                list(by)
            )
        },
        checks,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remediation::sample;

    fn named(key: &str, by: &[&str]) -> Result<Named, String> {
        Ok([(key.to_owned(), by.iter().map(|b| (*b).to_owned()).collect())].into())
    }

    fn check(
        found: Option<&Around>,
        resource: &Resource,
        swap: bool,
    ) -> Vec<(String, Verdict, String)> {
        let mut checks = Checks::default();
        around(resource, found, swap, &mut checks);
        iam(resource, found, &mut checks);
        checks.0.into_iter().map(|c| (c.name, c.verdict, c.text)).collect()
    }

    #[test]
    fn what_names_a_database_is_said() {
        use Verdict::*;
        let mut instance = sample::instance("orders");
        instance.settings.iam_database_authentication = true;
        let replicas = vec![sample::instance("orders-read")];
        let resource = Resource::Instance { instance, replicas };
        let many: Vec<String> = (1..=7).map(|n| format!("a{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let found = Around {
            proxies: named("instance orders", &["front"]),
            subscriptions: named("instance orders-read", &["ops"]),
            alarms: named("instance orders", &many),
            policies: named("instance orders", &["policy apps", "role web/db"]),
            secrets: named("instance orders", &["prod/orders"]),
            deployments: named("instance orders", &["upgrade"]),
        }
        .about([&resource].into_iter());
        for (swap, want) in [
            (
                false,
                [
                    ("proxies", Warn, "orders is a target of RDS Proxy front: who comes"),
                    (
                        "subscriptions",
                        Warn,
                        "orders-read is named by event subscription ops: it does",
                    ),
                    ("secrets", Warn, "orders is mentioned by secret prod/orders: whoever"),
                    ("alarms", Warn, "by alarm a1, a2, a3, a4, a5 and 2 more"),
                    (
                        "iam-authentication",
                        Warn,
                        "its resource id is in policy apps, role web/db: the",
                    ),
                ],
            ),
            (
                true,
                [
                    ("proxies", Block, "deregister it there before"),
                    ("subscriptions", Warn, "after the cutover too"),
                    ("secrets", Warn, "its address stays"),
                    ("alarms", Pass, ""),
                    ("iam-authentication", Warn, ""),
                ],
            ),
        ] {
            let said = check(Some(&found), &resource, swap);
            for ((name, verdict, text), want) in said.iter().zip(want) {
                assert_eq!((name.as_str(), *verdict), (want.0, want.1), "{swap}");
                assert!(text.contains(want.2), "{swap}: {text}");
            }
        }
    }

    #[test]
    fn what_is_about_others_or_not_known_is_not_taken_for_nothing() {
        let resource =
            Resource::Instance { instance: sample::instance("orders"), replicas: vec![] };
        let others = Around {
            proxies: named("cluster orders", &["front"]),
            subscriptions: Err("AccessDenied".into()),
            alarms: named("instance order", &["a"]),
            policies: named("instance orders", &["policy apps"]),
            secrets: named("instance order", &["prod/order"]),
            deployments: named("cluster orders", &["upgrade"]),
        };
        let swapped = |found| check(found, &resource, true)[0].1;
        assert_eq!(swapped(None), Verdict::Block, "nobody knows");
        let denied = Around { proxies: Err("AccessDenied".into()), ..others.clone() };
        assert_eq!(
            (swapped(Some(&denied)), swapped(Some(&others))),
            (Verdict::Block, Verdict::Pass)
        );
        let verdicts = |found: Option<&Around>| -> Vec<Verdict> {
            check(found, &resource, false).into_iter().map(|c| c.1).collect()
        };
        use Verdict::*;
        assert_eq!(verdicts(Some(&others)), [Pass, Warn, Pass, Pass, Pass]);
        assert_eq!(verdicts(None), [Warn, Warn, Warn, Warn, Pass]);
        let kept = others.about([&resource].into_iter());
        assert!(
            kept.proxies.is_ok_and(|p| p.is_empty()) && kept.alarms.is_ok_and(|a| a.is_empty())
        );
    }
}
