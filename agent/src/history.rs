//! Reads the history of one account: every region, every lookup.

use crate::lease::{Desk, Pipe};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ringfence_aws::{Phase, Session};
use ringfence_domain::cloud::CloudError;
use ringfence_domain::history::{Calls, Part, Reading, State, event, service_of};
use ringfence_domain::time::Span;
use ringfence_domain::work::VersionedReading;
use ringfence_proto::v1;
use tonic::{Code, Status};

/// Names the session in CloudTrail.
const RUN: &str = "ringfence-history";

/// How long a region may take. The account's lease is ours meanwhile, and its databases wait.
const REGION_FOR: Span = Span::seconds(300);

const TOO_MUCH: &str = "there are more events than LookupEvents gives in that time; name actions in the policy, not patterns, or use an export of a trail";

/// Reads all that is due. What is read is recorded once for the account: after a crash it is read again, which changes
/// nothing.
pub(crate) async fn account<P: Pipe>(
    desk: &Desk<P>,
    due: Vec<VersionedReading>,
) -> Result<(), Status> {
    for one in due {
        let id = one.reading.id.clone();
        match record(desk, read(desk, one).await).await {
            Err(status) if status.code() == Code::Aborted => {
                tracing::info!("{id}: {}", status.message());
            }
            done => done?,
        }
    }
    Ok(())
}

async fn read<P: Pipe>(desk: &Desk<P>, mut one: VersionedReading) -> VersionedReading {
    let reading = &mut one.reading;
    reading.state = State::Done;
    let entered = desk.cloud.enter(&reading.account, Phase::Scan, RUN).await;
    let session = match entered {
        Ok(session) => session,
        Err(error) => {
            let why = error.to_string();
            reading.regions.values_mut().for_each(|part| *part = Part::Failed(why.clone()));
            return one;
        }
    };
    let open = reading.regions.iter().filter(|(_, part)| **part != Part::Read);
    let open: Vec<String> = open.map(|(region, _)| region.clone()).collect();
    let mut regions: FuturesUnordered<_> = open
        .into_iter()
        .map(|name| {
            let (asked, session) = (&one.reading, &session);
            async move {
                let read = region(desk, session, asked, &name);
                let read = match tokio::time::timeout(REGION_FOR.to_duration(), read).await {
                    Ok(read) => read,
                    Err(_) => Err(format!("not read within {REGION_FOR}: {TOO_MUCH}")),
                };
                (name, read)
            }
        })
        .collect();
    let mut done = Vec::new();
    while let Some((name, read)) = regions.next().await {
        done.push((name, read));
    }
    drop(regions);
    let reading = &mut one.reading;
    for (name, read) in done {
        let part = match read {
            Ok(calls) => {
                reading.calls.extend(calls);
                Part::Read
            }
            Err(why) => Part::Failed(why),
        };
        reading.regions.insert(name, part);
    }
    desk.cloud.leave(&reading.account, Phase::Scan, RUN);
    one
}

/// All calls of a region that the reading is about.
async fn region<P: Pipe>(
    desk: &Desk<P>,
    session: &Session,
    reading: &Reading,
    region: &str,
) -> Result<Calls, String> {
    let mut calls = Calls::default();
    for lookup in &reading.lookups {
        let mut odd = None;
        let take = |record: &str| {
            let read = serde_json::from_str(record).map_err(|e| e.to_string());
            match read.and_then(|record: serde_json::Value| {
                let source = record["eventSource"].as_str().unwrap_or_default();
                lookup.is_about(&service_of(source)).then(|| event(&record)).transpose()
            }) {
                Ok(event) => event.into_iter().for_each(|e| calls.add(e)),
                // One that cannot be read may be one that would be denied.
                Err(why) => odd = Some(why),
            }
            odd.is_none()
        };
        let span = (reading.from, reading.until);
        let read: Result<(), CloudError> =
            desk.cloud.events(session, region, lookup, span, take).await;
        read.map_err(|e| e.to_string())?;
        if let Some(why) = odd {
            return Err(format!("an event is not understood: {why}"));
        }
    }
    Ok(calls)
}

async fn record<P: Pipe>(desk: &Desk<P>, one: VersionedReading) -> Result<(), Status> {
    let reading_json =
        serde_json::to_string(&one.reading).map_err(|e| Status::internal(e.to_string()))?;
    let request = v1::CommitReadingRequest {
        agent: desk.settings.name.clone(),
        lease: Some(desk.lease.clone()),
        version: one.version,
        reading_json,
    };
    desk.pipe.commit_reading(request).await.map(drop)
}
