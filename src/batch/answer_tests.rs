//! What answers say about the members of a batch.
#![allow(clippy::unwrap_used)]

use http::HeaderMap;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::outcome::Kept;

const IDS: [&str; 3] = ["EVENTS-1", "EVENTS-2", "7"];

fn answer(status: u16, body: &str) -> Answer {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let kept = Some(Box::new(Kept { headers: HeaderMap::new(), body: body.clone() }));
    Answer { status, retry_after: None, excerpt: body, kept }
}

/// The statuses that a 207 with `body` gives, or what is wrong with it.
fn multi_status(body: &Value) -> Result<Vec<u16>, UnreadableAnswer> {
    let items = read(&AnswerRule::MultiStatus, &answer(207, &body.to_string()), &IDS)?.unwrap();
    let status = |item: &Item| match item {
        Item::Status { status, .. } => *status,
        Item::Failed { .. } | Item::NotListed => panic!("{item:?}"),
    };
    Ok(items.iter().map(status).collect())
}

/// Which members a 200 with `body` lists as failed, with their statuses.
fn failed(pointer: &str, body: &Value) -> Result<Vec<(usize, Option<u16>)>, UnreadableAnswer> {
    let rule = AnswerRule::Failed { pointer: pointer.into() };
    let items = read(&rule, &answer(200, &body.to_string()), &IDS)?.unwrap();
    let listed = |(index, item): (usize, Item)| match item {
        Item::Status { status, .. } => Some((index, Some(status))),
        Item::Failed { .. } => Some((index, None)),
        Item::NotListed => None,
    };
    Ok(items.into_iter().enumerate().filter_map(listed).collect())
}

#[test]
fn a_207_has_a_status_for_each_by_place_by_id_or_by_index() {
    for body in [
        json!([200, 422, 503]),
        json!([{ "status": 200 }, { "status": 422, "error": "no" }, { "status": 503 }]),
        json!([{ "id": "7", "status": 503 }, { "id": "EVENTS-2", "status": 422 }, { "id": "EVENTS-1", "status": 200 }]),
        json!([{ "index": 2, "status": 503 }, { "itemIdentifier": "EVENTS-2", "status": 422 }, { "index": 0, "status": 200 }]),
        json!({ "EVENTS-1": 200, "EVENTS-2": { "status": 422 }, "7": 503 }),
        json!({ "0": 200, "1": 422, "2": 503 }),
    ] {
        assert_eq!(multi_status(&body), Ok(vec![200, 422, 503]), "{body}");
    }
}

