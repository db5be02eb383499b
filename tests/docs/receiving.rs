//! The receivers of docs/receiving.md take what natshook signs, once, and nothing else.

use std::{
    fs,
    net::TcpListener,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;

use super::{
    natshook,
    receivers::{Language, Received, Server, receive},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// A `whsk_` secret, and the public key that belongs to it (RFC 8032, 7.1, test 1).
const ED25519_SECRET: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const ED25519_PUBLIC: &str = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// How `natshook send` with both secrets ended, with a receiver on `port`.
fn send_to(port: u16) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("send.toml");
    let text = format!(
        "egress = {{ allow = [\"127.0.0.0/8\"], allow_http = true }}\n[[targets]]\nname = \"t\"\nsubjects = [\"s\"]\n\
         url = \"http://127.0.0.1:{port}/\"\nsigning = {{ secrets = [\"{SECRET}\", \"{ED25519_SECRET}\"] }}\n"
    );
    fs::write(&config, text).unwrap();
    natshook(&["send", "t", "--data", "{\"é\": 1}", "--config", config.to_str().unwrap()])
}

/// What `natshook send` sends.
fn signed_request() -> Received {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiver = thread::spawn(move || receive(&listener));
    let sent = send_to(port);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    receiver.join().unwrap()
}

/// The `v1` signature of a request under any key.
fn signature(request: &Received, key: &[u8]) -> String {
    let (id, timestamp) = (&request.headers["webhook-id"], &request.headers["webhook-timestamp"]);
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &request.body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed)))
}

/// The request with another header, and signed rightly nonetheless.
fn signed_with(request: &Received, name: &str, value: &str) -> Received {
    let mut request = with(request, name, value);
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let signature = signature(&request, &key);
    request.headers.insert("webhook-signature".to_owned(), signature);
    request
}

fn with(request: &Received, name: &str, value: &str) -> Received {
    let mut request = request.clone();
    request.headers.insert(name.to_owned(), value.to_owned());
    request
}

/// The time as a receiver's clock shows it, moved by `seconds`.
fn timestamp(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    (i64::try_from(now).unwrap() + seconds).to_string()
}

/// A request, the keys that its receiver has, and whether it has to be taken.
struct Case {
    what: &'static str,
    keys: String,
    request: Received,
    taken: bool,
}

/// What a verification must accept and refuse.
fn cases(signed: &Received) -> Vec<Case> {
    let case =
        |what, keys: &str, request: Received, taken| Case { what, keys: keys.to_owned(), request, taken };
    let refused = |what, request| case(what, SECRET, request, false);
    let mut tampered = signed.clone();
    tampered.body.push(b' ');
    let mut unsigned = signed.clone();
    unsigned.headers.remove("webhook-signature");
    let mut empty = signed.clone();
    empty.headers.insert("webhook-signature".to_owned(), signature(signed, b""));
    let own = &signed.headers["webhook-signature"];
    let half = own.split(' ').find(|entry| entry.starts_with("v1,")).unwrap();
    vec![
        case("a signed request", SECRET, signed.clone(), true),
        case("a rotated secret", &format!("{OTHER} {SECRET}"), signed.clone(), true),
        case(
            "a clock that is slow",
            SECRET,
            signed_with(signed, "webhook-timestamp", &timestamp(-240)),
            true,
        ),
        case("another secret", OTHER, signed.clone(), false),
        case("an empty secret, and a request signed with it", "whsec_", empty, false),
        refused("a tampered body", tampered),
        refused("no signature", unsigned),
        refused("another id", with(signed, "webhook-id", "other")),
        refused("an old timestamp", signed_with(signed, "webhook-timestamp", &timestamp(-360))),
        refused("a timestamp to come", signed_with(signed, "webhook-timestamp", &timestamp(360))),
        refused("no timestamp", signed_with(signed, "webhook-timestamp", "x")),
        refused("an empty signature", with(signed, "webhook-signature", "v1,")),
        refused("half a signature", with(signed, "webhook-signature", &half[..half.len() / 2 / 4 * 4 + 3])),
        refused("nonsense", with(signed, "webhook-signature", "v1a,AAAA nonsense ,")),
    ]
}

/// `v1a` signatures, and bodies that are no text.
fn more_cases(signed: &Received) -> Vec<Case> {
    let mut tampered = signed.clone();
    tampered.body.push(b' ');
    let mut binary = signed.clone();
    binary.body = vec![0, 0xff, 0xfe];
    let binary = signed_with(&binary, "webhook-id", "binary");
    let case =
        |what, keys: &str, request: Received, taken| Case { what, keys: keys.to_owned(), request, taken };
    vec![
        case("bytes", SECRET, binary, true),
        case("v1a by the public key", ED25519_PUBLIC, signed.clone(), true),
        case("v1a and a tampered body", ED25519_PUBLIC, tampered, false),
    ]
}

