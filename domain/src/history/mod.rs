//! What accounts asked of AWS before, as CloudTrail remembers it, and what a policy would have said to it.
//!
//! Event history holds 90 days of management events, and neither data events nor the policies that allowed them
//! (CloudTrail guide, "Working with CloudTrail event history"): what did not happen in that time is not shown, and a
//! policy can still deny it.

mod call;
mod harm;
mod import;
mod lookup;
mod reading;
mod replay;

pub use call::{Call, Calls, DISTINCT_MAX, Event, Refusal, event, refusal};
pub use harm::{ACTS, Act, Harm, act, harm};
pub use import::import;
pub use lookup::{Lookup, lookups, service_of, unsure};
pub use reading::{Part, Reading, State};
pub use replay::{Judged, Replay, ask, judge, replay, weigh};

use crate::time::Span;

/// How far event history goes back (CloudTrail API reference, LookupEvents: "the last 90 days").
pub const KEPT: Span = Span::hours(90 * 24);
