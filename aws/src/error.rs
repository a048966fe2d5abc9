//! SDK errors to [`CloudError`], in one place.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use ringfence_domain::cloud::{CloudError, ErrorClass, classify};
use std::error::Error;

/// Classifies a failed call. Without an AWS error code, a 4xx is a definite no, anything else is
/// unknown: it may have happened.
pub(crate) fn cloud_error<E>(operation: &str, error: SdkError<E, HttpResponse>) -> CloudError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|r| r.status().as_u16());
    let (code, message) = match error.as_service_error() {
        Some(service) => (
            service.code().unwrap_or_default().to_owned(),
            service.message().unwrap_or_default().to_owned(),
        ),
        None => (String::new(), String::new()),
    };
    let never_sent = matches!(error, SdkError::ConstructionFailure(_));
    let (class, code, message) = if code.is_empty() {
        let (code, text) = match status {
            Some(status) => {
                (format!("HTTP {status}"), "no AWS error code in the answer".to_owned())
            }
            None => (String::new(), short(&DisplayErrorContext(&error).to_string())),
        };
        let class = match status {
            Some(429) => ErrorClass::Throttled,
            Some(400..=499) => ErrorClass::Invalid,
            _ if never_sent => ErrorClass::Invalid,
            _ => ErrorClass::Unknown,
        };
        (class, code, text)
    } else {
        // A server error says nothing of whether it happened, whatever its code; a throttle does.
        let class = match (classify(&code, &message), status) {
            (ErrorClass::Throttled, _) => ErrorClass::Throttled,
            (_, Some(500..)) => ErrorClass::Unknown,
            (class, _) => class,
        };
        (class, code, message)
    };
    CloudError { class, operation: operation.to_owned(), code, message }
}

/// A failure of our own: what came, or what was asked for, is not what it should be.
pub(crate) fn broken(operation: &str, message: String) -> CloudError {
    let class = ErrorClass::Invalid;
    CloudError { class, operation: operation.to_owned(), code: String::new(), message }
}

/// The part of the SDK's error chain that helps: without the debug dump that follows it, which can
/// hold request details.
fn short(chain: &str) -> String {
    let text = chain.split(" (").next().unwrap_or(chain);
    let detail = if chain.contains("no providers in chain provided credentials")
        || chain.contains("CredentialsNotLoaded")
    {
        ": no AWS credentials were found (environment, profile, SSO, container or instance role)"
    } else if chain.contains("refused") {
        ": connection refused"
    } else if chain.contains("dns error") || chain.contains("failed to lookup") {
        ": the host name did not resolve"
    } else if chain.contains("timeout") || chain.contains("timed out") {
        ": timed out"
    } else {
        ""
    };
    format!("{text}{detail}")
}
