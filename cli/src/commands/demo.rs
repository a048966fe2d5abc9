//! `ringfence demo`: the whole job on a simulated organization, in a program of its own.

use crate::args::Output;
use crate::exit::{End, Exit, Failure};
use crate::printer;
use serde::Serialize;
use std::io;
use tokio::process::Command;

/// Beside this program, where `make demo` and `make all` build both.
const PROGRAM: &str = "ringfence-demo";

/// Runs it to its end. What it says goes to the standard error where a document was asked for.
pub(crate) async fn run(output: Output) -> End {
    let failure = |error: io::Error| Failure::new(Exit::Error, format!("{PROGRAM}: {error}"));
    let program = std::env::current_exe().map_err(failure)?.with_file_name(PROGRAM);
    if !program.is_file() {
        return Err(Failure {
            hint: Some("it comes with the source: `make demo` in a clone of it".into()),
            ..Failure::new(Exit::Error, format!("{} is not there", program.display()))
        });
    }
    let mut demo = Command::new(&program);
    if output == Output::Json {
        demo.stdout(io::stderr());
    }
    let passed = demo.kill_on_drop(true).status().await.map_err(failure)?.success();
    if output == Output::Json {
        #[derive(Serialize)]
        struct Verdict {
            passed: bool,
        }
        printer::json(&Verdict { passed });
    }
    Ok(if passed { Exit::Done } else { Exit::Failed })
}
