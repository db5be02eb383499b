//! Where requests go, and that nothing in a message can lead them elsewhere.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::message::{Headers, Message, Origin};
use proptest::prelude::*;
use std::time::SystemTime;

fn message(value: &str) -> Message {
    Message {
        subject: "orders.eu".into(),
        payload: serde_json::json!({ "id": value }).to_string().into(),
        headers: Headers::default(),
        origin: Origin::Passing { id: "1".into(), reply: None },
        published: SystemTime::UNIX_EPOCH,
    }
}

fn rendered(address: &str, value: &str) -> Result<String, String> {
    let (_, template) = PathTemplate::read(address).unwrap();
    template.render(&Parts::new(&message(value))).map(|path| path.to_string())
}

#[test]
fn values_are_percent_encoded_where_they_stand() {
    for (address, value, path) in [
        ("https://h/a/{{ payload.id }}/b", "x", "/a/x/b"),
        (
            "https://h/{{ subject[1] }}/{{ payload.id }}.json?q={{ payload.id }}&t={{ subject }}",
            "é/?&=#%",
            "/eu/%C3%A9%2F%3F%26%3D%23%25.json?q=%C3%A9%2F%3F%26%3D%23%25&t=orders.eu",
        ),
        ("https://h?q={{ payload.id }}", "a b+c", "/?q=a%20b%2Bc"),
        ("https://h?q={{ payload.id }}", "", "/?q="),
        ("https://h/a b/{{ payload.id }}?k=ü", "x", "/a%20b/x?k=%C3%BC"),
        ("https://h/natshook-place/{{ payload.id }}", "natshook-place", "/natshook-place/natshook-place"),
    ] {
        assert_eq!(rendered(address, value), Ok(path.to_owned()), "{address}");
    }
}

#[test]
fn what_would_lead_elsewhere_is_refused() {
    for value in [".", ".."] {
        let error = rendered("https://h/a/{{ payload.id }}/b", value).unwrap_err();
        assert_eq!(error, "url: a value would make a segment of dots, which leads elsewhere");
    }
    assert!(rendered("https://h/a/.{{ payload.id }}", ".").is_err());
    let error = rendered("https://h/a/{{ payload.id }}/b", "").unwrap_err();
    assert_eq!(error, "url: payload.id is empty, which would name another place");
    assert!(
        rendered("https://h/{{ payload.id }}", &"x".repeat(9000)).unwrap_err().contains("longer than 8192")
    );
    let error = rendered("https://h/{{ payload.other }}", "x").unwrap_err();
    assert_eq!(error, "url: payload.other is missing; to do without it write payload.other | default(\"…\")");
}

#[test]
fn no_place_may_stand_in_the_host_or_be_lost() {
    for address in [
        "https://{{ subject }}/a",
        "https://h.{{ payload.id }}",
        "{{ subject }}://h/",
        "https://h:{{ payload.id }}/a",
        "https://u{{ subject }}@h/",
    ] {
        assert_eq!(PathTemplate::read(address).unwrap_err(), BadAddress::InHost, "{address}");
    }
    for address in ["https://h/a/{{ subject }}/../b", "https://h/a#{{ subject }}"] {
        assert_eq!(PathTemplate::read(address).unwrap_err(), BadAddress::Lost, "{address}");
    }
    assert!(matches!(PathTemplate::read("https://h/{{ x }}"), Err(BadAddress::Misread(_))));
    assert!(matches!(PathTemplate::read("nowhere/{{ subject }}"), Err(BadAddress::Url(_))));
}

#[test]
fn of_a_query_people_see_what_messages_say() {
    let (_, template) =
        PathTemplate::read("https://h/{{ subject }}?key=hunter2&id={{ payload.id }}&x&a=b-{{ subject[1] }}")
            .unwrap();
    let shown = template.render_shown(&Parts::new(&message("7&8"))).unwrap();
    assert_eq!(shown, "/orders.eu?key=[redacted]&id=7%268&x=[redacted]&a=b-eu");
}

#[test]
fn a_printed_path_shows_no_query() {
    let (url, template) = PathTemplate::read("https://h/{{ subject }}?key=hunter2&{{ payload.id }}").unwrap();
    assert_eq!(format!("{template:?}"), "PathTemplate(\"/{{ subject }}\")");
    assert_eq!((url.host_str(), url.path()), (Some("h"), "/natshook-place"));
}

proptest! {
    #[test]
    fn no_value_ever_leaves_the_host_or_its_segment(value in "[./\\\\?#%@:&=;a2eEfF é\u{0}\r\n-]{0,24}|\\PC{0,24}") {
        let address = "https://hooks.example:8443/base/{{ payload.id }}/end?k={{ payload.id }}&z=1";
        if let Ok(path) = rendered(address, &value) {
            // As any client or server reads it.
            let whole = Url::parse("https://hooks.example:8443/").unwrap().join(&path).unwrap();
            prop_assert_eq!((whole.host_str(), whole.port()), (Some("hooks.example"), Some(8443)));
            let segments: Vec<&str> = whole.path_segments().unwrap().collect();
            prop_assert_eq!((segments.len(), segments[0], segments[2]), (3, "base", "end"), "{}", path);
            prop_assert_eq!(percent_decode_str(segments[1]).decode_utf8().unwrap(), value.as_str());
            let pairs: Vec<(String, String)> = whole.query_pairs().into_owned().collect();
            prop_assert_eq!(pairs, [("k".to_owned(), value.clone()), ("z".to_owned(), "1".to_owned())]);
            prop_assert_eq!(whole.fragment(), None);
        } else {
            prop_assert!(matches!(value.as_str(), "" | "." | ".."), "{:?} is refused without need", value);
        }
    }
}
