//! CloudTrail's event history of an account and region: 90 days of management events, two lookups a second (API
//! reference, LookupEvents).

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::{Phase, Session};
use aws_sdk_cloudtrail::operation::lookup_events::LookupEventsOutput;
use aws_sdk_cloudtrail::types::{LookupAttribute, LookupAttributeKey};
use aws_smithy_types::DateTime;
use ringfence_domain::cloud::CloudError;
use ringfence_domain::history::{Act, KEPT, Lookup, act};
use ringfence_domain::time::{Span, Time};

const OP: &str = "cloudtrail:LookupEvents";

/// Events on a page, at most (API reference, LookupEvents).
const PAGE: i32 = 50;

/// The attribute that a lookup may name; none finds everything.
fn attribute(lookup: &Lookup) -> Option<LookupAttribute> {
    let (key, value) = match lookup {
        Lookup::Name { name, .. } => (LookupAttributeKey::EventName, name.clone()),
        Lookup::Service(service) => (LookupAttributeKey::EventSource, Lookup::source(service)),
        Lookup::Everything => return None,
    };
    LookupAttribute::builder().attribute_key(key).attribute_value(value).build().ok()
}

/// LookupEvents counts whole seconds: the last one is asked for to its end.
fn seconds(at: Time, round_up: bool) -> DateTime {
    let up = i64::from(round_up && at.0 % 1_000 != 0);
    DateTime::from_secs(at.0.div_euclid(1_000) + up)
}

impl Cloud {
    /// Hands over the records of an account's region, newest first, until `take` has enough.
    ///
    /// # Errors
    /// AWS's refusal; what was handed over until then is not all.
    pub async fn events(
        &self,
        session: &Session,
        region: &str,
        lookup: &Lookup,
        (from, until): (Time, Time),
        mut take: impl FnMut(&str) -> bool,
    ) -> Result<(), CloudError> {
        let client = self.cloudtrail(region);
        let to = To::cell(Class::TrailRead, session.account.as_str(), region);
        let page = |token| {
            let call = client
                .lookup_events()
                .max_results(PAGE)
                .start_time(seconds(from, false))
                .end_time(seconds(until, true))
                .set_lookup_attributes(attribute(lookup).map(|a| vec![a]))
                .set_next_token(token);
            let call = session.within(call.send());
            async { call.await.map_err(|e| cloud_error(OP, e)) }
        };
        let more = |page: LookupEventsOutput| {
            let mut records = page.events().iter().map(|e| e.cloud_trail_event());
            let all = records.all(|record| take(record.unwrap_or_default()));
            page.next_token.filter(|_| all)
        };
        self.0.gate.pages(to, OP, page, more).await
    }
}

/// Where Organizations is called, and so recorded (Organizations endpoints, AWS general reference).
fn organizations_region(own: &str) -> &str {
    match own {
        _ if own.starts_with("cn-") => "cn-northwest-1",
        _ if own.starts_with("us-gov-") => "us-gov-west-1",
        _ if own.contains("-iso") => own,
        _ => "us-east-1",
    }
}

impl Cloud {
    /// Acts of these names (calls to Organizations) by anybody, as far as they were made from our own account; newest first
    /// by name.
    pub async fn acts(
        &self,
        names: &[&str],
        (since, until): (Time, Time),
    ) -> Result<Vec<Act>, CloudError> {
        let own = self.caller().await?.account;
        let session = self.enter(&own, Phase::Scan, "ringfence-guard").await?;
        let region = organizations_region(self.own_region()).to_owned();
        let mut acts = Vec::new();
        for name in names {
            let lookup = Lookup::Name { service: "organizations".into(), name: (*name).into() };
            let take = |record: &str| {
                let record = serde_json::from_str(record).unwrap_or_default();
                acts.extend(act(&record));
                true
            };
            // What is older than it keeps may not be asked for (API reference, InvalidTimeRangeException).
            let since = since.max(until.plus(Span(-KEPT.0)));
            self.events(&session, &region, &lookup, (since, until), take).await?;
        }
        Ok(acts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_names_one_attribute_and_the_whole_second() {
        let name = Lookup::Name { service: "rds".into(), name: "CreateDBCluster".into() };
        assert_eq!(attribute(&name).unwrap().attribute_value(), "CreateDBCluster");
        let metrics = attribute(&Lookup::Service("cloudwatch".into())).unwrap();
        assert_eq!(metrics.attribute_value(), "monitoring.amazonaws.com");
        assert!(attribute(&Lookup::Everything).is_none());
        assert_eq!(seconds(Time(1_500), false).secs(), 1);
        assert_eq!((seconds(Time(1_500), true).secs(), seconds(Time(2_000), true).secs()), (2, 2));
    }
}
