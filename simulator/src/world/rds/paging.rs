//! Pages and filters, as all Describe calls of RDS have them.
//! Source: RDS API reference, `MaxRecords`, `Marker` and `Filters` of each.

use crate::fault::Fault;
use crate::value::{Map, list};

/// One page of a Describe call: 20 to 100 records, 100 by default, and a marker.
pub(crate) fn page(
    params: &Map,
    plural: &'static str,
    item: &'static str,
    all: Vec<Map>,
    key: impl Fn(&Map) -> String,
) -> Result<Map, Fault> {
    let max = params.int("MaxRecords")?.unwrap_or(100);
    if !(20..=100).contains(&max) {
        let message = format!("Invalid value {max} for MaxRecords. Must be between 20 and 100");
        return Err(Fault::new(400, "InvalidParameterValue", message));
    }
    let after = params.text("Marker").unwrap_or_default();
    let rest: Vec<Map> = all.into_iter().filter(|map| key(map).as_str() > after).collect();
    let more = rest.len() > max as usize;
    let page: Vec<Map> = rest.into_iter().take(max as usize).collect();
    let marker = page.last().filter(|_| more).map(&key);
    Ok(Map::new().with(plural, list(item, page)).maybe("Marker", marker))
}

/// The values that a filter names.
pub(crate) fn filters(params: &Map, known: &[&str]) -> Result<Vec<(String, Vec<String>)>, Fault> {
    let mut found = Vec::new();
    for filter in params.maps("Filters") {
        let name = filter.required("Name")?;
        if !known.contains(&name) {
            let message = format!("Unrecognized filter name: {name}");
            return Err(Fault::new(400, "InvalidParameterValue", message));
        }
        found.push((name.to_owned(), filter.texts("Values")));
    }
    Ok(found)
}
