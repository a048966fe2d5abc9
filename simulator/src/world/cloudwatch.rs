//! CloudWatch: connections and writes of each database, and alarms.
//!
//! Source: CloudWatch API reference, GetMetricData; RDS user guide, "Amazon CloudWatch metrics for
//! RDS". Metrics are looked up by name, and are those of the database that has the name now. They
//! lag by a minute, and WriteIOPS of an idle engine is small and not zero (checkpoints, vacuum). A minute
//! is as short as the time scale makes it, so that a stretch of quiet can be waited for.

use super::{Ctx, Op, op};
use crate::fault::Fault;
use crate::hash;
use crate::value::{Map, Time, Value, list};
use std::collections::BTreeMap;

pub(crate) const OPS: &[Op] = &[
    op!(Read "GetMetricData" (
        "MetricDataQueries", "StartTime", "EndTime", "NextToken", "ScanBy", "MaxDatapoints", "LabelOptions",
    ) data),
    op!(Read "GetMetricStatistics" (
        "Namespace", "MetricName", "Dimensions", "StartTime", "EndTime", "Period", "Statistics", "Unit",
    ) statistics),
    op!(Read "ListMetrics" ("Namespace", "MetricName", "Dimensions", "NextToken") metrics),
    op!(Write "PutMetricAlarm" (
        "AlarmName", "AlarmDescription", "ActionsEnabled", "AlarmActions", "OKActions", "MetricName",
        "Namespace", "Statistic", "Dimensions", "Period", "EvaluationPeriods", "Threshold",
        "ComparisonOperator", "TreatMissingData", "Tags",
    ) put_alarm),
    op!(Write "SetAlarmState" ("AlarmName", "StateValue", "StateReason", "StateReasonData") set_alarm),
    op!(Read "DescribeAlarms" ("AlarmNames", "AlarmNamePrefix", "StateValue", "MaxRecords", "NextToken", "AlarmTypes") alarms),
    op!(Write "DeleteAlarms" ("AlarmNames") delete_alarms),
];

/// "500 MetricDataQuery structures in one call".
const QUERIES: usize = 500;
/// Datapoints of one call.
const POINTS: i64 = 100_800;
/// Values of one period at most.
const VALUES: i64 = 60;

/// What people do to a database from a moment on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) since: Time,
    pub(crate) connections: f64,
    pub(crate) write_iops: f64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// By the name of the instance.
    pub(crate) loads: BTreeMap<String, Vec<Load>>,
    alarms: BTreeMap<String, Map>,
}

/// The value of a metric of a database at a moment.
fn sample(ctx: &mut Ctx<'_>, metric: &str, name: &str, at: Time) -> Option<f64> {
    // A minute is complete when it is over, and known a minute later.
    let known = at.plus(ctx.world.scaled(120));
    if known > ctx.now {
        return None;
    }
    let cell = ctx.cell();
    let instance = cell.rds.instances.get(name)?;
    if instance.created.is_none_or(|created| at < created) || instance.was_stopped(at) {
        return None;
    }
    let loads = cell.metrics.loads.get(name).map(Vec::as_slice).unwrap_or_default();
    let load = loads.iter().rev().find(|load| load.since <= at);
    match metric {
        "DatabaseConnections" => Some(load.map_or(0.0, |l| l.connections)),
        "WriteIOPS" => {
            let noise = (hash::of(at.0 as u64, name) % 40) as f64 / 100.0;
            Some(load.map_or(0.0, |l| l.write_iops) + noise)
        }
        "ReadIOPS" | "CPUUtilization" => Some((hash::of(at.0 as u64, name) % 500) as f64 / 100.0),
        "TransactionLogsGeneration" => Some(load.map_or(0.0, |l| l.write_iops) * 16_384.0),
        _ => None,
    }
}

/// The database that the dimensions name; a cluster's metrics are those of its writer.
fn subject(ctx: &mut Ctx<'_>, metric: &Map) -> Option<String> {
    if metric.text("Namespace") != Some("AWS/RDS") {
        return None;
    }
    let value = |name: &str| {
        let mut all = metric.maps("Dimensions");
        all.find(|d| d.text("Name") == Some(name)).and_then(|d| d.text("Value")).map(str::to_owned)
    };
    if let Some(name) = value("DBInstanceIdentifier") {
        return Some(name);
    }
    let cluster = value("DBClusterIdentifier")?;
    ctx.rds().clusters.get(&cluster)?.members.first().cloned()
}

