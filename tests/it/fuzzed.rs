//! The entry points that are fuzzed (`make fuzz`), as property tests and over the kept corpora.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

// Public where it is a library of its own.
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/lib.rs"]
mod entry_points;

/// The kept inputs of a target.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read = |path: PathBuf| (path.clone(), fs::read(path).expect("a readable file"));
    files.map(|file| read(file.expect("an entry").path())).collect()
}

#[test]
fn the_kept_inputs_break_no_law() {
    for (name, check) in entry_points::ALL {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for (path, bytes) in inputs {
            eprintln!("{}", path.display());
            check(&bytes);
        }
    }
}

#[test]
fn every_entry_point_has_its_fuzz_target() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("the fuzz package");
    for (name, _) in entry_points::ALL {
        assert!(manifest.contains(&format!("name = {name:?}")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), entry_points::ALL.len());
}

/// A kept input of `name` with some bytes replaced, some pieces left out, and others doubled.
fn mutated(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let inputs: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, bytes)| bytes).collect();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3, any::<u8>()), 0..6);
    (prop::sample::select(inputs), edits).prop_map(|(mut bytes, edits)| {
        for (at, kind, byte) in edits {
            if bytes.is_empty() {
                bytes.push(byte);
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.drain(at..(at + usize::from(byte) % 8).min(bytes.len()))),
                _ => bytes.extend_from_within(at..(at + usize::from(byte)).min(bytes.len())),
            }
        }
        bytes
    })
}

fn any_input(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        mutated(name),
        prop::collection::vec(any::<u8>(), 0..200),
        "\\PC{0,60}".prop_map(String::into_bytes)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_config_text_is_valid_or_its_errors_name_keys_and_no_secrets(bytes in any_input("config_text")) {
        entry_points::config_text::check(&bytes);
    }

    #[test]
    fn a_url_that_is_allowed_leads_to_the_public(bytes in any_input("egress_url")) {
        entry_points::egress_url::check(&bytes);
    }

    #[test]
    fn no_message_header_steers_a_request(bytes in any_input("request_headers")) {
        entry_points::request_headers::check(&bytes);
    }

    #[test]
    fn no_receiver_asks_for_more_than_an_hour(bytes in any_input("retry_after")) {
        entry_points::retry_after::check(&bytes);
    }

    #[test]
    fn what_is_read_from_the_retry_queue_is_written_as_it_was(bytes in any_input("retry_headers")) {
        entry_points::retry_headers::check(&bytes);
    }

    #[test]
    fn subjects_match_as_the_broker_matches_them(bytes in any_input("subject_matching")) {
        entry_points::subject_matching::check(&bytes);
    }
}
