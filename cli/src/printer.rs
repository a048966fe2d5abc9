//! The only place that prints: data to stdout, talk and progress to stderr.

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringfence_proto::SCHEMA_VERSION;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// One JSON document on stdout, `schema_version` first.
pub(crate) fn json<T: Serialize>(body: &T) {
    #[derive(Serialize)]
    struct Document<'a, T> {
        schema_version: &'static str,
        #[serde(flatten)]
        body: &'a T,
    }
    let document = Document { schema_version: SCHEMA_VERSION, body };
    match serde_json::to_string_pretty(&document) {
        Ok(text) => data(&text),
        Err(error) => unreachable!("an answer that is not JSON: {error}"),
    }
}

/// A line or more of data on stdout. A reader that went away (`| head`) is no error.
pub(crate) fn data(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
}

/// A line for people on stderr.
pub(crate) fn talk(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Begins a screen of what is shown again and again; where stdout is no screen, a blank line parts one from the next.
pub(crate) fn again() {
    let stdout = std::io::stdout();
    // ECMA-48: the cursor home, and all erased.
    data(if stdout.is_terminal() { "\x1b[H\x1b[2J" } else { "" });
}

/// A table on stdout; where there are no rows, its header, and a word of it for people.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) {
    let none = rows.is_empty();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.to_string().lines().map(|l| l.trim_end().to_owned()).collect();
    data(&lines.join("\n"));
    if none {
        talk("none");
    }
}

/// Progress: a bar on a terminal, a plain line at each change elsewhere.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg} {elapsed}")
            {
                bar.set_style(style);
            }
            bar
        });
        Progress { bar, last: String::new() }
    }

    pub(crate) fn show(&mut self, done: i32, total: i32, text: &str) {
        let count = |n: i32| u64::try_from(n).unwrap_or(0);
        match &self.bar {
            Some(bar) => {
                bar.set_length(count(total));
                bar.set_position(count(done));
                bar.set_message(text.to_owned());
            }
            None => {
                let line = format!("{done}/{total} {text}");
                if line != self.last {
                    talk(&line);
                    self.last = line;
                }
            }
        }
    }

    /// A line that stays, above the bar if there is one.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => talk(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
