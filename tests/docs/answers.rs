//! docs/receiving.md says of every status what natshook does, and that is what it does.

use natshook::outcome::{Answer, End, Outcome, Overrides, Strike, classify};

use super::RECEIVING;

/// The rows of the table: what stands in the first cell between backticks, and the last cell.
fn rows() -> Vec<(Vec<&'static str>, &'static str)> {
    let (_, table) = RECEIVING.split_once("\n| answer | when |").expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.trim_matches(['|', ' ']).split(" | ").collect::<Vec<_>>());
    cells.map(|cells| (cells[0].split('`').skip(1).step_by(2).collect(), cells[2])).collect()
}

/// The row of a status: the one that names it, else the one that names its class.
fn row_of(rows: &[(Vec<&'static str>, &'static str)], status: u16) -> &'static str {
    let names = [status.to_string(), format!("{}xx", status / 100)];
    let named = names.iter().find_map(|name| {
        let mut found = rows.iter().filter(|(statuses, _)| statuses.contains(&name.as_str()));
        let row = found.next();
        assert!(found.next().is_none(), "{name} stands in two rows");
        row
    });
    named.unwrap_or_else(|| panic!("no row for {status}")).1
}

#[test]
fn the_table_of_answers_is_what_natshook_does() {
    let rows = rows();
    assert!(rows.len() > 5, "{rows:?}");
    for status in 200..600 {
        let said = row_of(&rows, status);
        let end =
            End::Answered(Answer { status, retry_after: None, excerpt: Default::default(), kept: None });
        let expected = match classify(&end, &Overrides::default()) {
            Outcome::Delivered => "**delivered**",
            Outcome::Permanent => "**dead letter** at once",
            Outcome::Transient(Strike::Failure) => "**retry**",
            Outcome::Transient(Strike::TargetFault) => "**retry**, and after three in a row the target rests",
            Outcome::Transient(Strike::Gone) => "**retry** after 15 min, for the whole target",
        };
        // What follows tells of details.
        let said = said.split(['(', ';']).next().unwrap().trim_end();
        let said = said.strip_suffix(", with the first 1 KiB of your answer").unwrap_or(said);
        assert_eq!(said, expected, "{status}");
    }
}
