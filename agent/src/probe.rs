//! Tries in an account what must fail, and reports what AWS said.

use crate::lease::{Desk, Pipe};
use crate::now;
use ringfence_aws::{Phase, Session};
use ringfence_domain::probe::{Answer, Answered, Place};
use ringfence_domain::work::VersionedProbe;
use ringfence_proto::v1;
use tonic::{Code, Status};
use uuid::Uuid;

/// Makes all probes that are due. After a crash one is made again, which meets what the first one left, if anything.
pub(crate) async fn account<P: Pipe>(
    desk: &Desk<P>,
    due: Vec<VersionedProbe>,
) -> Result<(), Status> {
    for one in due {
        let id = one.probe.id.clone();
        match record(desk, probed(desk, one).await).await {
            Err(status) if status.code() == Code::Aborted => {
                tracing::info!("{id}: {}", status.message());
            }
            done => done?,
        }
    }
    Ok(())
}

async fn probed<P: Pipe>(desk: &Desk<P>, mut one: VersionedProbe) -> VersionedProbe {
    let place = one.probe.place.clone();
    // CloudTrail then shows with each call what it was for.
    let run = one.probe.rollout.clone().unwrap_or_else(|| one.probe.id.clone());
    let entered = desk.cloud.enter(&place.account, Phase::Probe, &run).await;
    let nothing = |why: String| Answered::both(now(), Answer::Other(why));
    let answered = match entered {
        Err(error) => nothing(error.to_string()),
        Ok(session) if session.own => nothing(
            "the role is not there, and our own credentials are bound by no service control policy"
                .to_owned(),
        ),
        // Else its denials would count as harm that the policy does.
        Ok(session) if !session.identified => nothing(
            "the session bears no SourceIdentity, by which CloudTrail tells a probe from a denial that matters: allow sts:SetSourceIdentity to the role, and leave aws.source_identity at auto"
                .to_owned(),
        ),
        Ok(session) => creates(desk, &session, &place).await,
    };
    desk.cloud.leave(&place.account, Phase::Probe, &run);
    if let Some(name) = answered.made() {
        tracing::error!("{}: in {place} there is a database {name}", one.probe.id);
    }
    one.probe.answered = Some(answered);
    one
}

async fn creates<P: Pipe>(desk: &Desk<P>, session: &Session, place: &Place) -> Answered {
    let nonce = || Uuid::new_v4().simple().to_string();
    let (group, password) = (format!("ringfence-probe-{}", nonce()), nonce());
    let names = (group.as_str(), password.as_str());
    let create = async |encrypted| {
        Answer::of(desk.cloud.create_in_vain(session, place, encrypted, names).await)
    };
    let plain = create(false).await;
    let encrypted = match plain {
        Answer::Made | Answer::Found => Answer::Other("it was not tried".to_owned()),
        _ => create(true).await,
    };
    Answered { at: now(), plain, encrypted }
}

async fn record<P: Pipe>(desk: &Desk<P>, one: VersionedProbe) -> Result<(), Status> {
    let probe_json =
        serde_json::to_string(&one.probe).map_err(|e| Status::internal(e.to_string()))?;
    let request = v1::CommitProbeRequest {
        agent: desk.settings.name.clone(),
        lease: Some(desk.lease.clone()),
        version: one.version,
        probe_json,
    };
    desk.pipe.commit_probe(request).await.map(drop)
}
