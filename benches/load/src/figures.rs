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

/// The runs of several cases, a column for each.
pub(crate) struct Columns {
    rows: &'static [Row],
    titles: Vec<String>,
    runs: Vec<Vec<Vec<f64>>>,
}

impl Columns {
    pub(crate) fn new(rows: &'static [Row], titles: Vec<String>) -> Self {
        let runs = vec![Vec::new(); titles.len()];
        Self { rows, titles, runs }
    }

    /// `figures` has one value for each row, NaN where there is none.
    pub(crate) fn add(&mut self, column: usize, figures: Vec<f64>) {
        self.runs[column].push(figures);
    }

    /// Median (min to max) in each cell.
    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "| median (min to max) | {} | wanted |\n|---{}|---|\n",
            self.titles.join(" | "),
            "|---".repeat(self.titles.len())
        );
        for (number, row) in self.rows.iter().enumerate() {
            let cell = |runs: &Vec<Vec<f64>>| {
                let values = runs.iter().map(|run| run[number]).filter(|value| !value.is_nan());
                spread(values.collect(), row.decimals)
            };
            let cells: Vec<String> = self.runs.iter().map(cell).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(table, "| {} | {} | {} |", row.name, cells.join(" | "), row.wanted);
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
    fn a_case_without_a_figure_has_an_empty_cell() {
        const ROWS: &[Row] = &[Row { name: "figure", decimals: 0, wanted: "< 9" }];
        let mut columns = Columns::new(ROWS, vec!["one".into(), "two".into()]);
        columns.add(0, vec![f64::NAN]);
        columns.add(1, vec![5.0]);
        assert!(columns.table().ends_with("| figure |  | 5 (5 to 5) | < 9 |\n"), "{}", columns.table());
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
