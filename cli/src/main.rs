//! `ringfence`: the command line.

mod args;
mod client;
mod commands;
mod exit;
mod printer;

use clap::Parser;
use exit::Exit;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // clap's 2 would collide with "findings or changes present".
            let usage = error.use_stderr();
            let _ = error.print();
            return if usage { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let rehearsal = matches!(args.command, args::Command::Rehearse(_) | args::Command::Demo);
    let end = tokio::select! {
        end = commands::run(args) => end,
        _ = tokio::signal::ctrl_c() => if rehearsal {
            printer::talk("the rehearsal is over; nothing of it was kept");
            Ok(Exit::Done)
        } else {
            printer::talk("interrupted; what was started goes on at the server");
            Ok(Exit::Interrupted)
        }
    };
    match end {
        Ok(exit) => exit.into(),
        Err(failure) => {
            printer::talk(&format!("error: {}", failure.message));
            if let Some(hint) = failure.hint {
                printer::talk(&format!("hint: {hint}"));
            }
            failure.exit.into()
        }
    }
}
