//! How a call to AWS can fail, as far as the product acts on it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The class of a failed call. The class decides what happens next; the text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// AWS refused for rate reasons: definitely not done, may be tried again later.
    Throttled,
    /// The caller may not do this.
    Denied,
    /// A service control policy denies it: the message says so.
    ScpDenied,
    /// The region does not accept the session (an opt-in region that is off answers like this).
    RegionRefused,
    /// The thing named does not exist.
    NotFound,
    /// A thing of that name exists.
    AlreadyExists,
    /// Somebody else is changing it just now: definitely not done, may be tried again.
    Conflict,
    /// AWS understood the request and will not do it as asked.
    Invalid,
    /// No answer, or one that says nothing: it may have happened. Look again, never retry blind.
    Unknown,
}

/// A failed AWS call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct CloudError {
    /// What to do about it.
    pub class: ErrorClass,
    /// The operation, for example `rds:DescribeDBInstances`.
    pub operation: String,
    /// AWS's error code, or `HTTP 503` and the like where an answer had none; empty when there was no
    /// answer.
    pub code: String,
    /// AWS's message, or what went wrong on the way.
    pub message: String,
}

/// The code of a call that was not made, because nothing in its region answers.
pub const REGION_UNREACHABLE: &str = "region-unreachable";

impl CloudError {
    /// Whether nothing was heard from AWS, so that the region may be unreachable.
    pub fn unanswered(&self) -> bool {
        self.class == ErrorClass::Unknown
            && (self.code.is_empty() || self.code == REGION_UNREACHABLE)
    }

    /// Whether the session's time was up: a new session may do what this one could not.
    pub fn expired(&self) -> bool {
        matches!(self.code.as_str(), "ExpiredToken" | "ExpiredTokenException" | "RequestExpired")
    }
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if !self.code.is_empty() {
            write!(f, ": {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// Classifies AWS's error code and message.
///
/// Sources: the error sections of the RDS, STS, KMS and Organizations API references; throttles as
/// in botocore's standard retry list, plus Organizations' `TooManyRequestsException`, which comes
/// with HTTP 400 (aws-sdk-js#2135). `LimitExceededException` is left out on purpose: for KMS and
/// Config it is a resource limit. The SCP text is the one AWS has sent since January 2026 ("with an
/// explicit deny in a service control policy") and its implicit form.
pub fn classify(code: &str, message: &str) -> ErrorClass {
    const THROTTLES: &[&str] = &[
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottledException",
        "RequestThrottled",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "SlowDown",
        "PriorRequestNotComplete",
    ];
    const DENIALS: &[&str] = &[
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "NotAuthorized",
        "ExpiredToken",
        "ExpiredTokenException",
        "SignatureDoesNotMatch",
    ];
    // An opt-in region that is off does not know the session's token (IAM guide, "Managing AWS STS
    // in an AWS Region"); STS itself says RegionDisabledException.
    const REGION: &[&str] = &[
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "AuthFailure",
        "OptInRequired",
        "RegionDisabledException",
    ];
    let bare = code.rsplit('#').next().unwrap_or(code);
    let bare = bare.split(':').next().unwrap_or(bare);
    if THROTTLES.contains(&bare) {
        return ErrorClass::Throttled;
    }
    if DENIALS.contains(&bare) {
        return if message.contains("service control policy") {
            ErrorClass::ScpDenied
        } else {
            ErrorClass::Denied
        };
    }
    if REGION.contains(&bare) {
        return ErrorClass::RegionRefused;
    }
    if ["ConcurrentModificationException", "PolicyChangesInProgressException"].contains(&bare) {
        return ErrorClass::Conflict;
    }
    let stem = bare.trim_end_matches("Exception").trim_end_matches("Fault");
    if stem.ends_with("NotFound") {
        return ErrorClass::NotFound;
    }
    if stem.ends_with("AlreadyExists")
        || ["DuplicatePolicy", "InvalidGroup.Duplicate"].contains(&stem)
    {
        return ErrorClass::AlreadyExists;
    }
    if bare.is_empty()
        || ["InternalFailure", "InternalError", "ServiceException", "ServiceUnavailable"]
            .contains(&bare)
    {
        return ErrorClass::Unknown;
    }
    ErrorClass::Invalid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        use ErrorClass::*;
        for (code, message, want) in [
            ("Throttling", "Rate exceeded", Throttled),
            ("TooManyRequestsException", "", Throttled),
            ("com.amazonaws#TooManyRequestsException", "", Throttled),
            ("AccessDenied", "User is not authorized to perform: sts:AssumeRole", Denied),
            (
                "AccessDenied",
                "... with an explicit deny in a service control policy: arn:aws:organizations::1:policy/o-a/service_control_policy/p-b",
                ScpDenied,
            ),
            (
                "InvalidClientTokenId",
                "The security token included in the request is invalid",
                RegionRefused,
            ),
            ("DBInstanceNotFound", "", NotFound),
            ("DBSnapshotNotFoundFault", "", NotFound),
            ("NotFoundException", "", NotFound),
            ("TargetNotFoundException", "", NotFound),
            ("DBSnapshotAlreadyExists", "", AlreadyExists),
            ("DBClusterAlreadyExistsFault", "", AlreadyExists),
            ("DuplicatePolicyException", "", AlreadyExists),
            ("InvalidGroup.Duplicate", "", AlreadyExists),
            ("InvalidGroup.NotFound", "", NotFound),
            ("UnauthorizedOperation", "You are not authorized to perform this operation.", Denied),
            ("ConcurrentModificationException", "", Conflict),
            ("InvalidDBInstanceState", "", Invalid),
            ("LimitExceededException", "", Invalid),
            ("", "connection reset", Unknown),
            ("InternalFailure", "", Unknown),
        ] {
            assert_eq!(classify(code, message), want, "{code} {message}");
        }
    }
}
