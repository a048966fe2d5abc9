//! The regions that exist, and which of them an account must opt into.
//! Source: account-management guide, "Enable or disable AWS Regions in your account".

/// Regions that are on by default in every account, and cannot be turned off.
pub const DEFAULT: &[&str] = &[
    "us-east-1",
    "eu-west-1",
    "eu-central-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ap-south-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-west-2",
    "eu-west-3",
    "eu-north-1",
    "sa-east-1",
];

/// Regions that are off until an account turns them on.
pub const OPT_IN: &[&str] = &[
    "af-south-1",
    "ap-east-1",
    "ap-south-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ca-west-1",
    "eu-central-2",
    "eu-south-1",
    "eu-south-2",
    "il-central-1",
    "me-central-1",
    "me-south-1",
];

/// The region of that name.
pub fn find(name: &str) -> Option<&'static str> {
    DEFAULT.iter().chain(OPT_IN).find(|r| **r == name).copied()
}

/// Whether an account must opt into it.
pub fn opt_in(region: &str) -> bool {
    OPT_IN.contains(&region)
}
