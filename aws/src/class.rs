//! Kinds of calls, each with a rate of its own.

/// What a call counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// AssumeRole and GetCallerIdentity: a budget of the calling account at each regional endpoint.
    Sts,
    /// Organizations reads: one budget for the organization.
    OrganizationsRead,
    /// Organizations writes: serialized by the server, so one a second is plenty.
    OrganizationsWrite,
    /// `account:ListRegions`, by account.
    Account,
    /// RDS Describe calls, by account and region.
    RdsRead,
    /// RDS writes, by account and region.
    RdsWrite,
    /// KMS reads, by account and region.
    KmsRead,
    /// KMS writes, by account and region.
    KmsWrite,
    /// AWS Config reads, by account and region.
    ConfigRead,
    /// AWS Config writes, by account and region.
    ConfigWrite,
    /// CloudWatch GetMetricData, by account and region.
    MetricsRead,
    /// IAM reads, by account.
    IamRead,
    /// EC2 reads, by account and region.
    Ec2Read,
    /// EC2 writes, by account and region.
    Ec2Write,
    /// Secrets Manager ListSecrets, by account and region.
    SecretsRead,
    /// CloudTrail LookupEvents, by account and region: AWS grants two a second.
    TrailRead,
    /// Access Analyzer ValidatePolicy, as ourselves.
    AnalyzerRead,
    /// CloudFormation's lists of StackSets, as ourselves, by region.
    StackSetsRead,
}

/// All classes, in the order of their numbers.
pub(crate) const CLASSES: [Class; 18] = [
    Class::Sts,
    Class::OrganizationsRead,
    Class::OrganizationsWrite,
    Class::Account,
    Class::RdsRead,
    Class::RdsWrite,
    Class::KmsRead,
    Class::KmsWrite,
    Class::ConfigRead,
    Class::ConfigWrite,
    Class::MetricsRead,
    Class::IamRead,
    Class::Ec2Read,
    Class::Ec2Write,
    Class::SecretsRead,
    Class::TrailRead,
    Class::AnalyzerRead,
    Class::StackSetsRead,
];

impl Class {
    /// The name in `limits.*` and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Sts => "sts",
            Class::OrganizationsRead => "organizations_read",
            Class::OrganizationsWrite => "organizations_write",
            Class::Account => "account",
            Class::RdsRead => "rds_read",
            Class::RdsWrite => "rds_write",
            Class::KmsRead => "kms_read",
            Class::KmsWrite => "kms_write",
            Class::ConfigRead => "config_read",
            Class::ConfigWrite => "config_write",
            Class::MetricsRead => "metrics_read",
            Class::IamRead => "iam_read",
            Class::Ec2Read => "ec2_read",
            Class::Ec2Write => "ec2_write",
            Class::SecretsRead => "secrets_read",
            Class::TrailRead => "trail_read",
            Class::AnalyzerRead => "analyzer_read",
            Class::StackSetsRead => "stack_sets_read",
        }
    }
}

/// Calls a second, by class. AWS publishes none of RDS's, Organizations' and Config's figures; these are what
/// other tools found safe (README, "Limits"), and all of them are settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates([u32; CLASSES.len()]);

impl Rates {
    /// The rate of each class.
    pub fn each(rate: impl Fn(Class) -> u32) -> Rates {
        Rates(CLASSES.map(rate))
    }

    pub(crate) fn of(&self, class: Class) -> u32 {
        self.0[class as usize]
    }
}
