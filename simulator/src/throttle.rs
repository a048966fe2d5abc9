//! Token buckets: how many calls a second AWS grants, by account, region and class of call.
//!
//! Published limits are AWS's; where AWS publishes none (RDS, Organizations, Config), the numbers are
//! assumptions from field reports, and a file changes them.

use crate::fault::{Fault, Kind};
use crate::value::Time;
use crate::wire::Service;
use crate::world::{AccountId, Region};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A limit: calls of a service that share a bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The service's IAM prefix.
    pub service: String,
    /// The operations; none means all that no other limit of the service names.
    #[serde(default)]
    pub operations: Vec<String>,
    /// Calls a second.
    pub rate: f64,
    /// Calls at once.
    pub burst: f64,
}

const READS: &[&str] = &["Describe", "List", "Get"];

fn limit(service: Service, operations: &[&str], rate: f64, burst: f64) -> Limit {
    let operations = operations.iter().map(|o| (*o).to_owned()).collect();
    Limit { service: service.prefix().into(), operations, rate, burst }
}

/// Realistic limits. A name that ends in `*` stands for all that begin so.
pub fn aws() -> Vec<Limit> {
    use Service::{
        AccessAnalyzer, Account, CloudTrail, CloudWatch, Config, Ec2, Iam, Kms, Organizations, Rds,
        SecretsManager, Sts,
    };
    let reads: Vec<String> = READS.iter().map(|r| format!("{r}*")).collect();
    let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
    vec![
        // "600 requests a second, per account, per Region" (IAM and STS quotas).
        limit(Sts, &[], 600.0, 600.0),
        // Not published. Breaks in practice with a few concurrent readers (ADF#784, #788).
        limit(Organizations, &reads, 20.0, 40.0),
        limit(Organizations, &[], 5.0, 5.0),
        // "ListRegions: 5 a second, burst 5" (Account Management quotas).
        limit(Account, &[], 5.0, 5.0),
        // Not published; ten in a loop trip it (aws-cli#8604).
        limit(Rds, &reads, 20.0, 40.0),
        limit(Rds, &[], 5.0, 10.0),
        // KMS guide, "Request quotas".
        limit(Kms, &["DescribeKey"], 2_000.0, 2_000.0),
        limit(Kms, &["CreateGrant"], 50.0, 50.0),
        limit(Kms, &["CreateKey"], 5.0, 5.0),
        limit(Kms, &["ListAliases", "ListKeys"], 500.0, 500.0),
        limit(Kms, &["ListGrants"], 100.0, 100.0),
        limit(Kms, &["GetKeyPolicy"], 1_000.0, 1_000.0),
        limit(Kms, &["PutKeyPolicy"], 15.0, 15.0),
        limit(Kms, &["TagResource"], 10.0, 10.0),
        limit(Kms, &[], 30.0, 30.0),
        // CloudWatch guide, "CloudWatch service quotas".
        limit(CloudWatch, &["GetMetricData"], 50.0, 50.0),
        limit(CloudWatch, &["GetMetricStatistics"], 400.0, 400.0),
        limit(CloudWatch, &["ListMetrics"], 25.0, 25.0),
        limit(CloudWatch, &["DescribeAlarms"], 9.0, 9.0),
        limit(CloudWatch, &[], 3.0, 3.0),
        // "Two a second, per account, per Region" (CloudTrail API reference, LookupEvents).
        limit(CloudTrail, &[], 2.0, 2.0),
        // Not published.
        limit(Config, &[], 10.0, 20.0),
        limit(AccessAnalyzer, &[], 5.0, 10.0),
        limit(Ec2, &[], 20.0, 100.0),
        limit(Iam, &[], 20.0, 40.0),
        // Secrets Manager guide, "Quotas": ListSecrets 100, all others here 50.
        limit(SecretsManager, &["ListSecrets"], 100.0, 100.0),
        limit(SecretsManager, &[], 50.0, 50.0),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Time,
    granted: u64,
    throttled: u64,
}

/// A bucket's account of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub account: String,
    pub region: String,
    pub service: String,
    pub operations: Vec<String>,
    pub rate: f64,
    pub granted: u64,
    pub throttled: u64,
}

/// All buckets. Without limits, nothing is ever throttled.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    limits: Vec<Limit>,
    buckets: HashMap<(AccountId, Region, usize), Bucket>,
}