#[test]
fn a_207_that_leaves_anything_open_is_unreadable() {
    use UnreadableAnswer::{Missing, NoStatus, NoStatuses, Stranger, Twice};
    for (body, expected) in [
        (json!([200, 422]), Missing(1)),
        (json!([]), Missing(3)),
        (json!({}), Missing(3)),
        (json!([200, 200, 200, 200]), Stranger("200".into())),
        (json!([{ "id": "EVENTS-9", "status": 200 }]), Stranger(r#"{"id":"EVENTS-9","status":200}"#.into())),
        (json!([{ "index": 3, "status": 200 }]), Stranger(r#"{"index":3,"status":200}"#.into())),
        (json!({ "3": 200 }), Stranger("\"3\"".into())),
        (json!([{ "index": 0, "status": 200 }, { "index": 0, "status": 200 }]), Twice(0)),
        (json!({ "EVENTS-1": 200, "0": 200 }), Twice(0)),
        (json!([200, 200, "200"]), NoStatus("\"200\"".into())),
        (json!([200, 200, 100]), NoStatus("100".into())),
        (json!([200, 200, 65_736]), NoStatus("65736".into())),
        (json!([200, 200, {}]), NoStatus("{}".into())),
        (json!("ok"), NoStatuses),
    ] {
        assert_eq!(multi_status(&body), Err(expected), "{body}");
    }
}

#[test]
fn failed_ones_are_listed_by_index_by_id_or_with_a_status() {
    let cases = [
        ("/failed", json!({ "failed": [1, "7"] }), vec![(1, None), (2, None)]),
        ("/failed", json!({ "failed": [] }), vec![]),
        ("/failed", json!({ "failed": null }), vec![]),
        ("", json!([{ "index": 0, "status": 422 }]), vec![(0, Some(422))]),
        (
            "/batchItemFailures",
            json!({ "batchItemFailures": [{ "itemIdentifier": "EVENTS-2" }] }),
            vec![(1, None)],
        ),
        ("/a~1b/0", json!({ "a/b": [[{ "id": "EVENTS-1", "status": null }]] }), vec![(0, None)]),
    ];
    for (pointer, body, expected) in cases {
        assert_eq!(failed(pointer, &body), Ok(expected), "{body}");
    }
}

#[test]
fn a_list_that_cannot_be_understood_is_no_success() {
    use UnreadableAnswer::{NoList, NoStatus, Stranger, Twice};
    for (body, expected) in [
        (json!({}), NoList("/failed".into())),
        (json!({ "failed": 1 }), NoList("/failed".into())),
        (json!({ "failed": {} }), NoList("/failed".into())),
        (json!({ "failed": [3] }), Stranger("3".into())),
        (json!({ "failed": [-1] }), Stranger("-1".into())),
        (json!({ "failed": ["EVENTS-9"] }), Stranger("\"EVENTS-9\"".into())),
        (json!({ "failed": [""] }), Stranger("\"\"".into())),
        (json!({ "failed": [{ "key": 1 }] }), Stranger("{\"key\":1}".into())),
        (json!({ "failed": [0, "EVENTS-1"] }), Twice(0)),
        (
            json!({ "failed": [{ "index": 0, "status": 200 }] }),
            NoStatus(r#"{"index":0,"status":200}"#.into()),
        ),
        (
            json!({ "failed": [{ "index": 0, "status": "422" }] }),
            NoStatus(r#"{"index":0,"status":"422"}"#.into()),
        ),
    ] {
        assert_eq!(failed("/failed", &body), Err(expected), "{body}");
    }
}

#[test]
fn only_the_answers_that_a_rule_is_about_are_read() {
    let list = AnswerRule::Failed { pointer: "/failed".into() };
    for (rule, status) in [
        (&AnswerRule::Whole, 207),
        (&AnswerRule::MultiStatus, 200),
        (&AnswerRule::MultiStatus, 503),
        (&list, 204),
        (&list, 400),
        (&list, 503),
    ] {
        assert_eq!(read(rule, &answer(status, "not JSON"), &IDS), Ok(None), "{rule:?} {status}");
    }
    for (rule, status) in [(&AnswerRule::MultiStatus, 207), (&list, 200), (&list, 202), (&list, 207)] {
        for body in ["", "not JSON", "[200,"] {
            let read = read(rule, &answer(status, body), &IDS);
            assert!(matches!(read, Err(UnreadableAnswer::NotJson(_))), "{rule:?} {status} {read:?}");
        }
    }
}

#[test]
fn what_is_said_and_shown_of_a_long_entry_is_bounded() {
    let long = json!([{ "id": "é".repeat(5_000), "status": 200 }]);
    let Err(UnreadableAnswer::Stranger(shown)) = multi_status(&long) else { panic!("read") };
    assert_eq!(shown.chars().count(), SHOWN_CHARS_MAX + 1);
    let long = json!([{ "index": 0, "error": "é".repeat(5_000) }]);
    let rule = AnswerRule::Failed { pointer: String::new() };
    let items = read(&rule, &answer(200, &long.to_string()), &IDS).unwrap().unwrap();
    let Item::Failed { said } = &items[0] else { panic!("{items:?}") };
    assert!(said.len() <= RESPONSE_BYTES_MAX && std::str::from_utf8(said).is_ok());
}

proptest! {
    #[test]
    fn whoever_is_listed_failed_and_nobody_else(
        count in 1_usize..60,
        failing in prop::collection::btree_set(0_usize..60, 0..60),
        by_id in any::<bool>(),
    ) {
        let ids: Vec<String> = (0..count).map(|index| format!("EVENTS-{index}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let failing: Vec<usize> = failing.into_iter().filter(|index| *index < count).collect();
        let entry = |index: &usize| if by_id { json!(ids[*index]) } else { json!(index) };
        let body = json!({ "failed": failing.iter().map(entry).collect::<Vec<_>>() });
        let rule = AnswerRule::Failed { pointer: "/failed".into() };
        let items = read(&rule, &answer(200, &body.to_string()), &ids).unwrap().unwrap();
        let failed = |(index, item): (usize, &Item)| (*item != Item::NotListed).then_some(index);
        prop_assert_eq!(items.iter().enumerate().filter_map(failed).collect::<Vec<_>>(), failing);
    }

    #[test]
    fn no_answer_makes_more_or_fewer_items_than_there_are_members(body in "\\PC{0,60}", status in 200_u16..600) {
        for rule in [AnswerRule::Whole, AnswerRule::MultiStatus, AnswerRule::Failed { pointer: String::new() }] {
            if let Ok(Some(items)) = read(&rule, &answer(status, &body), &IDS) {
                prop_assert_eq!(items.len(), IDS.len());
            }
        }
    }
}
