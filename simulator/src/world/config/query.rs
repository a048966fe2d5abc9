//! `SelectAggregateResourceConfig`: `SELECT fields WHERE field = value AND ...` over all accounts.
//! Source: Config guide, "Query components": no FROM, no JOIN; resources that no recorder sees are
//! invisible.

use super::slice;
use crate::fault::Fault;
use crate::value::{Map, Value};
use crate::wire::json;
use crate::world::rds::Rds;
use crate::world::{AccountId, Ctx, Region};

/// Characters of an expression.
const LONGEST: usize = 4_096;

struct Query {
    fields: Vec<String>,
    conditions: Vec<(String, String)>,
}

fn parse(expression: &str) -> Result<Query, Fault> {
    let bad = |why: &str| Fault::new(400, "InvalidExpressionException", why.to_owned());
    if expression.len() > LONGEST {
        return Err(bad("the expression is longer than 4096 characters"));
    }
    let flat = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    let lower = flat.to_ascii_lowercase();
    if !lower.starts_with("select ") {
        return Err(bad("the expression must start with SELECT"));
    }
    let at = lower.find(" where ").unwrap_or(flat.len());
    let fields: Vec<String> = flat
        .get(7..at)
        .unwrap_or_default()
        .split(',')
        .map(|f| f.trim().to_owned())
        .filter(|f| !f.is_empty())
        .collect();
    let mut conditions = Vec::new();
    let rest = flat.get(at + 7..).unwrap_or_default();
    let mut tail = rest;
    while !tail.is_empty() {
        let end = tail.to_ascii_lowercase().find(" and ").unwrap_or(tail.len());
        let (name, value) = tail[..end]
            .split_once('=')
            .ok_or_else(|| bad("the simulator models conditions of the form field = value"))?;
        let value = value.trim().trim_matches(['\'', '"']);
        conditions.push((name.trim().to_owned(), value.to_owned()));
        tail = tail.get(end + 5..).unwrap_or_default();
    }
    if fields.is_empty() {
        return Err(bad("the expression selects nothing"));
    }
    Ok(Query { fields, conditions })
}

/// The rows of one account and region, with the names that recorded items have.
fn rows(rds: &Rds, account: AccountId, region: Region) -> Vec<Map> {
    let base = |kind: &'static str, id: &str, name: &str, arn: &str| {
        Map::new()
            .with("accountId", account.to_string())
            .with("awsRegion", region)
            .with("resourceType", kind)
            .with("resourceId", id.to_owned())
            .with("resourceName", name.to_owned())
            .with("arn", format!("arn:aws:rds:{region}:{account}:{arn}:{name}"))
    };
    let mut rows = Vec::new();
    for i in rds.instances.values() {
        let row = base("AWS::RDS::DBInstance", &i.dbi, &i.name, "db")
            .with("configuration.storageEncrypted", i.settings.is("StorageEncrypted"))
            .with("configuration.engine", i.settings.text_or_empty("Engine").to_owned())
            .with("configuration.dBInstanceIdentifier", &i.name)
            .with("configuration.dbiResourceId", &i.dbi);
        rows.push(row.maybe("configuration.dBClusterIdentifier", i.cluster.clone()));
    }
    for c in rds.clusters.values() {
        rows.push(
            base("AWS::RDS::DBCluster", &c.resource_id, &c.name, "cluster")
                .with("configuration.storageEncrypted", c.settings.is("StorageEncrypted"))
                .with("configuration.engine", c.settings.text_or_empty("Engine").to_owned())
                .with("configuration.dbclusterIdentifier", &c.name)
                .with("configuration.dbClusterResourceId", &c.resource_id),
        );
    }
    rows
}

fn equal(value: Option<&Value>, wanted: &str) -> bool {
    match value {
        Some(Value::Text(text)) => text == wanted,
        Some(Value::Bool(flag)) => {
            wanted.eq_ignore_ascii_case(if *flag { "true" } else { "false" })
        }
        _ => false,
    }
}

/// `configuration.engine` nested, as the reply writes it.
fn nested(row: &Map, fields: &[String]) -> String {
    let mut out = serde_json::Map::new();
    for field in fields {
        let Some(value) = row.get(field) else { continue };
        let value = json::to_json(value);
        match field.split_once('.') {
            Some((top, inner)) => {
                let top = out.entry(top.to_owned()).or_insert_with(|| serde_json::json!({}));
                top[inner] = value;
            }
            None => {
                out.insert(field.clone(), value);
            }
        }
    }
    serde_json::Value::from(out).to_string()
}

pub(super) fn select(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let expression = params.required("Expression")?.to_owned();
    let name = params.required("ConfigurationAggregatorName")?;
    if !ctx.world.config_org.aggregators.contains_key(name) {
        let message = format!("The configuration aggregator {name} does not exist.");
        return Err(Fault::new(400, "NoSuchConfigurationAggregatorException", message));
    }
    let limit = params.int("Limit")?.or(params.int("MaxResults")?).unwrap_or(25);
    if !(1..=100).contains(&limit) {
        return Err(Fault::new(400, "InvalidLimitException", "Limit must be between 1 and 100"));
    }
    let query = parse(&expression)?;
    let fresh = ctx.world.config_org.last_query.as_ref().is_some_and(|(text, at, _)| {
        *text == expression && params.has("NextToken") && ctx.now < at.plus(900_000)
    });
    if !fresh {
        let found = run(ctx, &query);
        ctx.world.config_org.last_query = Some((expression, ctx.now, found));
    }
    let rows = ctx.world.config_org.last_query.as_ref().map(|(_, _, rows)| rows.as_slice());
    // As texts: each row is a JSON document of its own.
    let all: Vec<Map> =
        rows.unwrap_or_default().iter().map(|row| Map::new().with("row", row)).collect();
    let page = slice(params, "Results", all, limit as usize)?;
    let rows: Vec<Value> = page.maps("Results").filter_map(|map| map.get("row").cloned()).collect();
    let info = query.fields.iter().map(|field| Map::new().with("Name", field));
    let info = Map::new().with("SelectFields", crate::value::list("member", info));
    Ok(Map::new()
        .with("Results", Value::List("member", rows))
        .with("QueryInfo", info)
        .maybe("NextToken", page.text("NextToken").map(str::to_owned)))
}

fn run(ctx: &mut Ctx<'_>, query: &Query) -> Vec<String> {
    let accounts: Vec<AccountId> = ctx.world.org.accounts().map(|a| a.id).collect();
    let regions = ctx.world.regions.clone();
    let now = ctx.now;
    let mut found = Vec::new();
    for account in accounts {
        for region in regions.iter().copied() {
            if !ctx.world.region_on(account, region) {
                continue;
            }
            let rows = ctx.world.with_cell(account, region, now, |cell| {
                let recorded = cell.config.recorder.as_ref().is_some_and(|r| r.recording);
                if recorded { rows(&cell.rds, account, region) } else { Vec::new() }
            });
            let matching = rows.into_iter().filter(|row| {
                query.conditions.iter().all(|(name, value)| equal(row.get(name), value))
            });
            found.extend(matching.map(|row| nested(&row, &query.fields)));
        }
    }
    found
}