impl Throttle {
    /// Replaces the limits; buckets start full.
    ///
    /// # Errors
    /// Names the limit that makes no sense.
    pub fn set(&mut self, limits: Vec<Limit>) -> Result<(), String> {
        for limit in &limits {
            if Service::find(&limit.service).is_none() {
                return Err(format!("limit: there is no service {}", limit.service));
            }
            let sound = |n: f64| n.is_finite() && n > 0.0;
            if !sound(limit.rate) || !sound(limit.burst) || limit.burst < 1.0 {
                return Err(format!(
                    "limit of {}: rate must be above 0 and burst 1 or more",
                    limit.service
                ));
            }
        }
        self.limits = limits;
        self.buckets.clear();
        Ok(())
    }

    /// The limits in force.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    fn which(&self, service: Service, operation: &str) -> Option<usize> {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => operation.starts_with(prefix),
            None => pattern == operation,
        };
        let mut all = self.limits.iter().enumerate().filter(|(_, l)| l.service == service.prefix());
        let named = all.clone().find(|(_, l)| l.operations.iter().any(matches));
        named.or_else(|| all.find(|(_, l)| l.operations.is_empty())).map(|(i, _)| i)
    }

    /// Takes a token, or says that there is none.
    pub(crate) fn take(
        &mut self,
        account: AccountId,
        region: Region,
        (service, operation): (Service, &str),
        now: Time,
    ) -> Result<(), Fault> {
        if self.limits.is_empty() {
            return Ok(());
        }
        let Some(index) = self.which(service, operation) else {
            return Ok(());
        };
        let (rate, burst) = (self.limits[index].rate, self.limits[index].burst);
        let full = Bucket { tokens: burst, at: now, granted: 0, throttled: 0 };
        let bucket = self.buckets.entry((account, region, index)).or_insert(full);
        let passed = (now.0 - bucket.at.0).max(0) as f64 / 1000.0;
        bucket.tokens = (bucket.tokens + passed * rate).min(burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            bucket.granted += 1;
            return Ok(());
        }
        bucket.throttled += 1;
        let message = match service {
            Service::Organizations => {
                "You have sent too many requests in too short a period. Retry later."
            }
            Service::Kms => {
                "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."
            }
            _ => "Rate exceeded",
        };
        Err(Fault::of(Kind::Throttled, message))
    }

    /// What every bucket granted and refused, in a fixed order.
    pub fn counts(&self) -> Vec<Counts> {
        let mut all: Vec<_> = self.buckets.iter().collect();
        all.sort_by_key(|((account, region, index), _)| (*account, *region, *index));
        all.into_iter()
            .map(|((account, region, index), bucket)| {
                let limit = &self.limits[*index];
                Counts {
                    account: account.to_string(),
                    region: (*region).to_owned(),
                    service: limit.service.clone(),
                    operations: limit.operations.clone(),
                    rate: limit.rate,
                    granted: bucket.granted,
                    throttled: bucket.throttled,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grant_their_burst_and_then_their_rate() {
        let mut throttle = Throttle::default();
        throttle.set(aws()).unwrap();
        let account = AccountId(1);
        let mut take = |op: &str, at| {
            throttle.take(account, "us-east-1", (Service::CloudTrail, op), Time(at)).is_ok()
        };
        assert!(take("LookupEvents", 0) && take("LookupEvents", 0));
        assert!(!take("LookupEvents", 0));
        assert!(!take("LookupEvents", 499));
        assert!(take("LookupEvents", 500));
        let counts = throttle.counts();
        assert_eq!((counts[0].granted, counts[0].throttled), (3, 2));
    }

    #[test]
    fn reads_and_writes_have_buckets_of_their_own_and_accounts_too() {
        let mut throttle = Throttle::default();
        throttle.set(aws()).unwrap();
        let which = |op| throttle.which(Service::Rds, op);
        assert_eq!(which("DescribeDBInstances"), which("ListTagsForResource"));
        assert_ne!(which("DescribeDBInstances"), which("CreateDBInstance"));
        let no = vec![limit(Service::Rds, &[], 0.0, 1.0)];
        assert!(throttle.set(no).unwrap_err().contains("rate must be above 0"));
    }
}
