//! `ringfence doctor`

use super::{Context, MESSAGE_MAX};
use crate::exit::{End, Exit};
use crate::printer;
use ringfence_proto::v1;
use ringfence_proto::v1::status_service_client::StatusServiceClient;

pub(crate) async fn run(context: &Context, sample: i32) -> End {
    let mut client =
        StatusServiceClient::new(context.connection.clone()).max_decoding_message_size(MESSAGE_MAX);
    let answer = client.run_doctor(v1::RunDoctorRequest { sample }).await?.into_inner();
    let failed = answer.checks.iter().any(|c| c.outcome() == v1::CheckOutcome::Failed);
    if context.json() {
        printer::json(&answer);
    } else {
        for check in &answer.checks {
            let mark = match check.outcome() {
                v1::CheckOutcome::Ok => "ok  ",
                v1::CheckOutcome::Warning => "warn",
                v1::CheckOutcome::Failed | v1::CheckOutcome::Unspecified => "FAIL",
            };
            printer::data(&format!("{mark}  {:<16} {}", check.name, check.message));
            if !check.fix.is_empty() {
                printer::data(&format!("      {:<16} -> {}", "", check.fix));
            }
        }
    }
    Ok(if failed { Exit::Error } else { Exit::Done })
}
