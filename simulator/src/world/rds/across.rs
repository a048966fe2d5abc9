//! Read replicas across regions: each side learns of the other's names and end whenever it is looked at.
//! Source: RDS user guide, "Creating a read replica in a different AWS Region" and "Renaming a DB instance" ("all read
//! replicas remain associated with that instance after it is renamed"). Names across regions are ARNs.

use super::instances::{Instance, combination, not_found};
use crate::fault::Fault;
use crate::regions;
use crate::value::Time;
use crate::world::{AccountId, Ctx, Region, World};

/// A database by what never changes.
type Place = (Region, String);

/// A replica with a source in another region.
#[derive(Debug, Clone)]
pub(crate) struct Across {
    account: AccountId,
    source: Place,
    replica: Place,
}

/// The region of an ARN that is not of this one.
pub(super) fn elsewhere(id: &str, here: Region) -> Option<&str> {
    let region = id.starts_with("arn:").then(|| id.split(':').nth(3))??;
    (region != here).then_some(region)
}

/// The source of a replica that is made here, in that other region.
pub(super) fn source(ctx: &mut Ctx<'_>, arn: &str, region: &str) -> Result<Instance, Fault> {
    let name = arn.rsplit(':').next().unwrap_or_default().to_lowercase();
    let own = arn.split(':').nth(4) == Some(&ctx.account.to_string());
    let (account, now) = (ctx.account, ctx.now);
    let found = regions::find(region).filter(|_| own).and_then(|region| {
        ctx.world.enter(account, region, now);
        ctx.world.cell_mut(account, region).rds.instances.get(&name).cloned()
    });
    let found = found.ok_or_else(|| not_found(arn))?;
    if found.engine()?.sql_server() {
        // "This doesn't apply to SQL Server" (API reference, SourceDBInstanceIdentifier).
        return Err(combination("SQL Server has no read replicas in other regions."));
    }
    Ok(found)
}

/// Remembers a new one; it is shown at the next look at either region.
pub(super) fn link(ctx: &mut Ctx<'_>, source: (Region, &Instance), replica: &str) {
    let Some(made) = ctx.rds().instances.get(replica).map(|i| i.dbi.clone()) else { return };
    let (account, here) = (ctx.account, ctx.region);
    let source = (source.0, source.1.dbi.clone());
    ctx.world.across.push(Across { account, source, replica: (here, made) });
}

impl World {
    fn by_place(&mut self, account: AccountId, (region, dbi): &Place) -> Option<&mut Instance> {
        self.cell_mut(account, region).rds.by_dbi(dbi)
    }

    /// Lets a region know what has become of its sources and replicas elsewhere.
    pub(crate) fn meet(&mut self, account: AccountId, here: Region, now: Time) {
        let touches =
            |a: &Across| a.account == account && [a.source.0, a.replica.0].contains(&here);
        if !self.across.iter().any(touches) {
            return;
        }
        let (met, mut rest): (Vec<Across>, Vec<Across>) =
            std::mem::take(&mut self.across).into_iter().partition(|a| touches(a));
        for one in self.cell_mut(account, here).rds.instances.values_mut() {
            one.far_replicas.clear();
        }
        for one in met {
            for (region, _) in [&one.source, &one.replica] {
                self.cell_mut(account, region).rds.settle(now);
            }
            let source = self.by_place(account, &one.source).map(|i| i.arn(account, one.source.0));
            let Some(replica) = self.by_place(account, &one.replica) else { continue };
            if replica.source.is_none() {
                continue; // promoted
            }
            match source {
                Some(arn) => replica.source = Some(arn),
                // "the replication status is set to terminated. The read replica isn't promoted" (PostgreSQL)
                None if replica.settings.text_or_empty("Engine") == "postgres" => {
                    replica.terminated = true;
                    continue;
                }
                None => {
                    replica.source = None;
                    continue;
                }
            }
            let arn = replica.arn(account, one.replica.0);
            if one.source.0 == here
                && let Some(source) = self.by_place(account, &one.source)
            {
                source.far_replicas.push(arn);
            }
            rest.push(one);
        }
        self.across = rest;
    }
}
