//! `ringfence rollout probe`: proves that probes make nothing.

use super::rollout::Client;
use super::{Context, missing, request_id, within};
use crate::exit::{End, Exit};
use crate::printer;
use ringfence_domain::time::Span;
use ringfence_proto::v1;

pub(super) async fn run(
    context: &Context,
    mut client: Client,
    (account, region): (String, String),
    timeout: Option<Span>,
) -> End {
    let request = v1::ProveProbesRequest { request_id: request_id(), account, region };
    let proof = async {
        let mut stream = client.prove_probes(request).await?.into_inner();
        let mut told = false;
        while let Some(proof) = stream.message().await? {
            if !proof.unencrypted.is_empty() {
                return Ok(proof);
            }
            if !std::mem::replace(&mut told, true) {
                printer::talk(&format!(
                    "{}: an agent is to try two creates that must fail, in {} {}",
                    proof.id, proof.account, proof.region
                ));
            }
        }
        Err(missing("what came of the probe"))
    };
    let proof = within(timeout, "the probe", proof).await?;
    if context.json() {
        printer::json(&proof);
    } else {
        printer::data(&format!("without encryption: {}", proof.unencrypted));
        printer::data(&format!("with encryption:    {}", proof.encrypted));
        match proof.proven {
            true => printer::data(
                "probes are proven: AWS looked for the subnet group, and made nothing; `probe = true` in a rollout file uses them",
            ),
            false => printer::data(&format!("probes are not proven by this: {}", proof.why)),
        }
    }
    Ok(if proof.proven { Exit::Done } else { Exit::Refused })
}
