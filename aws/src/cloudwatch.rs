//! `cloudwatch:GetMetricData`: what instances have been doing.

use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use aws_sdk_cloudwatch::types::{
    Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, ScanBy,
};
use aws_smithy_types::DateTime;
use ringfence_domain::cloud::{CloudError, ErrorClass};
use ringfence_domain::id::Region;
use ringfence_domain::remediation::Activity;
use ringfence_domain::time::{Span, Time};
use std::collections::BTreeMap;

/// The metrics, with their statistic: the most connections at a time in a period, and the mean of writes.
const METRICS: [(&str, &str); 2] = [("DatabaseConnections", "Maximum"), ("WriteIOPS", "Average")];

/// What one metric of one instance was, by the begin of its period in milliseconds.
type Series = BTreeMap<i64, f64>;

/// `c0`, `w0`, `c1`...: the metric's first letter and the instance's number.
fn query_id(metric: usize, instance: usize) -> String {
    format!("{}{instance}", ["c", "w"][metric])
}

fn query(name: &str, (metric, stat): (&str, &str), id: String, period: Span) -> MetricDataQuery {
    let dimension = Dimension::builder().name("DBInstanceIdentifier").value(name).build();
    let metric =
        Metric::builder().namespace("AWS/RDS").metric_name(metric).dimensions(dimension).build();
    let seconds = i32::try_from(period.0 / 1_000).unwrap_or(60).max(1);
    let stat = MetricStat::builder().metric(metric).period(seconds).stat(stat).build();
    MetricDataQuery::builder().id(id).metric_stat(stat).build()
}

impl Cloud {
    /// Connections to and writes of these instances, from `from` to `now`, in periods of `period`.
    ///
    /// RDS writes one value a minute, with a delay (RDS guide, "Amazon CloudWatch metrics for Amazon RDS");
    /// values of a minute are kept for 15 days (CloudWatch guide, "Metrics retention").
    ///
    /// # Errors
    /// What CloudWatch refuses or does not answer.
    pub async fn activity(
        &self,
        session: &Session,
        region: &Region,
        names: &[String],
        (from, now): (Time, Time),
        period: Span,
    ) -> Result<Activity, CloudError> {
        const OP: &str = "cloudwatch:GetMetricData";
        let client = self.cloudwatch(region.as_str());
        let to = To::cell(Class::MetricsRead, session.account.as_str(), region.as_str());
        let queries: Vec<MetricDataQuery> = names
            .iter()
            .enumerate()
            .flat_map(|(i, name)| {
                METRICS
                    .into_iter()
                    .enumerate()
                    .map(move |(m, metric)| query(name, metric, query_id(m, i), period))
            })
            .collect();
        let mut found: BTreeMap<String, Series> = BTreeMap::new();
        let mut token: Option<String> = None;
        loop {
            let page = self
                .0
                .gate
                .read(to, OP, || async {
                    let call = client
                        .get_metric_data()
                        .set_metric_data_queries(Some(queries.clone()))
                        .start_time(DateTime::from_millis(from.0))
                        .end_time(DateTime::from_millis(now.0))
                        .scan_by(ScanBy::TimestampAscending)
                        .set_next_token(token.clone())
                        .send();
                    session.within(call).await.map_err(|e| cloud_error(OP, e))
                })
                .await?;
            for result in page.metric_data_results() {
                take(&mut found, result)?;
            }
            token = page.next_token().map(str::to_owned).filter(|t| !t.is_empty());
            if token.is_none() {
                return Ok(activity(&found, names, (from, now), period));
            }
        }
    }
}

/// "PartialData" goes on on the next page; "InternalError" and "Forbidden" are no answer.
fn take(found: &mut BTreeMap<String, Series>, result: &MetricDataResult) -> Result<(), CloudError> {
    let code = result.status_code().map_or("", |c| c.as_str());
    if !["", "Complete", "PartialData"].contains(&code) {
        return Err(CloudError {
            class: ErrorClass::Unknown,
            operation: "cloudwatch:GetMetricData".into(),
            code: code.to_owned(),
            message: "CloudWatch has no answer for one of the metrics".into(),
        });
    }
    let series = found.entry(result.id().unwrap_or_default().to_owned()).or_default();
    for (at, value) in result.timestamps().iter().zip(result.values()) {
        series.insert(at.to_millis().unwrap_or_default(), *value);
    }
    Ok(())
}