/// Starts the receiver once for each set of keys, and puts the cases to it.
fn judge(language: Language, mut cases: Vec<Case>) {
    while let Some(first) = cases.first() {
        let keys = first.keys.clone();
        let Some(server) = Server::start(language, &keys) else { return };
        for case in cases.extract_if(.., |case| case.keys == keys) {
            let expected = if case.taken { 204 } else { 401 };
            let (status, body) = server.post(&case.request);
            assert_eq!(status, expected, "{language:?}: {}: {body}", case.what);
        }
    }
}

/// The whole way: natshook sends, the receiver takes it, and a request that comes twice is worked on once.
fn takes_each_webhook_once(language: Language) {
    let Some(server) = Server::start(language, SECRET) else { return };
    let sent = send_to(server.port);
    assert!(sent.status.success(), "{language:?}: {}", String::from_utf8_lossy(&sent.stdout));
    let request = signed_with(&signed_request(), "webhook-id", "EVENTS-7");
    let again = signed_with(&request, "webhook-timestamp", &timestamp(1));
    let last = signed_with(&request, "webhook-id", "EVENTS-8");
    for request in [&request, &request, &again, &last] {
        assert_eq!(server.post(request).0, 204, "{language:?}");
    }
    wait_for(&server, "working on EVENTS-8");
    let worked = server.output().matches("working on EVENTS-7 {\"é\": 1}\n").count();
    assert_eq!(worked, 1, "{language:?}: {}", server.output());

    let mut large = request.clone();
    large.body = vec![b'a'; (1 << 20) + 1];
    assert_eq!(server.post(&large).0, 413, "{language:?}");
    drop(server);

    // A wrong secret shows as what it is, and natshook will try again.
    let Some(server) = Server::start(language, OTHER) else { return };
    let sent = send_to(server.port);
    assert!(!sent.status.success());
    assert!(
        String::from_utf8_lossy(&sent.stdout).contains("401"),
        "{}",
        String::from_utf8_lossy(&sent.stdout)
    );
}

fn wait_for(server: &Server, text: &str) {
    let started = Instant::now();
    while !server.output().contains(text) {
        assert!(started.elapsed() < Duration::from_secs(20), "{text}: {}", server.output());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn python_takes_what_natshook_signs_and_nothing_else() {
    let signed = signed_request();
    judge(Language::Python, cases(&signed));
    judge(Language::Python, more_cases(&signed).into_iter().take(1).collect());
    takes_each_webhook_once(Language::Python);
}

#[test]
fn python_with_its_library_takes_what_natshook_signs_and_nothing_else() {
    judge(Language::PythonLibrary, cases(&signed_request()));
    takes_each_webhook_once(Language::PythonLibrary);
}

#[test]
fn node_takes_what_natshook_signs_and_nothing_else() {
    let signed = signed_request();
    judge(Language::Node, cases(&signed));
    judge(Language::Node, more_cases(&signed));
    takes_each_webhook_once(Language::Node);
}

#[test]
fn go_takes_what_natshook_signs_and_nothing_else() {
    let signed = signed_request();
    judge(Language::Go, cases(&signed));
    judge(Language::Go, more_cases(&signed));
    takes_each_webhook_once(Language::Go);
}

#[test]
fn rust_with_its_library_takes_what_natshook_signs_and_nothing_else() {
    judge(Language::Rust, cases(&signed_request()));
    takes_each_webhook_once(Language::Rust);
}

#[test]
fn python_s_receiver_remembers_over_a_restart() {
    let Some(server) = Server::start(Language::Python, SECRET) else { return };
    let request = signed_request();
    let number = |n: u32| signed_with(&request, "webhook-id", &format!("EVENTS-{n}"));
    // The work on one is noted before that on the next begins.
    for n in [7, 8] {
        assert_eq!(server.post(&number(n)).0, 204);
    }
    wait_for(&server, "working on EVENTS-8");
    let server = server.restart(Language::Python, SECRET).unwrap();
    for n in [7, 9] {
        assert_eq!(server.post(&number(n)).0, 204);
    }
    wait_for(&server, "working on EVENTS-9");
    assert_eq!(server.output().matches("working on EVENTS-7").count(), 1, "{}", server.output());
}
