//! Secrets Manager, as far as somebody looks for secrets about a database; what is in them is kept by nobody.
//! Source: Secrets Manager API reference, CreateSecret, ListSecrets.

use super::config::slice;
use super::organizations::{read_tags, write_tags};
use super::{Ctx, Op, op};
use crate::fault::Fault;
use crate::value::Map;
use std::collections::BTreeMap;

pub(crate) const OPS: &[Op] = &[
    op!(Write "CreateSecret" ("Name", "Description", "SecretString", "Tags", "ClientRequestToken") create),
    op!(Read "ListSecrets" ("MaxResults", "NextToken") list_all),
];

/// A secret without its value.
#[derive(Debug, Clone)]
pub(crate) struct Secret {
    name: String,
    description: String,
    tags: BTreeMap<String, String>,
}

fn arn(ctx: &Ctx<'_>, name: &str) -> String {
    ctx.arn("secretsmanager", &format!("secret:{name}-aB1cD2"))
}

fn create(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let name = params.required("Name")?.to_owned();
    if ctx.cell().secrets.iter().any(|s| s.name == name) {
        let message = format!("The operation failed because the secret {name} already exists.");
        return Err(Fault::new(400, "ResourceExistsException", message));
    }
    let tags = read_tags(params)?;
    let description = params.text_or_empty("Description").to_owned();
    ctx.cell().secrets.push(Secret { name: name.clone(), description, tags });
    Ok(Map::new().with("ARN", arn(ctx, &name)).with("Name", name))
}

fn list_all(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let most = params.int("MaxResults")?.unwrap_or(100).clamp(1, 100);
    let most = usize::try_from(most).unwrap_or(1);
    let all = ctx.cell().secrets.clone();
    let all = all
        .iter()
        .map(|secret| {
            Map::new()
                .with("ARN", arn(ctx, &secret.name))
                .with("Name", &secret.name)
                .with("Description", &secret.description)
                .with("Tags", write_tags("member", &secret.tags))
        })
        .collect();
    slice(params, "SecretList", all, most)
}