/// The points of a metric between two moments, one a period.
fn points(
    ctx: &mut Ctx<'_>,
    metric: &Map,
    (start, end): (Time, Time),
    period: i64,
    stat: &str,
) -> Vec<(Time, f64)> {
    let Some(name) = subject(ctx, metric) else {
        return Vec::new();
    };
    let which = metric.text_or_empty("MetricName").to_owned();
    let step = period * 1000;
    // One value a minute, which passes as fast as everything else here.
    let minute = ctx.world.scaled(60).max(1).max(step / VALUES);
    let mut found = Vec::new();
    let mut at = Time(start.0.div_euclid(step) * step);
    while at < end {
        let first = (at.0 + minute - 1).div_euclid(minute) * minute;
        let minutes = (first..at.0 + step).step_by(minute as usize);
        let values: Vec<f64> =
            minutes.filter_map(|minute| sample(ctx, &which, &name, Time(minute))).collect();
        if !values.is_empty() {
            let sum: f64 = values.iter().sum();
            let value = match stat {
                "Sum" => sum,
                "SampleCount" => values.len() as f64,
                "Maximum" => values.iter().copied().fold(f64::MIN, f64::max),
                "Minimum" => values.iter().copied().fold(f64::MAX, f64::min),
                _ => sum / values.len() as f64,
            };
            found.push((at, value));
        }
        at = at.plus(step);
    }
    found
}

fn range(params: &Map, period: i64, series: i64) -> Result<(Time, Time), Fault> {
    let start = params.time("StartTime")?.unwrap_or_default();
    let end = params.time("EndTime")?.unwrap_or_default();
    let invalid = |message: &str| Fault::new(400, "InvalidParameterValue", message.to_owned());
    if start >= end {
        return Err(invalid("The parameter StartTime must be less than the parameter EndTime."));
    }
    // API reference, MetricStat, Period.
    let fine = [1, 5, 10, 20, 30].contains(&period);
    if !fine && (!(60..=86_400).contains(&period) || period % 60 != 0) {
        return Err(invalid(
            "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60, and a day at most.",
        ));
    }
    if (end.0 - start.0) / 1000 / period * series > POINTS {
        return Err(invalid("You have requested too many datapoints."));
    }
    Ok((start, end))
}

fn data(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let queries: Vec<Map> = params.maps("MetricDataQueries").cloned().collect();
    if queries.is_empty() || queries.len() > QUERIES {
        let message = format!("Between 1 and {QUERIES} queries can be made in one call.");
        return Err(Fault::validation(message));
    }
    let mut results = Vec::new();
    for query in &queries {
        let id = query.required("Id")?.to_owned();
        let Some(stat) = query.map("MetricStat") else {
            let message = "the simulator models queries with MetricStat, not with Expression";
            return Err(Fault::of(crate::fault::Kind::NotModelled, message));
        };
        let metric = stat.map("Metric").cloned().unwrap_or_default();
        let period = stat.int("Period")?.unwrap_or(60);
        let range = range(params, period, queries.len() as i64)?;
        let mut found = points(ctx, &metric, range, period, stat.text_or_empty("Stat"));
        if params.text("ScanBy") != Some("TimestampAscending") {
            found.reverse();
        }
        let label = query.text("Label").unwrap_or(metric.text_or_empty("MetricName"));
        results.push(
            Map::new()
                .with("Id", id)
                .with("Label", label.to_owned())
                .with("StatusCode", "Complete")
                .with("Timestamps", list("member", found.iter().map(|(at, _)| *at)))
                .with("Values", list("member", found.iter().map(|(_, value)| *value))),
        );
    }
    let nothing: [Map; 0] = [];
    Ok(Map::new()
        .with("MetricDataResults", list("member", results))
        .with("Messages", list("member", nothing)))
}

