//! Which operations each service has.

use super::{
    Op, account, analyzer, cloudformation, cloudtrail, cloudwatch, config, ec2, iam, kms,
    organizations, rds, secrets, sts,
};
use crate::fault::{Fault, Kind};
use crate::wire::Service;

/// The operations of a service.
pub(crate) fn table(service: Service) -> &'static [Op] {
    match service {
        Service::Sts => sts::OPS,
        Service::Organizations => organizations::OPS,
        Service::Account => account::OPS,
        Service::Rds => rds::OPS,
        Service::Kms => kms::OPS,
        Service::Config => config::OPS,
        Service::CloudWatch => cloudwatch::OPS,
        Service::CloudTrail => cloudtrail::OPS,
        Service::AccessAnalyzer => analyzer::OPS,
        Service::Ec2 => ec2::OPS,
        Service::Iam => iam::OPS,
        Service::SecretsManager => secrets::OPS,
        Service::CloudFormation => cloudformation::OPS,
    }
}

pub(crate) fn find(service: Service, operation: &str) -> Result<&'static Op, Fault> {
    table(service).iter().find(|op| op.name == operation).ok_or_else(|| {
        let message = format!(
            "the simulator does not model {}:{}",
            service.prefix(),
            crate::log::printable(operation)
        );
        Fault::of(Kind::NotModelled, message)
    })
}
