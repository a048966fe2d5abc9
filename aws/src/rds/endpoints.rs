//! Custom endpoints of Aurora clusters.

use super::convert::{some, tags as own_tags, text};
use super::read::{PAGE, pages};
use super::write::{Made, gone, made, send, strings, tag};
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_rds::types::DbClusterEndpoint;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::id::Region;
use ringfence_domain::rds::{Cluster, Endpoint};
use std::collections::BTreeMap;

/// The member of a cluster that says that it has some; see `convert::cluster_foreign`.
const FOREIGN: &str = "CustomEndpoints";

fn endpoint(e: &DbClusterEndpoint) -> Endpoint {
    Endpoint {
        id: text(e.db_cluster_endpoint_identifier()),
        arn: text(e.db_cluster_endpoint_arn()),
        kind: text(e.custom_endpoint_type()),
        members: e.static_members().iter().cloned().collect(),
        excluded: e.excluded_members().iter().cloned().collect(),
        status: text(e.status()),
        tags: BTreeMap::new(),
    }
}

impl Cloud {
    /// Reads the custom endpoints of clusters that say that they have some. Where we may not, they keep saying
    /// so, and block their plan.
    pub(super) async fn custom_endpoints(
        &self,
        session: &Session,
        region: &Region,
        clusters: &mut [Cluster],
    ) -> Result<(), CloudError> {
        if !clusters.iter().any(|c| c.foreign.contains_key(FOREIGN)) {
            return Ok(());
        }
        match self.all_endpoints(session, region).await {
            Ok(mut found) => {
                for cluster in clusters {
                    cluster.foreign.remove(FOREIGN);
                    cluster.endpoints = found.remove(&cluster.id).unwrap_or_default();
                    cluster.endpoints.sort_by(|a, b| a.id.cmp(&b.id));
                }
                Ok(())
            }
            Err(error) if matches!(error.class, ErrorClass::Denied | ErrorClass::ScpDenied) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// By cluster.
    async fn all_endpoints(
        &self,
        session: &Session,
        region: &Region,
    ) -> Result<BTreeMap<String, Vec<Endpoint>>, CloudError> {
        let mut found: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
        pages!(
            self,
            session,
            region,
            "rds:DescribeDBClusterEndpoints",
            |client| client.describe_db_cluster_endpoints(),
            |page| {
                for e in page.db_cluster_endpoints() {
                    if let (Some("CUSTOM"), Some(of)) =
                        (e.endpoint_type(), some(e.db_cluster_identifier()))
                    {
                        found.entry(of).or_default().push(endpoint(e));
                    }
                }
            }
        );
        Ok(found)
    }

    /// Reads the tags of custom endpoints, one call each: no other call tells them.
    pub async fn endpoint_tags(
        &self,
        session: &Session,
        region: &Region,
        endpoints: &mut [Endpoint],
    ) -> Result<(), CloudError> {
        const OP: &str = "rds:ListTagsForResource";
        let client = self.rds(region.as_str());
        let to = To::cell(Class::RdsRead, session.account.as_str(), region.as_str());
        for endpoint in endpoints {
            let read = || async {
                let call = client.list_tags_for_resource().resource_name(&endpoint.arn).send();
                session.within(call).await.map_err(|e| cloud_error(OP, e))
            };
            let answer = self.0.gate.read(to, OP, read).await?;
            endpoint.tags = own_tags(answer.tag_list());
        }
        Ok(())
    }

    /// `CreateDBClusterEndpoint`.
    pub async fn create_endpoint(
        &self,
        session: &Session,
        region: &Region,
        cluster: &str,
        endpoint: &Endpoint,
    ) -> Result<Made, CloudError> {
        const OP: &str = "rds:CreateDBClusterEndpoint";
        let tags: Vec<_> = endpoint.tags.iter().map(|(k, v)| tag(k, v)).collect();
        let answer = send!(self, session, region, "rds:CreateDBClusterEndpoint", |client| client
            .create_db_cluster_endpoint()
            .db_cluster_identifier(cluster)
            .db_cluster_endpoint_identifier(&endpoint.id)
            .endpoint_type(&endpoint.kind)
            .set_static_members(strings(&endpoint.members))
            .set_excluded_members(strings(&endpoint.excluded))
            .set_tags((!tags.is_empty()).then(|| tags.clone())))?;
        made(OP, answer.db_cluster_endpoint_arn())
    }

    /// `DeleteDBClusterEndpoint`. That it is gone already is success.
    pub async fn delete_endpoint(
        &self,
        session: &Session,
        region: &Region,
        name: &str,
    ) -> Result<(), CloudError> {
        gone(
            send!(self, session, region, "rds:DeleteDBClusterEndpoint", |client| {
                client.delete_db_cluster_endpoint().db_cluster_endpoint_identifier(name)
            })
            .map(drop),
        )
    }
}
