//! Security groups, as far as isolation is about them.

use crate::client::Cloud;
use crate::error::{broken, cloud_error};
use crate::limits::Class;
use crate::rds::Made;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_ec2::operation::describe_security_groups::DescribeSecurityGroupsOutput;
use aws_sdk_ec2::types::{
    Filter, IpPermission, ResourceType, SecurityGroup, Tag, TagSpecification,
};
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::id::Region;
use ringfence_domain::isolation::{Group, Isolation, TAG};

/// The most that a page may have (API reference, DescribeSecurityGroups).
const PAGE: i32 = 1_000;

impl Cloud {
    /// The isolation groups of a region: those that are named in the configuration, and those of that name.
    pub async fn isolation_groups(
        &self,
        session: &Session,
        region: &Region,
        isolation: &Isolation,
    ) -> Result<Vec<Group>, CloudError> {
        let mut found = self
            .security_groups(session, region, ("group-name", vec![isolation.name.clone()]))
            .await?;
        let given: Vec<String> = isolation.groups.values().cloned().collect();
        // "You can have up to 200 values for each filter" (EC2 guide, "Filter resources").
        for given in given.chunks(200) {
            let more = self.security_groups(session, region, ("group-id", given.to_vec())).await?;
            for one in more {
                if !found.iter().any(|f| f.group_id() == one.group_id()) {
                    found.push(one);
                }
            }
        }
        Ok(found.iter().map(group).collect())
    }

    /// One security group; `None` where there is none.
    pub async fn security_group(
        &self,
        session: &Session,
        region: &Region,
        id: &str,
    ) -> Result<Option<Group>, CloudError> {
        Ok(self.by_id(session, region, id).await?.as_ref().map(group))
    }

    async fn by_id(
        &self,
        session: &Session,
        region: &Region,
        id: &str,
    ) -> Result<Option<SecurityGroup>, CloudError> {
        let found = self.security_groups(session, region, ("group-id", vec![id.to_owned()]));
        Ok(found.await?.pop())
    }

    /// By a filter, for that answers with an empty list where a parameter would be an error.
    async fn security_groups(
        &self,
        session: &Session,
        region: &Region,
        (key, values): (&str, Vec<String>),
    ) -> Result<Vec<SecurityGroup>, CloudError> {
        const OP: &str = "ec2:DescribeSecurityGroups";
        let client = self.ec2(region.as_str());
        let to = To::cell(Class::Ec2Read, session.account.as_str(), region.as_str());
        let filter = Filter::builder().name(key).set_values(Some(values)).build();
        let mut found = Vec::new();
        let page = |token| {
            let call = client.describe_security_groups().filters(filter.clone());
            let call = session.within(call.max_results(PAGE).set_next_token(token).send());
            async { call.await.map_err(|e| cloud_error(OP, e)) }
        };
        let take = |page: DescribeSecurityGroupsOutput| {
            found.extend_from_slice(page.security_groups());
            page.next_token
        };
        self.0.gate.pages(to, OP, page, take).await?;
        Ok(found)
    }

