//! What the writes of a remediation share: sending one call, tags, and what a reply means.

use aws_sdk_rds::types::{DbInstance, Tag};
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::rds::TAG;
use std::collections::{BTreeMap, BTreeSet};

/// What a create call made: the ARN in AWS's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The ARN.
    pub arn: String,
    /// The immutable id, of a database.
    pub resource_id: Option<String>,
}

/// Sends one call in a member account, through the cell's write bucket.
macro_rules! send {
    ($cloud:expr, $session:expr, $region:expr, $op:literal, |$client:ident| $request:expr) => {{
        let $client = $cloud.rds($region.as_str());
        let to = To::cell(Class::RdsWrite, $session.account.as_str(), $region.as_str());
        $cloud
            .0
            .gate
            .write(to, $op, || async {
                $session.within($request.send()).await.map_err(|e| cloud_error($op, e))
            })
            .await
    }};
}

pub(super) use send;

pub(super) fn made(operation: &str, arn: Option<&str>) -> Result<Made, CloudError> {
    match arn {
        Some(arn) if !arn.is_empty() => Ok(Made { arn: arn.to_owned(), resource_id: None }),
        // It happened; without the ARN we look again and adopt it by tag and name.
        _ => Err(CloudError {
            class: ErrorClass::Unknown,
            operation: operation.to_owned(),
            code: String::new(),
            message: "no ARN in the answer".to_owned(),
        }),
    }
}

/// What a call that makes an instance made.
pub(super) fn made_instance(
    operation: &str,
    instance: Option<&DbInstance>,
) -> Result<Made, CloudError> {
    let made = made(operation, instance.and_then(|i| i.db_instance_arn()))?;
    let resource_id = instance.and_then(|i| i.dbi_resource_id()).map(str::to_owned);
    Ok(Made { resource_id, ..made })
}

pub(super) fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

/// The original's tags and ours. If any are given, only those are used (RDS guide, "Tagging"), so
/// all are.
pub(super) fn tags(own: &BTreeMap<String, String>, remediation: &str) -> Option<Vec<Tag>> {
    let mut list: Vec<Tag> = own.iter().map(|(k, v)| tag(k, v)).collect();
    list.push(tag(TAG, remediation));
    Some(list)
}

pub(super) fn strings(set: &BTreeSet<String>) -> Option<Vec<String>> {
    (!set.is_empty()).then(|| set.iter().cloned().collect())
}

/// A step that does not fit what it is for: nothing is called.
pub(super) fn no_database(operation: &str) -> Result<(), CloudError> {
    Err(CloudError {
        class: ErrorClass::Invalid,
        operation: operation.to_owned(),
        code: String::new(),
        message: "a snapshot is no database".to_owned(),
    })
}

/// Deleting what is gone already is success.
pub(super) fn gone(answer: Result<(), CloudError>) -> Result<(), CloudError> {
    match answer {
        Err(error) if error.class == ErrorClass::NotFound => Ok(()),
        other => other,
    }
}
