//! From single runs to a table: the median with its spread for each side, and the ratio of each
//! natshook run to the bare run beside it.

use std::fmt::Write;

use crate::rig::Connector;

/// One line of a table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) decimals: usize,
    /// What natshook is to reach, as issue and README say it; empty where nothing is promised.
    pub(crate) wanted: &'static str,
}

/// The runs of both sides, in the order they were made.
pub(crate) struct Pairs {
    rows: &'static [Row],
    natshook: Vec<Vec<f64>>,
    bare: Vec<Vec<f64>>,
}

impl Pairs {
    pub(crate) fn new(rows: &'static [Row]) -> Self {
        Self { rows, natshook: Vec::new(), bare: Vec::new() }
    }

    /// `figures` has one value for each row.
    pub(crate) fn add(&mut self, connector: Connector, figures: Vec<f64>) {
        match connector {
            Connector::Natshook => self.natshook.push(figures),
            Connector::Bare => self.bare.push(figures),
        }
    }

    /// Median (min to max) in each cell; a side that did not run leaves its cells empty.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| median (min to max)              | natshook                  | bare loop                 | natshook / bare     | wanted         |\n\
             |----------------------------------|---------------------------|---------------------------|---------------------|----------------|\n",
        );
        for (column, row) in self.rows.iter().enumerate() {
            let of = |runs: &[Vec<f64>]| -> Vec<f64> { runs.iter().map(|run| run[column]).collect() };
            let (natshook, bare) = (of(&self.natshook), of(&self.bare));
            let ratios: Vec<f64> = natshook.iter().zip(&bare).map(|(ours, theirs)| ours / theirs).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "| {:<32} | {:<25} | {:<25} | {:<19} | {:<14} |",
                row.name,
                spread(natshook, row.decimals),
                spread(bare, row.decimals),
                spread(ratios, 2),
                row.wanted
            );
        }
        table
    }
}

/// Median (min to max).
pub(crate) fn spread(values: Vec<f64>, decimals: usize) -> String {
    let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(min, max), v| (v.min(min), v.max(max)));
    if values.is_empty() {
        return String::new();
    }
    format!("{:.decimals$} ({min:.decimals$} to {max:.decimals$})", median(values))
}

/// The middle one, or the middle of the two in the middle; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => 0.0,
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_between_its_ends() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0], 0), "2 (1 to 3)");
        assert_eq!(spread(vec![4.0, 1.0], 1), "2.5 (1.0 to 4.0)");
        assert_eq!(spread(Vec::new(), 1), "");
    }

    #[test]
    fn each_run_is_compared_with_the_one_beside_it() {
        const ROWS: &[Row] = &[Row { name: "figure", decimals: 0, wanted: "ratio <= 1" }];
        let mut pairs = Pairs::new(ROWS);
        for (ours, theirs) in [(1.0, 2.0), (30.0, 20.0), (1.0, 1.0)] {
            pairs.add(Connector::Bare, vec![theirs]);
            pairs.add(Connector::Natshook, vec![ours]);
        }
        assert!(pairs.table().contains("1.00 (0.50 to 1.50)"), "{}", pairs.table());
    }
}