/// The longest time without a value, up to the last one.
fn longest_gap(series: &Series, from: Time, period: Span) -> Span {
    let mut known = from.0;
    let mut gap = 0;
    for at in series.keys() {
        gap = gap.max(at - known);
        known = at + period.0;
    }
    Span(gap.max(0))
}

/// What the series mean together: the busiest of them, and the one that is known least.
fn activity(
    found: &BTreeMap<String, Series>,
    names: &[String],
    (from, now): (Time, Time),
    period: Span,
) -> Activity {
    let none = Series::new();
    let mut all = Activity {
        names: names.to_vec(),
        from,
        until: now,
        at: now,
        points: u32::MAX,
        gap: Span(0),
        connections: 0,
        writes: 0,
        connected_at: None,
    };
    let whole = |value: f64| value.ceil().clamp(0.0, f64::from(u32::MAX)) as u32;
    for (i, _) in names.iter().enumerate() {
        for (m, _) in METRICS.iter().enumerate() {
            // CloudWatch rounds the begin down: what was before is not asked for.
            let all_of_it = found.get(&query_id(m, i)).unwrap_or(&none);
            let series: Series = all_of_it.range(from.0..).map(|(at, v)| (*at, *v)).collect();
            all.gap = all.gap.max(longest_gap(&series, from, period));
            let end = series.keys().next_back().map_or(from, |at| Time(at + period.0));
            all.until = all.until.min(end);
            all.points = all.points.min(u32::try_from(series.len()).unwrap_or(u32::MAX));
            let most = series.values().copied().fold(0.0, f64::max);
            if m == 1 {
                all.writes = all.writes.max(whole(most));
                continue;
            }
            all.connections = all.connections.max(whole(most));
            let last = series.iter().rev().find(|(_, value)| **value > 0.0);
            all.connected_at = all.connected_at.max(last.map(|(at, _)| Time(*at)));
        }
    }
    all.until = all.until.max(from);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_counts_and_the_one_that_is_known_least() {
        let series = |list: &[(i64, f64)]| list.iter().copied().collect::<Series>();
        let minute = 60_000;
        let found = BTreeMap::from([
            ("c0".to_owned(), series(&[(0, 0.0), (minute, 0.0), (2 * minute, 0.0)])),
            ("w0".to_owned(), series(&[(0, 0.2), (minute, 0.3), (2 * minute, 4.1)])),
            ("c1".to_owned(), series(&[(0, 2.0), (minute, 0.0)])),
            ("w1".to_owned(), series(&[(0, 0.0), (minute, 0.0), (2 * minute, 0.0)])),
        ]);
        let names = ["a".to_owned(), "b".to_owned()];
        let now = Time(10 * minute);
        let seen = activity(&found, &names, (Time(0), now), Span(minute));
        assert_eq!((seen.connections, seen.writes, seen.points), (2, 5, 2));
        assert_eq!((seen.until, seen.connected_at), (Time(2 * minute), Some(Time(0))));
        assert_eq!(seen.gap, Span(0));
        let hole = BTreeMap::from([
            ("c0".to_owned(), series(&[(0, 3.0), (minute, 0.0), (6 * minute, 0.0)])),
            ("w0".to_owned(), series(&[(minute, 0.0), (6 * minute, 0.0)])),
        ]);
        let holed = activity(&hole, &names[..1], (Time(minute), now), Span(minute));
        assert_eq!(
            (holed.gap, holed.connections),
            (Span(4 * minute), 0),
            "what was before does not count"
        );
        let alone = activity(&found, &names[..1], (Time(0), now), Span(minute));
        assert_eq!((alone.connections, alone.points, alone.until), (0, 3, Time(3 * minute)));
        let nobody = activity(&BTreeMap::new(), &names, (Time(5), now), Span(minute));
        assert_eq!((nobody.points, nobody.until), (0, Time(5)), "no data is not quiet");
    }
}
