//! AWS Config: its opinion of a cell, and the rules of the organization.

mod member;
mod organization;

pub use organization::{Candidate, Candidates, MemberStatus, RuleStatus};

use ringfence_domain::cloud::{CloudError, ErrorClass};

/// The largest page of the calls that take a limit (Config API reference).
const PAGE: i32 = 100;

/// Reads all pages of a call that is made for an account and region. Pages can be empty and have a
/// successor (Config API reference), so only a missing token ends the reading.
macro_rules! pages {
    ($cloud:expr, $to:expr, $op:expr, |$token:ident| $call:expr, |$page:ident| $take:expr) => {{
        let mut $token: Option<String> = None;
        loop {
            let $page = $cloud
                .0
                .gate
                .read($to, $op, || async { $call.await.map_err(|e| cloud_error($op, e)) })
                .await?;
            $take;
            $token = $page.next_token().map(str::to_owned).filter(|t| !t.is_empty());
            if $token.is_none() {
                break;
            }
        }
    }};
}
use pages;

/// Whether a rule's parameters say nothing. `kmsKeyId` and the like make a rule judge more than whether a
/// database is encrypted.
fn without_parameters(parameters: &str) -> bool {
    ["", "{}", "null"].contains(&parameters.trim())
}

fn odd(operation: &str, message: impl ToString) -> CloudError {
    let (class, code) = (ErrorClass::Invalid, String::new());
    CloudError { class, operation: operation.to_owned(), code, message: message.to_string() }
}
