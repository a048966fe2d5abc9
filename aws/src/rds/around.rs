//! What names the databases of a cell from outside: proxies, event subscriptions, alarms.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_cloudwatch::types::{Dimension, MetricAlarm};
use aws_sdk_rds::types::{DbProxyTarget, TargetType};
use ringfence_domain::around::{Around, Named, key};
use ringfence_domain::cloud::CloudError;
use ringfence_domain::finding::Kind;
use ringfence_domain::id::Region;

/// The largest page of these calls.
const PAGE: i32 = 100;

fn add(named: &mut Named, kind: Kind, database: &str, by: &str) {
    let all = named.entry(key(kind, database)).or_default();
    if !all.iter().any(|b| b == by) {
        all.push(by.to_owned());
    }
}

impl Cloud {
    /// What names the databases of a cell. What cannot be read is said, and is no failure of the cell.
    pub async fn around(&self, session: &Session, region: &Region) -> Around {
        let (proxies, subscriptions, alarms) = futures::join!(
            self.proxy_targets(session, region),
            self.subscriptions(session, region),
            self.alarms(session, region),
        );
        let said = |answer: Result<Named, CloudError>| answer.map_err(|e| e.to_string());
        Around { proxies: said(proxies), subscriptions: said(subscriptions), alarms: said(alarms) }
    }

    async fn proxy_targets(&self, session: &Session, region: &Region) -> Result<Named, CloudError> {
        const OP: &str = "rds:DescribeDBProxies";
        let client = self.rds(region.as_str());
        let to = To::cell(Class::RdsRead, session.account.as_str(), region.as_str());
        let mut named = Named::new();
        let mut marker: Option<String> = None;
        loop {
            let read = || async {
                let call = client.describe_db_proxies().max_records(PAGE);
                let call = call.set_marker(marker.clone()).send();
                session.within(call).await.map_err(|e| cloud_error(OP, e))
            };
            let page = self.0.gate.read(to, OP, read).await?;
            for proxy in page.db_proxies() {
                let name = proxy.db_proxy_name().unwrap_or_default();
                self.targets(session, region, name, &mut named).await?;
            }
            marker = page.marker().map(str::to_owned).filter(|m| !m.is_empty());
            if marker.is_none() {
                return Ok(named);
            }
        }
    }

    /// The targets of one proxy, in all of its target groups.
    async fn targets(
        &self,
        session: &Session,
        region: &Region,
        proxy: &str,
        named: &mut Named,
    ) -> Result<(), CloudError> {
        const OP: &str = "rds:DescribeDBProxyTargets";
        let client = self.rds(region.as_str());
        let to = To::cell(Class::RdsRead, session.account.as_str(), region.as_str());
        let mut marker: Option<String> = None;
        loop {
            let read = || async {
                let call = client.describe_db_proxy_targets().db_proxy_name(proxy);
                let call = call.max_records(PAGE).set_marker(marker.clone()).send();
                session.within(call).await.map_err(|e| cloud_error(OP, e))
            };
            let page = self.0.gate.read(to, OP, read).await?;
            for target in page.targets() {
                take_target(named, target, proxy);
            }
            marker = page.marker().map(str::to_owned).filter(|m| !m.is_empty());
            if marker.is_none() {
                return Ok(());
            }
        }
    }

    async fn subscriptions(&self, session: &Session, region: &Region) -> Result<Named, CloudError> {
        const OP: &str = "rds:DescribeEventSubscriptions";
        let client = self.rds(region.as_str());
        let to = To::cell(Class::RdsRead, session.account.as_str(), region.as_str());
        let mut named = Named::new();
        let mut marker: Option<String> = None;
        loop {
            let read = || async {
                let call = client.describe_event_subscriptions().max_records(PAGE);
                let call = call.set_marker(marker.clone()).send();
                session.within(call).await.map_err(|e| cloud_error(OP, e))
            };
            let page = self.0.gate.read(to, OP, read).await?;
            for one in page.event_subscriptions_list() {
                let kind = match one.source_type() {
                    Some("db-instance") => Kind::Instance,
                    Some("db-cluster") => Kind::Cluster,
                    _ => continue,
                };
                for id in one.source_ids_list() {
                    add(&mut named, kind, id, one.cust_subscription_id().unwrap_or_default());
                }
            }
            marker = page.marker().map(str::to_owned).filter(|m| !m.is_empty());
            if marker.is_none() {
                return Ok(named);
            }
        }
    }

    async fn alarms(&self, session: &Session, region: &Region) -> Result<Named, CloudError> {
        const OP: &str = "cloudwatch:DescribeAlarms";
        let client = self.cloudwatch(region.as_str());
        let to = To::cell(Class::MetricsRead, session.account.as_str(), region.as_str());
        let mut named = Named::new();
        let mut token: Option<String> = None;
        loop {
            let read = || async {
                let call = client.describe_alarms().max_records(PAGE);
                let call = call.set_next_token(token.clone()).send();
                session.within(call).await.map_err(|e| cloud_error(OP, e))
            };
            let page = self.0.gate.read(to, OP, read).await?;
            for alarm in page.metric_alarms() {
                take_alarm(&mut named, alarm);
            }
            token = page.next_token().map(str::to_owned).filter(|t| !t.is_empty());
            if token.is_none() {
                return Ok(named);
            }
        }
    }
}

/// "It can be the instance identifier for an RDS DB instance, or the cluster identifier for an Aurora DB cluster"
/// (API reference, DBProxyTarget). A cluster's members are listed with it.
fn take_target(named: &mut Named, target: &DbProxyTarget, proxy: &str) {
    let kind = match target.r#type() {
        Some(TargetType::TrackedCluster) => Kind::Cluster,
        _ => Kind::Instance,
    };
    if let Some(id) = target.rds_resource_id() {
        add(named, kind, id, proxy);
    }
    if let Some(cluster) = target.tracked_cluster_id() {
        add(named, Kind::Cluster, cluster, proxy);
    }
}

/// An alarm on a metric, or on an expression over several.
fn take_alarm(named: &mut Named, alarm: &MetricAlarm) {
    let of_metrics = alarm.metrics().iter().filter_map(|m| m.metric_stat()?.metric());
    let nested =
        of_metrics.filter(|m| m.namespace() == Some("AWS/RDS")).flat_map(|m| m.dimensions());
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
