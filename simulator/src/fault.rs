//! How a call fails, with AWS's codes and HTTP status.
//!
//! A [`Fault`] that any service can give (denied, throttled, a bad token) is a [`Kind`]; its code and
//! status depend on the service, and one table here says how. All others carry their own code.

use crate::wire::Service;
use std::borrow::Cow;

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of failure.
    pub kind: Kind,
    /// AWS's text.
    pub message: String,
    /// `Reason`, which some Organizations exceptions carry.
    pub reason: Option<&'static str>,
}

/// Which failure; see [`Fault::code`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A service's own code, with its HTTP status.
    Coded(Cow<'static, str>, u16),
    /// The rate is exceeded.
    Throttled,
    /// The caller may not do this.
    Denied,
    /// The session is over.
    Expired,
    /// The access key or token is none.
    BadToken,
    /// The request is not signed.
    NoToken,
    /// A parameter is missing or malformed.
    Validation,
    /// The bytes are no request.
    Malformed,
    /// AWS failed; it may have happened.
    Internal,
    /// The simulator does not know this operation or parameter: said aloud, never ignored.
    NotModelled,
}

impl Fault {
    /// A service's own error.
    pub fn new(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Fault {
        Fault { kind: Kind::Coded(code.into(), status), message: message.into(), reason: None }
    }

    /// A failure that any service can give.
    pub fn of(kind: Kind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), reason: None }
    }

    /// A parameter is missing or malformed.
    pub fn validation(message: impl Into<String>) -> Fault {
        Fault::of(Kind::Validation, message)
    }

    /// With a `Reason`.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Fault {
        self.reason = Some(reason);
        self
    }

    /// AWS's code and HTTP status for this service.
    ///
    /// Sources: the "Common errors" page of each API reference; throttles as in botocore's retry list
    /// and, for Organizations, HTTP 400 (aws-sdk-js#2135); account and access-analyzer answer 429.
    pub fn code(&self, service: Service) -> (Cow<'static, str>, u16) {
        use Service::{
            AccessAnalyzer, Account, CloudTrail, Config, Ec2, Kms, Organizations, SecretsManager,
        };
        let json = matches!(service, Organizations | Kms | Config | CloudTrail | SecretsManager);
        let rest = matches!(service, Account | AccessAnalyzer);
        let (code, status) = match &self.kind {
            Kind::Coded(code, status) => return (code.clone(), *status),
            Kind::Throttled => match service {
                Organizations => ("TooManyRequestsException", 400),
                Kms | Config | CloudTrail | SecretsManager => ("ThrottlingException", 400),
                Account => ("TooManyRequestsException", 429),
                AccessAnalyzer => ("ThrottlingException", 429),
                Ec2 => ("RequestLimitExceeded", 503),
                _ => ("Throttling", 400),
            },
            Kind::Denied if json => ("AccessDeniedException", 400),
            Kind::Denied if rest => ("AccessDeniedException", 403),
            Kind::Denied if service == Ec2 => ("UnauthorizedOperation", 403),
            Kind::Denied => ("AccessDenied", 403),
            Kind::Expired if json => ("ExpiredTokenException", 400),
            Kind::Expired if rest => ("ExpiredTokenException", 403),
            Kind::Expired if service == Ec2 => ("RequestExpired", 400),
            Kind::Expired => ("ExpiredToken", 403),
            Kind::BadToken if json => ("UnrecognizedClientException", 400),
            Kind::BadToken if rest => ("UnrecognizedClientException", 403),
            Kind::BadToken if service == Ec2 => ("AuthFailure", 401),
            Kind::BadToken => ("InvalidClientTokenId", 403),
            Kind::NoToken if json => ("MissingAuthenticationTokenException", 400),
            Kind::NoToken if rest => ("MissingAuthenticationTokenException", 403),
            Kind::NoToken => ("MissingAuthenticationToken", 403),
            Kind::Validation => match service {
                Organizations => ("InvalidInputException", 400),
                Config => ("ValidationException", 400),
                _ if json || rest => ("ValidationException", 400),
                Ec2 => ("InvalidParameterValue", 400),
                Service::Rds => ("InvalidParameterValue", 400),
                _ => ("ValidationError", 400),
            },
            Kind::Malformed if json || rest => ("SerializationException", 400),
            Kind::Malformed => ("MalformedInput", 400),
            Kind::Internal => match service {
                Organizations => ("ServiceException", 500),
                Kms => ("KMSInternalException", 500),
                _ if json || rest => ("InternalServerException", 500),
                Ec2 => ("InternalError", 500),
                _ => ("InternalFailure", 500),
            },
            Kind::NotModelled => ("NotImplemented", 501),
        };
        (Cow::Borrowed(code), status)
    }
}
