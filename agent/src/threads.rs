//! One runtime of one thread for each core, each an agent of its own to the server.
//!
//! A runtime whose threads share their tasks costs a third more CPU for each AWS call (docs/adr/0010).
//! Accounts are leased to one thread, so nothing needs to be shared: each has its own connections,
//! buckets and sessions, and its share of the common budgets.

use crate::{Pipe, Settings, run};
use anyhow::Context;
use ringfence_aws::Cloud;
use ringfence_proto::v1::agent_service_client::AgentServiceClient;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Starts the threads. Ends when all have left after `stop`, or with the first that fails.
///
/// `connect` is called in each thread, inside its runtime: a connection belongs to the runtime that
/// made it.
///
/// # Errors
/// A thread could not start, or broke.
pub async fn start<T>(
    settings: Settings,
    aws: ringfence_aws::Settings,
    connect: impl Fn() -> AgentServiceClient<T> + Send + Sync + 'static,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()>
where
    AgentServiceClient<T>: Pipe,
    T: 'static,
{
    let connect = Arc::new(connect);
    let (sender, mut ended) = mpsc::unbounded_channel();
    let threads = settings.threads.max(1);
    for n in 0..threads {
        let name = match settings.name.split_once('#') {
            Some((name, instance)) => format!("{name}/{n}#{instance}"),
            None => format!("{}/{n}", settings.name),
        };
        let settings = Settings { name, ..settings.clone() };
        let (aws, connect, stop) = (aws.clone(), connect.clone(), stop.clone());
        let sender = sender.clone();
        std::thread::Builder::new()
            .name(format!("agent-{n}"))
            .spawn(move || {
                let run = std::panic::AssertUnwindSafe(|| thread(settings, aws, &*connect, stop));
                let ended = std::panic::catch_unwind(run)
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("agent thread {n} broke")));
                // Nobody listens any more when another thread failed first.
                let _ = sender.send(ended);
            })
            .context("start an agent thread")?;
    }
    drop(sender);
    while let Some(ended) = ended.recv().await {
        ended?;
    }
    Ok(())
}

fn thread<T>(
    settings: Settings,
    aws: ringfence_aws::Settings,
    connect: &impl Fn() -> AgentServiceClient<T>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()>
where
    AgentServiceClient<T>: Pipe,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start an agent thread's runtime")?;
    runtime.block_on(async {
        let cloud = Cloud::new(aws).await.map_err(anyhow::Error::msg)?;
        run(connect(), cloud, settings, stop).await;
        Ok(())
    })
}
