//! `cloudwatch:DescribeAlarms` in our own account: signs of health that people have set up.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use aws_sdk_cloudwatch::types::AlarmType;
use ringfence_domain::cloud::CloudError;
use ringfence_domain::id::Region;
use std::collections::BTreeMap;

const OP: &str = "cloudwatch:DescribeAlarms";

/// Names in one call, at most (API reference, DescribeAlarms).
const NAMES: usize = 100;

impl Cloud {
    /// State and reason of these alarms of a region of our own account, by name; of those that are there.
    pub async fn alarm_states(
        &self,
        region: &Region,
        names: &[String],
    ) -> Result<BTreeMap<String, (String, String)>, CloudError> {
        let own = self.caller().await?.account;
        let client = self.own_cloudwatch(region.as_str());
        let to = To::cell(Class::MetricsRead, own.as_str(), region.as_str());
        let mut found = BTreeMap::new();
        for some in names.chunks(NAMES) {
            let page = |token| {
                let call = client
                    .describe_alarms()
                    .set_alarm_names(Some(some.to_vec()))
                    // Composite ones are not answered unless asked for (API reference, DescribeAlarms).
                    .alarm_types(AlarmType::MetricAlarm)
                    .alarm_types(AlarmType::CompositeAlarm)
                    .set_next_token(token);
                async { call.send().await.map_err(|e| cloud_error(OP, e)) }
            };
            let take =
                |page: aws_sdk_cloudwatch::operation::describe_alarms::DescribeAlarmsOutput| {
                    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
                    for alarm in page.metric_alarms() {
                        let state = text(alarm.state_value().map(|s| s.as_str()));
                        let why = text(alarm.state_reason());
                        found.insert(text(alarm.alarm_name()), (state, why));
                    }
                    for alarm in page.composite_alarms() {
                        let state = text(alarm.state_value().map(|s| s.as_str()));
                        let why = text(alarm.state_reason());
                        found.insert(text(alarm.alarm_name()), (state, why));
                    }
                    page.next_token
                };
            self.0.gate.pages(to, OP, page, take).await?;
        }
        Ok(found)
    }
}
