//! CloudTrail's event history: all writes of an account and region, the denied ones too.
//! Source: CloudTrail API reference, LookupEvents (50 on a page, newest first, 90 days), and
//! "CloudTrail record contents". Reads are left out, as the console does by default.

use super::{Access, Ctx, Op, Principal, Region, World, op};
use crate::fault::Fault;
use crate::value::{Map, Time, list};
use crate::wire::{Request, json};

pub(crate) const OPS: &[Op] = &[op!(Read "LookupEvents" (
    "LookupAttributes", "StartTime", "EndTime", "MaxResults", "NextToken", "EventCategory",
) lookup)];

/// Events on a page.
const PAGE: i64 = 50;

/// Days that the history goes back.
const DAYS: i64 = 90;

/// Events kept of one account and region: a bound on memory, not a rule of AWS's.
const KEPT: usize = 5_000;

#[derive(Debug, Clone)]
pub(crate) struct Event {
    id: String,
    time: Time,
    name: &'static str,
    source: String,
    user: String,
    access_key: String,
    json: String,
}

impl World {
    /// Remembers a write, done or refused.
    #[expect(clippy::too_many_arguments, reason = "what an event consists of")]
    pub(crate) fn remember(
        &mut self,
        request: &Request,
        op: &'static Op,
        who: &Principal,
        region: Region,
        now: Time,
        id: &str,
        result: Result<&Map, &Fault>,
    ) {
        if op.access != Access::Write {
            return;
        }
        let source = format!("{}.amazonaws.com", request.service.signing_name());
        let (error, message) = match result {
            Ok(_) => (None, None),
            Err(fault) => (Some(fault.code(request.service).0), Some(fault.message.clone())),
        };
        let kind = if who.assumed { "AssumedRole" } else { "IAMUser" };
        let mut identity = serde_json::json!({
            "type": kind, "arn": who.arn, "accountId": who.account.to_string(),
            "accessKeyId": request.access_key,
        });
        if who.assumed {
            identity["sessionContext"] = serde_json::json!({
                "sessionIssuer": {"type": "Role", "arn": who.principal_arn},
                "sourceIdentity": who.source_identity,
            });
        }
        let mut record = serde_json::json!({
            "eventVersion": "1.11",
            "eventID": id,
            "requestID": id,
            "eventTime": now.to_string(),
            "eventName": op.name,
            "eventSource": source,
            "awsRegion": region,
            "recipientAccountId": who.account.to_string(),
            "readOnly": false,
            "eventType": "AwsApiCall",
            "managementEvent": true,
            "eventCategory": "Management",
            "sourceIPAddress": "127.0.0.1",
            "userIdentity": identity,
            "requestParameters": parameters(&request.params),
        });
        if let Some(error) = error {
            record["errorCode"] = error.as_ref().into();
            record["errorMessage"] = message.into();
        }
        let event = Event {
            id: id.to_owned(),
            time: now,
            name: op.name,
            source,
            user: who.arn.rsplit('/').next().unwrap_or_default().to_owned(),
            access_key: request.access_key.clone(),
            json: record.to_string(),
        };
        let trail = &mut self.cell_mut(who.account, region).trail;
        if trail.len() >= KEPT {
            trail.remove(0);
        }
        trail.push(event);
    }
}

/// As CloudTrail writes them: names in camel case, secrets hidden.
fn parameters(params: &Map) -> serde_json::Value {
    let mut out = serde_json::Map::new();
    for (name, value) in params.iter() {
        let mut letters = name.chars();
        let key: String =
            letters.next().map(|c| c.to_ascii_lowercase()).into_iter().chain(letters).collect();
        // CloudTrail spells the abbreviation in lower case: dBInstanceIdentifier.
        let secret = name.contains("Password") || name == "ExternalId";
        let value = if secret { "****".into() } else { typed(json::to_json(value)) };
        out.insert(key, value);
    }
    out.into()
}

/// The query protocol has text alone; CloudTrail writes what is a Boolean as one.
fn typed(value: serde_json::Value) -> serde_json::Value {
    match value.as_str() {
        Some("true") => true.into(),
        Some("false") => false.into(),
        Some(_) | None => value,
    }
}

/// What attribute of an event a lookup may name.
fn attribute<'a>(event: &'a Event, key: &str) -> Option<&'a str> {
    match key {
        "EventName" => Some(event.name),
        "EventSource" => Some(&event.source),
        "EventId" => Some(&event.id),
        "Username" => Some(&event.user),
        "AccessKeyId" => Some(&event.access_key),
        "ReadOnly" => Some("false"),
        _ => None,
    }
}

fn lookup(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let max = params.int("MaxResults")?.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&max) {
        let message = "A value for MaxResults must be between 1 and 50.";
        return Err(Fault::new(400, "InvalidMaxResultsException", message));
    }
    let from: usize = match params.text("NextToken") {
        Some(token) => token
            .parse()
            .map_err(|_| Fault::new(400, "InvalidNextTokenException", "The token is not valid."))?,
        None => 0,
    };
    let oldest = ctx.now.plus(-DAYS * 86_400_000);
    let start = params.time("StartTime")?.unwrap_or(oldest).max(oldest);
    let end = params.time("EndTime")?.unwrap_or(Time(i64::MAX));
    let shown = ctx.now.plus(-ctx.world.settings.trail_delay_ms);
    if start > end {
        let message = "The start time must be before the end time.";
        return Err(Fault::new(400, "InvalidTimeRangeException", message));
    }
    let mut wanted = Vec::new();
    for item in params.maps("LookupAttributes") {
        let (key, value) = (item.required("AttributeKey")?, item.required("AttributeValue")?);
        let known = ["EventName", "EventSource", "EventId", "Username", "AccessKeyId", "ReadOnly"];
        if !known.contains(&key) || !wanted.is_empty() {
            let message = "One attribute that CloudTrail can look up is allowed.";
            return Err(Fault::new(400, "InvalidLookupAttributesException", message));
        }
        wanted.push((key.to_owned(), value.to_owned()));
    }
    let found: Vec<&Event> = ctx
        .cell()
        .trail
        .iter()
        .rev()
        .filter(|e| (start..=end).contains(&e.time) && e.time <= shown)
        .filter(|e| wanted.iter().all(|(k, v)| attribute(e, k) == Some(v)))
        .collect();
    let page = found.iter().skip(from).take(max as usize).map(|event| {
        Map::new()
            .with("EventId", &event.id)
            .with("EventName", event.name)
            .with("EventTime", event.time)
            .with("EventSource", &event.source)
            .with("Username", &event.user)
            .with("AccessKeyId", &event.access_key)
            .with("ReadOnly", "false")
            .with("CloudTrailEvent", &event.json)
    });
    let next = from.saturating_add(max as usize);
    Ok(Map::new()
        .with("Events", list("member", page))
        .maybe("NextToken", (next < found.len()).then(|| next.to_string())))
}
