//! Secrets Manager, as far as somebody looks for secrets about a database; what is in them is kept by nobody.
//! Source: Secrets Manager API reference, CreateSecret, ListSecrets.

use super::{Ctx, Op, op};
use crate::fault::Fault;
use crate::value::{Map, list};

pub(crate) const OPS: &[Op] = &[
    op!(Write "CreateSecret" ("Name", "Description", "SecretString", "Tags", "ClientRequestToken") create),
    op!(Read "ListSecrets" ("MaxResults", "NextToken") list_all),
];

/// A secret without its value.
#[derive(Debug, Clone)]
pub(crate) struct Secret {
    name: String,
    description: String,
    tags: Vec<(String, String)>,
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
    let tag = |t: &Map| (t.text_or_empty("Key").to_owned(), t.text_or_empty("Value").to_owned());
    let tags = params.maps("Tags").map(tag).collect();
    let description = params.text_or_empty("Description").to_owned();
    ctx.cell().secrets.push(Secret { name: name.clone(), description, tags });
    Ok(Map::new().with("ARN", arn(ctx, &name)).with("Name", name))
}

fn list_all(ctx: &mut Ctx<'_>, params: &Map) -> Result<Map, Fault> {
    let most = params.int("MaxResults")?.unwrap_or(100).clamp(1, 100);
    let most = usize::try_from(most).unwrap_or(1);
    let from: usize = params.text("NextToken").and_then(|t| t.parse().ok()).unwrap_or(0);
    let all = ctx.cell().secrets.clone();
    let page: Vec<Map> = all
        .iter()
        .skip(from)
        .take(most)
        .map(|secret| {
            let tags = secret.tags.iter().map(|(k, v)| Map::new().with("Key", k).with("Value", v));
            Map::new()
                .with("ARN", arn(ctx, &secret.name))
                .with("Name", &secret.name)
                .with("Description", &secret.description)
                .with("Tags", list("member", tags))
        })
        .collect();
    let next = from + page.len();
    let more = (next < all.len()).then(|| next.to_string());
    Ok(Map::new().with("SecretList", list("member", page)).maybe("NextToken", more))
}
