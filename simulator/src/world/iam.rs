//! IAM, as far as inventory tools ask: the account's alias.
//! Source: IAM API reference, ListAccountAliases (an account has one alias at most).

use super::{Ctx, Op, op};
use crate::fault::Fault;
use crate::value::{Map, list};

pub(crate) const OPS: &[Op] = &[op!(Read "ListAccountAliases" ("Marker", "MaxItems") aliases)];

fn aliases(ctx: &mut Ctx<'_>, _: &Map) -> Result<Map, Fault> {
    let name = ctx.world.org.account(ctx.account).map(|account| account.name.to_lowercase());
    Ok(Map::new().with("AccountAliases", list("member", name)).with("IsTruncated", false))
}