    /// Makes a security group with our tag. AWS gives it a rule that lets everything out.
    pub async fn create_group(
        &self,
        session: &Session,
        region: &Region,
        (vpc, name): (&str, &str),
    ) -> Result<Made, CloudError> {
        const OP: &str = "ec2:CreateSecurityGroup";
        let client = self.ec2(region.as_str());
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::SecurityGroup)
            .tags(Tag::builder().key(TAG).value("true").build())
            .build();
        let once = || async {
            let call = client
                .create_security_group()
                .group_name(name)
                .description("Lets nobody in or out; made by Ringfence for swaps of RDS databases")
                .vpc_id(vpc)
                .tag_specifications(tags.clone());
            session.within(call.send()).await.map_err(|e| cloud_error(OP, e))
        };
        let to = To::cell(Class::Ec2Write, session.account.as_str(), region.as_str());
        let answer = self.0.gate.write(to, OP, once).await?;
        let arn = answer.group_id().unwrap_or_default().to_owned();
        Ok(Made { arn, resource_id: None })
    }

    /// Takes the outbound rules from a group that we made, as they are now. One that is not ours is left alone.
    pub async fn close_group(
        &self,
        session: &Session,
        region: &Region,
        id: &str,
    ) -> Result<(), CloudError> {
        const OP: &str = "ec2:RevokeSecurityGroupEgress";
        let Some(now) = self.by_id(session, region, id).await?.filter(ours) else {
            return Err(broken(OP, format!("{id} is not there, or has not our tag {TAG}")));
        };
        let rules = now.ip_permissions_egress().to_vec();
        if rules.is_empty() {
            return Ok(());
        }
        let client = self.ec2(region.as_str());
        let once = || async {
            let call = client
                .revoke_security_group_egress()
                .group_id(id)
                .set_ip_permissions(Some(rules.clone()));
            session.within(call.send()).await.map_err(|e| cloud_error(OP, e))
        };
        let to = To::cell(Class::Ec2Write, session.account.as_str(), region.as_str());
        match self.0.gate.write(to, OP, once).await {
            // Somebody else did it since it was read.
            Err(error) if error.class == ErrorClass::NotFound => Ok(()),
            answer => answer.map(drop),
        }
    }
}

fn ours(group: &SecurityGroup) -> bool {
    group.tags().iter().any(|t| t.key() == Some(TAG))
}

fn group(group: &SecurityGroup) -> Group {
    let rules = |all: &[IpPermission], way: &str| -> Vec<String> {
        all.iter().flat_map(|rule| in_words(rule, way)).collect()
    };
    Group {
        id: group.group_id().unwrap_or_default().to_owned(),
        name: group.group_name().unwrap_or_default().to_owned(),
        vpc: group.vpc_id().unwrap_or_default().to_owned(),
        lets_in: rules(group.ip_permissions(), "from"),
        lets_out: rules(group.ip_permissions_egress(), "to"),
        ours: ours(group),
    }
}

/// A rule, once for each range, list or group that it is about; protocol `-1` is all of them (API reference,
/// IpPermission).
fn in_words(rule: &IpPermission, way: &str) -> Vec<String> {
    let what = match (rule.ip_protocol(), rule.from_port(), rule.to_port()) {
        (None | Some("-1"), _, _) => "everything".to_owned(),
        (Some(protocol), Some(from), Some(to)) if from == to => format!("{protocol} {from}"),
        (Some(protocol), Some(from), Some(to)) => format!("{protocol} {from}-{to}"),
        (Some(protocol), _, _) => protocol.to_owned(),
    };
    let v4 = rule.ip_ranges().iter().filter_map(|r| r.cidr_ip());
    let v6 = rule.ipv6_ranges().iter().filter_map(|r| r.cidr_ipv6());
    let lists = rule.prefix_list_ids().iter().filter_map(|l| l.prefix_list_id());
    let groups = rule.user_id_group_pairs().iter().filter_map(|g| g.group_id());
    let all: Vec<String> = v4
        .chain(v6)
        .chain(lists)
        .chain(groups)
        .map(|peer| format!("{what} {way} {peer}"))
        .collect();
    if all.is_empty() { vec![format!("{what} {way} somewhere")] } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::types::{IpRange, UserIdGroupPair};

    #[test]
    fn rules_are_said_in_words() {
        let rule = IpPermission::builder;
        let range = |cidr: &str| IpRange::builder().cidr_ip(cidr).build();
        let pair = UserIdGroupPair::builder().group_id("sg-2").build();
        for (rule, want) in [
            (
                rule().ip_protocol("-1").ip_ranges(range("0.0.0.0/0")),
                vec!["everything to 0.0.0.0/0"],
            ),
            (
                rule()
                    .ip_protocol("tcp")
                    .from_port(5432)
                    .to_port(5432)
                    .ip_ranges(range("10.0.0.0/8"))
                    .user_id_group_pairs(pair),
                vec!["tcp 5432 to 10.0.0.0/8", "tcp 5432 to sg-2"],
            ),
            (rule().ip_protocol("udp").from_port(1).to_port(9), vec!["udp 1-9 to somewhere"]),
        ] {
            assert_eq!(in_words(&rule.build(), "to"), want);
        }
    }
}
