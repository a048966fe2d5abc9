//! One sweep of a cell: all pages of each Describe call.

use super::{convert, snapshot};
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use ringfence_domain::cloud::CloudError;
use ringfence_domain::id::Region;
use ringfence_domain::rds::{Quota, Quotas, Sweep};

/// The largest page of the RDS Describe calls.
pub(super) const PAGE: i32 = 100;

macro_rules! pages {
    ($cloud:expr, $session:expr, $region:expr, $op:expr, |$client:ident| $request:expr, |$page:ident| $take:expr) => {{
        let $client = $cloud.rds($region.as_str());
        let to = To::cell(Class::RdsRead, $session.account.as_str(), $region.as_str());
        let mut marker: Option<String> = None;
        loop {
            let $page = $cloud
                .0
                .gate
                .read(to, $op, || async {
                    let call = $request.max_records(PAGE).set_marker(marker.clone()).send();
                    $session.within(call).await.map_err(|e| cloud_error($op, e))
                })
                .await?;
            $take;
            marker = $page.marker().map(str::to_owned).filter(|m| !m.is_empty());
            if marker.is_none() {
                break;
            }
        }
    }};
}

pub(super) use pages;

impl Cloud {
    /// Reads all DB instances and clusters of a cell into `sweep`. On an error, what was read up to
    /// then stays in it.
    pub async fn sweep_databases(
        &self,
        session: &Session,
        region: &Region,
        sweep: &mut Sweep,
    ) -> Result<(), CloudError> {
        // Both at once: a cell then takes one round trip.
        let Sweep { instances, clusters, .. } = sweep;
        let read_instances = async {
            pages!(
                self,
                session,
                region,
                "rds:DescribeDBInstances",
                |client| client.describe_db_instances(),
                |page| instances.extend(page.db_instances().iter().map(convert::instance))
            );
            Ok::<_, CloudError>(())
        };
        let read_clusters = async {
            pages!(
                self,
                session,
                region,
                "rds:DescribeDBClusters",
                |client| client.describe_db_clusters(),
                |page| clusters.extend(page.db_clusters().iter().map(convert::cluster))
            );
            Ok::<_, CloudError>(())
        };
        // To the end, both of them: what one found stays, though the other fails.
        let (first, second) = futures::join!(read_instances, read_clusters);
        first.and(second)?;
        self.custom_endpoints(session, region, clusters).await
    }

    /// The account's quotas in a region, and how much of them is used (API reference, AccountQuota).
    pub async fn quotas(&self, session: &Session, region: &Region) -> Result<Quotas, CloudError> {
        const OP: &str = "rds:DescribeAccountAttributes";
        let client = self.rds(region.as_str());
        let to = To::cell(Class::RdsRead, session.account.as_str(), region.as_str());
        let read = || async {
            let call = client.describe_account_attributes().send();
            session.within(call).await.map_err(|e| cloud_error(OP, e))
        };
        let answer = self.0.gate.read(to, OP, read).await?;
        let named = answer.account_quotas().iter().filter_map(|q| {
            let quota = Quota { used: q.used()?, max: q.max()? };
            Some((q.account_quota_name()?.to_owned(), quota))
        });
        Ok(named.collect())
    }

    /// Reads all manual snapshots of a cell into `sweep`.
    pub async fn sweep_snapshots(
        &self,
        session: &Session,
        region: &Region,
        sweep: &mut Sweep,
    ) -> Result<(), CloudError> {
        pages!(
            self,
            session,
            region,
            "rds:DescribeDBSnapshots",
            |client| client.describe_db_snapshots().snapshot_type("manual"),
            |page| sweep.snapshots.extend(page.db_snapshots().iter().map(snapshot::snapshot))
        );
        pages!(
            self,
            session,
            region,
            "rds:DescribeDBClusterSnapshots",
            |client| client.describe_db_cluster_snapshots().snapshot_type("manual"),
            |page| sweep
                .cluster_snapshots
                .extend(page.db_cluster_snapshots().iter().map(snapshot::cluster_snapshot))
        );
        Ok(())
    }
}
