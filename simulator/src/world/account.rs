//! Account management: which regions are on in an account.
//! Source: account-management API reference, ListRegions ("the management account ... must call the
//! operation without AccountId" for itself; trusted access lets it name its members).

use super::{AccountId, Ctx, Op, op};
use crate::fault::{Fault, Kind};
use crate::regions;
use crate::value::{Map, list};

pub(crate) const OPS: &[Op] = &[
    op!(Read "ListRegions" ("AccountId", "MaxResults", "NextToken", "RegionOptStatusContains") list_regions),
    op!(Read "GetRegionOptStatus" ("AccountId", "RegionName") status),
    op!(Write "EnableRegion" ("AccountId", "RegionName") enable),
    op!(Write "DisableRegion" ("AccountId", "RegionName") disable),
];

/// Regions on one page.
const PAGE: i64 = 50;

fn target(ctx: &Ctx<'_>, params: &Map) -> Result<AccountId, Fault> {
    let Some(text) = params.text("AccountId") else {
        return Ok(ctx.account);
    };
    let target: AccountId = text.parse()?;
    let org = &ctx.world.org;
    if ctx.account != org.management || target == org.management || !org.has(target) {
        let message = format!(
            "User: {} is not authorized to perform this operation on account {target}",
            ctx.who.arn
        );
        return Err(Fault::of(Kind::Denied, message));
    }
    Ok(target)
}

fn opt_status(ctx: &Ctx<'_>, account: AccountId, region: &'static str) -> &'static str {
    match (regions::opt_in(region), ctx.world.region_on(account, region)) {
        (false, _) => "ENABLED_BY_DEFAULT",
        (true, true) => "ENABLED",
        (true, false) => "DISABLED",
    }
}

fn list_regions(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let account = target(ctx, params)?;
    let max = params.int("MaxResults")?.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&max) {
        return Err(Fault::validation(format!("maxResults must be between 1 and {PAGE}")));
    }
    let wanted = params.texts("RegionOptStatusContains");
    let from: usize = match params.text("NextToken") {
        Some(token) => token.parse().map_err(|_| Fault::validation("NextToken is invalid"))?,
        None => 0,
    };
    let all: Vec<(&str, &str)> = ctx
        .world
        .regions
        .iter()
        .map(|region| (*region, opt_status(ctx, account, region)))
        .filter(|(_, status)| wanted.is_empty() || wanted.iter().any(|w| w == status))
        .collect();
    let page = all.iter().skip(from).take(max as usize);
    let region = |(name, status): &(&'static str, &'static str)| {
        Map::new().with("RegionName", *name).with("RegionOptStatus", *status)
    };
    let next = from.saturating_add(max as usize);
    Ok(Map::new()
        .with("Regions", list("member", page.map(region)))
        .maybe("NextToken", (next < all.len()).then(|| next.to_string())))
}

fn named(ctx: &Ctx<'_>, params: &Map) -> Result<&'static str, Fault> {
    let name = params.required("RegionName")?;
    let region = ctx.world.regions.iter().find(|r| **r == name).copied();
    region.ok_or_else(|| Fault::validation(format!("there is no region {name}")))
}

fn status(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let (account, region) = (target(ctx, params)?, named(ctx, params)?);
    Ok(Map::new()
        .with("RegionName", region)
        .with("RegionOptStatus", opt_status(ctx, account, region)))
}

fn enable(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    turn(ctx, params, true)
}

fn disable(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    turn(ctx, params, false)
}

fn turn(ctx: &mut Ctx<'_>, params: &Map, on: bool) -> Result<Map, Fault> {
    let (account, region) = (target(ctx, params)?, named(ctx, params)?);
    if !regions::opt_in(region) {
        return Err(Fault::validation(format!("{region} is on by default and stays on")));
    }
    ctx.world.turn_region(account, region, on);
    Ok(Map::new())
}

impl super::World {
    /// Turns an opt-in region on or off, at once.
    pub(crate) fn turn_region(&mut self, account: AccountId, region: &'static str, on: bool) {
        let mut opted: Vec<&'static str> = self
            .regions
            .iter()
            .copied()
            .filter(|r| regions::opt_in(r) && self.region_on(account, r) && *r != region)
            .collect();
        if on {
            opted.push(region);
        }
        self.opted.insert(account, opted);
    }
}