fn statistics(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let period = params.int("Period")?.unwrap_or(60);
    let range = range(params, period, 1)?;
    let mut table: BTreeMap<Time, Map> = BTreeMap::new();
    for stat in params.texts("Statistics") {
        for (at, value) in points(ctx, params, range, period, &stat) {
            table.entry(at).or_default().set(stat.clone(), value);
        }
    }
    let unit =
        if params.text("MetricName") == Some("WriteIOPS") { "Count/Second" } else { "Count" };
    let points = table.into_iter().map(|(at, map)| map.with("Timestamp", at).with("Unit", unit));
    Ok(Map::new()
        .with("Label", params.required("MetricName")?.to_owned())
        .with("Datapoints", list("member", points)))
}

fn metrics(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let names: Vec<String> = ctx.rds().instances.keys().cloned().collect();
    let wanted = params.text("MetricName");
    let mut all = Vec::new();
    for name in names {
        for metric in ["DatabaseConnections", "WriteIOPS", "ReadIOPS", "CPUUtilization"] {
            if wanted.is_none_or(|w| w == metric) {
                let dimension =
                    Map::new().with("Name", "DBInstanceIdentifier").with("Value", &name);
                all.push(
                    Map::new()
                        .with("Namespace", "AWS/RDS")
                        .with("MetricName", metric)
                        .with("Dimensions", list("member", [dimension])),
                );
            }
        }
    }
    Ok(Map::new().with("Metrics", list("member", all)))
}

fn put_alarm(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("AlarmName")?.to_owned();
    let mut alarm = Map::new();
    for field in [
        "AlarmName",
        "AlarmDescription",
        "MetricName",
        "Namespace",
        "Statistic",
        "ComparisonOperator",
        "TreatMissingData",
    ] {
        alarm = alarm.maybe(field, params.get(field).cloned());
    }
    for (field, value) in [
        ("Period", params.int("Period")?.map(Value::Int)),
        ("EvaluationPeriods", params.int("EvaluationPeriods")?.map(Value::Int)),
        ("Threshold", params.float("Threshold")?.map(Value::Float)),
    ] {
        alarm = alarm.maybe(field, value);
    }
    let actions = params.flag("ActionsEnabled")?.unwrap_or(true);
    let dimensions: Vec<Map> = params.maps("Dimensions").cloned().collect();
    let alarm = alarm
        .with("AlarmArn", ctx.arn("cloudwatch", &format!("alarm:{name}")))
        .with("ActionsEnabled", actions)
        .with("Dimensions", list("member", dimensions))
        .with("StateValue", "INSUFFICIENT_DATA")
        .with("StateReason", "Unchecked: Initial alarm creation")
        .with("StateUpdatedTimestamp", ctx.now);
    ctx.cell().metrics.alarms.insert(name, alarm);
    Ok(Map::new())
}

fn set_alarm(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("AlarmName")?.to_owned();
    let state = params.required("StateValue")?.to_owned();
    if !["OK", "ALARM", "INSUFFICIENT_DATA"].contains(&state.as_str()) {
        return Err(Fault::validation("StateValue must be OK, ALARM or INSUFFICIENT_DATA"));
    }
    let reason = params.required("StateReason")?.to_owned();
    let now = ctx.now;
    let alarm = ctx.cell().metrics.alarms.get_mut(&name);
    let alarm =
        alarm.ok_or_else(|| Fault::new(404, "ResourceNotFound", format!("no alarm {name}")))?;
    alarm.set("StateValue", state);
    alarm.set("StateReason", reason);
    alarm.set("StateUpdatedTimestamp", now);
    Ok(Map::new())
}

fn alarms(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let names = params.texts("AlarmNames");
    let prefix = params.text_or_empty("AlarmNamePrefix").to_owned();
    let state = params.text("StateValue").map(str::to_owned);
    let all = ctx.cell().metrics.alarms.iter().filter(|(name, alarm)| {
        (names.is_empty() || names.contains(name))
            && name.starts_with(&prefix)
            && state.as_deref().is_none_or(|s| alarm.text("StateValue") == Some(s))
    });
    let all: Vec<Map> = all.map(|(_, alarm)| alarm.clone()).collect();
    Ok(Map::new().with("MetricAlarms", list("member", all)))
}

fn delete_alarms(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let names = params.texts("AlarmNames");
    ctx.cell().metrics.alarms.retain(|name, _| !names.contains(name));
    Ok(Map::new())
}
