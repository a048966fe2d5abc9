//! A plan as people read it.

use super::{Plan, Verdict};
use crate::finding::Kind;
use crate::window;
use std::fmt::Write as _;

impl Plan {
    /// The plan as people approve it.
    pub fn text(&self) -> String {
        let body = &self.body;
        let ready = self.ready().count();
        let mut out = format!(
            "Plan {}  by {}  {}\nhash {}\n{} to encrypt, {} blocked\n",
            body.id,
            body.author,
            body.created_at,
            self.hash,
            ready,
            body.items.len() - ready
        );
        for item in &body.items {
            let mark = if item.ready() { "+" } else { "!" };
            let _ = writeln!(
                out,
                "\n{mark} {} {}  {}  {}  {}",
                item.kind.as_str(),
                item.resource.name(),
                item.resource.engine(),
                item.account,
                item.region
            );
            if item.kind == Kind::Snapshot {
                let _ = writeln!(out, "    {}", item.resource.group());
            }
            for blocker in item.texts(Verdict::Block) {
                let _ = writeln!(out, "    blocked: {blocker}");
            }
            if item.ready() {
                let _ = writeln!(out, "    {}  {}", item.kind.made(), item.twin);
                let _ = writeln!(out, "    key   {}", item.key_arn.as_deref().unwrap_or("none"));
                for (region, key) in &item.far_keys {
                    let _ = writeln!(out, "          {key} in {region}");
                }
                if !item.windows.is_empty() {
                    let _ = writeln!(out, "    when  {} (UTC)", window::show(&item.windows));
                }
                if let Some(swap) = item.swap.as_ref().filter(|s| s.green.is_some()) {
                    let switch = if swap.auto { "at once" } else { "when a person says so" };
                    let group = swap.group();
                    let _ = writeln!(
                        out,
                        "    swap  by a blue/green deployment, switchover {switch}, isolation group {group} for the original after it"
                    );
                } else if let Some(swap) = &item.swap {
                    let quiesce = swap.quiesce.as_str();
                    let cutover = if swap.auto { "at once" } else { "when a person says so" };
                    let made = if swap.make.is_some() { " (made first)" } else { "" };
                    let group = format!("{}{made}", swap.group());
                    let _ = writeln!(
                        out,
                        "    swap  {quiesce} first, isolation group {group}, cutover {cutover}"
                    );
                    for (region, group) in &swap.far_isolation {
                        let _ = writeln!(out, "          isolation group {group} in {region}");
                    }
                }
            }
            for (i, step) in item.steps.iter().enumerate() {
                let _ = writeln!(out, "    {}. {step}", i + 1);
            }
            if let Some(estimate) = &item.estimate {
                let _ = writeln!(out, "    takes {}", estimate.text());
            }
            let passed = item.checks.iter().filter(|c| c.verdict == Verdict::Pass).count();
            let _ = writeln!(out, "    {passed} of {} checks passed", item.checks.len());
            for warning in item.texts(Verdict::Warn) {
                let _ = writeln!(out, "    warning: {warning}");
            }
        }
        if ready > 0 {
            let (each, notes) = self.notes();
            let _ = writeln!(out, "\nFor every {each}:");
            for note in notes {
                let _ = writeln!(out, "  - {note}");
            }
        }
        out
    }
}
