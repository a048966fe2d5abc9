//! What is looked at before anything is created: each check passes, warns or blocks, and says what to do.

use serde::{Deserialize, Serialize};

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong.
    Pass,
    /// It can be done; people should know this before they agree.
    Warn,
    /// It cannot be done.
    Block,
}

impl Verdict {
    /// The name in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Block => "block",
        }
    }
}

/// One check of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What is wrong and what to do; empty where it passed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl Check {
    /// What came of a check; the text is empty where it passed.
    pub(super) fn new(name: &str, verdict: Verdict, text: String) -> Check {
        Check { name: name.to_owned(), verdict, text }
    }
}

/// The checks of one database, in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Checks(pub(super) Vec<Check>);

impl Checks {
    /// Notes a check: passed unless there is something to say.
    pub(super) fn see(
        &mut self,
        name: &str,
        verdict: Verdict,
        texts: impl IntoIterator<Item = String>,
    ) {
        let mut texts = texts.into_iter().peekable();
        if texts.peek().is_none() {
            if !self.0.iter().any(|c| c.name == name) {
                self.0.push(Check::new(name, Verdict::Pass, String::new()));
            }
            return;
        }
        self.0.retain(|c| c.name != name || c.verdict != Verdict::Pass);
        self.0.extend(texts.map(|text| Check::new(name, verdict, text)));
    }

    /// Notes a check that blocks where there is something to say.
    pub(super) fn block(&mut self, name: &str, texts: impl IntoIterator<Item = String>) {
        self.see(name, Verdict::Block, texts);
    }

    /// Notes a check that warns where there is something to say.
    pub(super) fn warn(&mut self, name: &str, texts: impl IntoIterator<Item = String>) {
        self.see(name, Verdict::Warn, texts);
    }

    /// Whether nothing blocks.
    pub(super) fn ready(&self) -> bool {
        self.0.iter().all(|c| c.verdict != Verdict::Block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_passes_once_unless_it_has_something_to_say() {
        let mut checks = Checks::default();
        checks.block("status", None);
        checks.block("status", None);
        checks.block("class", None);
        assert_eq!((checks.0.len(), checks.ready()), (2, true));
        checks.warn("status", ["slow".to_owned()]);
        checks.block("status", None);
        assert!(checks.ready() && checks.0.len() == 2, "{checks:?}");
        checks.block("status", ["gone".to_owned()]);
        assert!(!checks.ready());
        let words: Vec<_> = checks.0.iter().map(|c| (c.name.as_str(), c.verdict)).collect();
        let want =
            [("class", Verdict::Pass), ("status", Verdict::Warn), ("status", Verdict::Block)];
        assert_eq!(words, want);
    }
}
