//! What the store's tallies mean: counts of cells by state and by AWS Config's word, and of open findings
//! by label.

use ringfence_domain::ledger::{CellState, Coverage};
use std::collections::BTreeMap;

/// Counts of some cells and of the open findings in them.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// The cells.
    pub coverage: Coverage,
    /// Open findings of each label.
    open: Vec<(String, u32)>,
    /// Cells by AWS Config's word on them; those of which it was not asked are left out.
    pub config: BTreeMap<String, u32>,
}

impl Tally {
    /// From the keys and counts of the store: `cell/STATE`, `open/LABEL` and `config/WORD`.
    pub fn new<'a>(counts: impl IntoIterator<Item = (&'a str, i64)>) -> Tally {
        let (mut cells, mut open, mut config) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (key, n) in counts {
            let n = u32::try_from(n).unwrap_or(u32::MAX);
            match key.split_once('/') {
                // A state of another version is not an answer.
                Some(("cell", state)) => {
                    cells.push((CellState::parse(state).unwrap_or(CellState::Error), n));
                }
                Some(("open", label)) => open.push((label.to_owned(), n)),
                Some(("config", word)) => *config.entry(word.to_owned()).or_default() += n,
                _ => {}
            }
        }
        Tally { coverage: Coverage::new(cells), open, config }
    }

    /// Open findings whose label a test lets through.
    pub fn open(&self, test: impl Fn(&str) -> bool) -> u32 {
        self.open.iter().filter(|(label, _)| test(label)).map(|(_, n)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_and_nothing_is_left_out() {
        let tally = Tally::new([
            ("cell/clean", 3),
            ("cell/denied", 2),
            ("cell/from-the-future", 1),
            ("open/instance", 4),
            ("open/instance+held", 1),
            ("open/cluster", 2),
            ("config/blind", 2),
            ("config/blind", 1),
        ]);
        assert_eq!(tally.config, BTreeMap::from([("blind".to_owned(), 3)]));
        assert_eq!(tally.coverage.cells(), 6);
        assert_eq!(tally.coverage.count(CellState::answered), 3);
        assert_eq!(tally.coverage.count(CellState::failed), 3);
        assert_eq!(tally.open(|l| l.starts_with("instance")), 5);
        assert_eq!((tally.open(|l| l.ends_with("+held")), tally.open(|_| true)), (1, 7));
    }
}
