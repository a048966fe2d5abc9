//! What names the databases of a cell from outside: proxies, event subscriptions, alarms.

use super::convert::some;
use super::read::{PAGE, pages};
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_cloudwatch::operation::describe_alarms::DescribeAlarmsOutput;
use aws_sdk_cloudwatch::types::{Dimension, MetricAlarm};
use aws_sdk_rds::types::{DbProxyTarget, EventSubscription, TargetType};
use ringfence_domain::around::{Around, Named, key};
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::finding::Kind;
use ringfence_domain::id::Region;
use ringfence_domain::rds::{BlueGreen, name_in};
use ringfence_domain::time::Span;

fn add(named: &mut Named, kind: Kind, database: &str, by: &str) {
    let all = named.entry(key(kind, database)).or_default();
    if !all.iter().any(|b| b == by) {
        all.push(by.to_owned());
    }
}

/// An answer in time, or why there is none: what is read beside databases must not hold them up.
pub async fn in_time<T>(
    service: &str,
    most: Span,
    answer: impl Future<Output = Result<T, CloudError>>,
) -> Result<T, String> {
    match tokio::time::timeout(most.to_duration(), answer).await {
        Ok(answer) => answer.map_err(|e| e.to_string()),
        Err(_) => Err(format!("{service} did not answer within {most}")),
    }
}

impl Cloud {
    /// What names the databases of a cell. What cannot be read is said, and is no failure of the cell.
    ///
    /// IAM's policies are the account's and not the cell's: [`Cloud::policies_by_resource_id`]; and secrets are about
    /// databases that only the caller knows: [`Cloud::secrets`].
    ///
    /// Each of the four is waited for so long at most: a region with thousands of alarms, or one that throttles,
    /// must not hold up its databases.
    pub async fn around(&self, session: &Session, region: &Region, most: Span) -> Around {
        let (deployments, proxies, subscriptions, alarms) = futures::join!(
            in_time("AWS", most, self.blue_greens(session, region)),
            in_time("AWS", most, self.proxies(session, region)),
            in_time("AWS", most, self.subscriptions(session, region)),
            in_time("AWS", most, self.alarms(session, region)),
        );
        Around {
            proxies,
            subscriptions,
            alarms,
            policies: Ok(Named::new()),
            secrets: Ok(Named::new()),
            deployments: deployments.map(|all| part_of(&all)),
        }
    }

    async fn proxies(&self, session: &Session, region: &Region) -> Result<Named, CloudError> {
        let mut proxies: Vec<String> = Vec::new();
        pages!(
            self,
            session,
            region,
            "rds:DescribeDBProxies",
            |client| client.describe_db_proxies(),
            |page| proxies.extend(page.db_proxies().iter().filter_map(|p| some(p.db_proxy_name())))
        );
        let mut named = Named::new();
        for proxy in &proxies {
            match self.targets(session, region, proxy, &mut named).await {
                // Deleted since it was listed.
                Err(error) if error.class == ErrorClass::NotFound => {}
                read => read?,
            }
        }
        Ok(named)
    }

    async fn targets(
        &self,
        session: &Session,
        region: &Region,
        proxy: &str,
        named: &mut Named,
    ) -> Result<(), CloudError> {
        pages!(
            self,
            session,
            region,
            "rds:DescribeDBProxyTargets",
            |client| client.describe_db_proxy_targets().db_proxy_name(proxy),
            |page| page.targets().iter().for_each(|t| take_target(named, t, proxy))
        );
        Ok(())
    }

    async fn subscriptions(&self, session: &Session, region: &Region) -> Result<Named, CloudError> {
        let mut named = Named::new();
        pages!(
            self,
            session,
            region,
            "rds:DescribeEventSubscriptions",
            |client| client.describe_event_subscriptions(),
            |page| page
                .event_subscriptions_list()
                .iter()
                .for_each(|s| take_subscription(&mut named, s))
        );
        Ok(named)
    }

    async fn alarms(&self, session: &Session, region: &Region) -> Result<Named, CloudError> {
        const OP: &str = "cloudwatch:DescribeAlarms";
        let client = self.cloudwatch(region.as_str());
        let to = To::cell(Class::MetricsRead, session.account.as_str(), region.as_str());
        let mut named = Named::new();
        let page = |token| {
            let call = client.describe_alarms().max_records(PAGE).set_next_token(token).send();
            let call = session.within(call);
            async { call.await.map_err(|e| cloud_error(OP, e)) }
        };
        let take = |page: DescribeAlarmsOutput| {
            page.metric_alarms().iter().for_each(|alarm| take_alarm(&mut named, alarm));
            page.next_token
        };
        self.0.gate.pages(to, OP, page, take).await?;
        Ok(named)
    }
}

/// The databases of blue/green deployments that are not over: after a switchover nothing more changes hands.
fn part_of(all: &[BlueGreen]) -> Named {
    let mut named = Named::new();
    for made in all.iter().filter(|b| b.status != "SWITCHOVER_COMPLETED") {
        let members = made.members.iter().flat_map(|m| std::iter::once(&m.source).chain(&m.target));
        for arn in members.chain([&made.source]) {
            let kind = match arn {
                arn if arn.contains(":cluster:") => Kind::Cluster,
                arn if arn.contains(":db:") => Kind::Instance,
                _ => continue, // custom endpoints are listed, too
            };
            add(&mut named, kind, name_in(arn), &made.name);
        }
    }
    named
}

fn take_subscription(named: &mut Named, subscription: &EventSubscription) {
    let kind = match subscription.source_type() {
        Some("db-instance") => Kind::Instance,
        Some("db-cluster") => Kind::Cluster,
        _ => return,
    };
    for id in subscription.source_ids_list() {
        add(named, kind, id, subscription.cust_subscription_id().unwrap_or_default());
    }
}

/// "It can be the instance identifier for an RDS DB instance, or the cluster identifier for an Aurora DB cluster"
/// (API reference, DBProxyTarget). A cluster's members are listed with it.
fn take_target(named: &mut Named, target: &DbProxyTarget, proxy: &str) {
    let kinds: &[Kind] = match target.r#type() {
        Some(TargetType::TrackedCluster) => &[Kind::Cluster],
        Some(TargetType::RdsInstance) => &[Kind::Instance],
        _ => &[Kind::Instance, Kind::Cluster],
    };
    if let Some(id) = target.rds_resource_id() {
        kinds.iter().for_each(|kind| add(named, *kind, id, proxy));
    }
    if let Some(cluster) = target.tracked_cluster_id() {
        add(named, Kind::Cluster, cluster, proxy);
    }
}

/// An alarm on a metric, or on an expression over several.
fn take_alarm(named: &mut Named, alarm: &MetricAlarm) {
    let metrics = alarm.metrics().iter().filter_map(|m| m.metric_stat()?.metric());
    let nested = metrics.filter(|m| m.namespace() == Some("AWS/RDS")).flat_map(|m| m.dimensions());
    let own: &[Dimension] =
        if alarm.namespace() == Some("AWS/RDS") { alarm.dimensions() } else { &[] };
    for dimension in own.iter().chain(nested) {
        let kind = match dimension.name() {
            Some("DBInstanceIdentifier") => Kind::Instance,
            Some("DBClusterIdentifier") => Kind::Cluster,
            _ => continue,
        };
        let (id, name) = (dimension.value().unwrap_or_default(), alarm.alarm_name());
        add(named, kind, id, name.unwrap_or_default());
    }
}
