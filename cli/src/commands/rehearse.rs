//! `ringfence rehearse`: a copy of an organization in memory.

use crate::args::{Output, Rehearse};
use crate::exit::{End, Exit, Failure};
use crate::printer;
use ringfence_simulator::run;
use serde::Serialize;

fn failure(error: &anyhow::Error) -> Failure {
    Failure::new(Exit::Error, format!("{error:#}"))
}

/// Opens the doors, says how to use them, and stays until it is interrupted.
pub(crate) async fn run(wanted: &Rehearse, output: Output) -> End {
    let args = run::Args {
        listen: wanted.listen,
        admin_listen: wanted.admin_listen,
        time_scale: wanted.time_scale,
        role: wanted.role.clone(),
        external_id: wanted.external_id.clone(),
        truth: wanted.truth.clone(),
        ..run::Args::of_inventory(&wanted.from)
    };
    let running = run::start(&args).map_err(|e| failure(&e))?;
    let (accounts, regions) = running.size();
    let endpoint = format!("http://{}", running.address);
    let admin = format!("http://{}", running.admin);
    if let Some(path) = &wanted.truth {
        running.write_truth(path).map_err(|e| failure(&e))?;
    }
    if output == Output::Json {
        #[derive(Serialize)]
        struct Doors {
            endpoint: String,
            admin: String,
            accounts: usize,
            regions: usize,
        }
        printer::json(&Doors { endpoint, admin, accounts, regions });
    } else {
        let from = wanted.from.display();
        printer::data(&format!(
            "a copy of {from}: {accounts} accounts, {regions} regions; nothing that is done here reaches AWS
AWS API     {endpoint}
admin door  {admin}

a server to rehearse with, in another terminal:
  AWS_ENDPOINT_URL={endpoint} AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=rehearsal AWS_SECRET_ACCESS_KEY=rehearsal \\
  RINGFENCE_STORE__URL=sqlite:///tmp/rehearsal.db ringfence-server"
        ));
        printer::talk("Ctrl-C ends it");
    }
    std::future::pending().await
}
