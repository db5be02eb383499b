//! Who may come in at the admin listener, and who may act there: each way in, and each refusal.

use std::time::{Duration, SystemTime};

use crate::support::http::{Parsed, request};
use crate::support::{Broker, Config, Connector, Receiver, natshook, secs, until};

const TOKEN: &str = "token-of-the-test-4720";
const OTHER: &str = "another-token-4721-4721";
const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const PAUSE: &str = "/targets/policy/pause";

/// What a request to `connector` is answered.
async fn ask(
    connector: &Connector,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Parsed {
    let answer = request(connector.admin_port, method, path, headers, body.as_bytes()).await;
    answer.unwrap_or_else(|| panic!("{method} {path} is answered"))
}

async fn status(connector: &Connector, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    ask(connector, method, path, headers, "").await.status()
}

/// A natshook with these lines in `[admin]` and a target `policy`.
async fn start(admin: &str) -> (Broker, Receiver, Connector) {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    let config = config(&broker, &receiver, admin);
    let connector = Connector::start(&config).await;
    (broker, receiver, connector)
}

fn config(broker: &Broker, receiver: &Receiver, admin: &str) -> Config {
    Config::on(broker).admin(admin).target("policy", "a", &receiver.url("/hook"), "")
}

fn with_token() -> String {
    format!("token = {TOKEN:?}")
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Logs in; the cookie that comes back, as a browser sends it.
async fn log_in(connector: &Connector, token: &str) -> Option<String> {
    let answer = ask(connector, "POST", "/login", &[FORM], &format!("token={token}")).await;
    let cookie = answer.header("set-cookie")?;
    Some(cookie.split(';').next().unwrap_or_default().to_owned())
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn page(answer: &Parsed) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[tokio::test]
async fn without_a_token_this_machine_may_do_everything_and_no_other_name_leads_here() {
    let (_broker, _receiver, connector) = start("").await;
    let port = connector.admin_port;
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let host = [("Host", host.as_str())];
        assert_eq!(status(&connector, "GET", "/", &host).await, 200);
        assert_eq!(status(&connector, "GET", "/metrics", &host).await, 200);
        assert_eq!(status(&connector, "POST", PAUSE, &host).await, 303);
    }
    // A name that somebody points at 127.0.0.1, so that their own page may read what it answers.
    for host in ["rebound.evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8822", "10.0.0.1"]
    {
        let headers = [("Host", host), ("Sec-Fetch-Site", "same-origin")];
        for path in ["/", "/metrics", "/targets/policy", "/dead-letters", "/events?view=overview"] {
            let answer = ask(&connector, "GET", path, &headers, "").await;
            assert_eq!(answer.status(), 421, "{host} {path}");
            assert!(!page(&answer).contains("policy"), "{}", page(&answer));
        }
        assert_eq!(status(&connector, "POST", "/targets/policy/resume", &headers).await, 421, "{host}");
        assert_eq!(page(&ask(&connector, "GET", "/healthz", &headers, "").await), "ok\n");
        assert_eq!(page(&ask(&connector, "GET", "/readyz", &headers, "").await), "ready\n");
    }
    assert!(page(&ask(&connector, "GET", "/targets/policy", &[], "").await).contains("Paused"));
}

#[tokio::test]
async fn no_other_site_acts_through_a_browser_and_no_get_acts() {
    let (_broker, _receiver, connector) = start("").await;
    let here = format!("http://127.0.0.1:{}", connector.admin_port);
    let refused: [&[(&str, &str)]; 6] = [
        &[("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")],
        &[("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "navigate")],
        &[("Sec-Fetch-Site", "cross-site"), ("Origin", &here)],
        &[("Origin", "https://evil.example")],
        &[("Origin", "null")],
        &[("Origin", "http://127.0.0.1:1")],
    ];
    for headers in refused {
        for path in
            [PAUSE, "/targets/policy/test", "/dead-letters/1/replay", "/dead-letters/replay", "/logout"]
        {
            assert_eq!(status(&connector, "POST", path, headers).await, 403, "{path} {headers:?}");
        }
    }
    for path in [PAUSE, "/targets/policy/resume", "/targets/policy/test", "/dead-letters/1/replay", "/logout"]
    {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            assert_eq!(status(&connector, method, path, &[]).await, 405, "{method} {path}");
        }
    }
    assert!(page(&ask(&connector, "GET", "/", &[], "").await).contains("Running"), "nothing was done");
    let read_by_script = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")];
    assert_eq!(status(&connector, "GET", "/events?view=overview", &read_by_script).await, 403);
    let followed_link = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")];
    assert_eq!(status(&connector, "GET", "/", &followed_link).await, 200);
    for headers in [&[("Sec-Fetch-Site", "same-origin")][..], &[("Origin", &here)], &[]] {
        assert_eq!(status(&connector, "POST", PAUSE, headers).await, 303, "{headers:?}");
    }
}

#[tokio::test]
async fn with_a_token_nothing_but_health_is_open_and_health_names_nothing() {
    let (_broker, _receiver, connector) = start(&with_token()).await;
    let inside = [
        "/",
        "/metrics",
        "/targets/policy",
        "/dead-letters",
        "/dead-letters/1",
        "/dead-letters/1/body",
        "/events?view=overview",
        "/nothing",
    ];
    for path in inside {
        let answer = ask(&connector, "GET", path, &[], "").await;
        assert_eq!(answer.status(), 401, "{path}");
        assert_eq!(answer.header("www-authenticate").as_deref(), Some("Bearer realm=\"natshook\""), "{path}");
        assert!(!page(&answer).contains("policy"), "{}", page(&answer));
        let answer = ask(&connector, "GET", path, &[HTML], "").await;
        assert_eq!(answer.status(), 303, "{path}");
        assert!(answer.header("location").is_some_and(|to| to.starts_with("/login")), "{path}");
    }
    for path in [PAUSE, "/targets/policy/test", "/dead-letters/1/replay", "/dead-letters/replay", "/logout"] {
        assert_eq!(status(&connector, "POST", path, &[]).await, 401, "{path}");
        assert_eq!(status(&connector, "POST", path, &[HTML]).await, 401, "{path}");
    }
    for wrong in [bearer(OTHER), bearer(""), bearer(&TOKEN[1..]), format!("Basic {TOKEN}"), TOKEN.to_owned()]
    {
        let headers = [("Authorization", wrong.as_str())];
        assert_eq!(status(&connector, "GET", "/", &headers).await, 401, "{wrong}");
    }
    assert_eq!(page(&ask(&connector, "GET", "/healthz", &[], "").await), "ok\n");
    assert_eq!(page(&ask(&connector, "GET", "/readyz", &[], "").await), "ready\n");
    for path in ["/login", "/login?next=%2F"] {
        assert_eq!(status(&connector, "GET", path, &[]).await, 200, "{path}");
    }
}

#[tokio::test]
async fn the_token_opens_everything_under_any_name() {
    let (broker, _receiver, connector) = start(&with_token()).await;
    let token = bearer(TOKEN);
    let headers = [("Authorization", token.as_str()), ("Host", "natshook.internal.example")];
    for path in ["/", "/metrics", "/targets/policy", "/dead-letters"] {
        assert_eq!(status(&connector, "GET", path, &headers).await, 200, "{path}");
    }
    assert_eq!(status(&connector, "POST", PAUSE, &headers).await, 303);
    // Readiness names what is missing to those who may know.
    drop(broker);
    until("not ready", secs(10), async || status(&connector, "GET", "/readyz", &[]).await == 503).await;
    assert_eq!(page(&ask(&connector, "GET", "/readyz", &[], "").await), "not ready\n");
    let told = page(&ask(&connector, "GET", "/readyz", &headers, "").await);
    assert!(told.contains("connection to the broker"), "{told}");
}

#[tokio::test]
async fn metrics_are_open_by_choice_and_nothing_else_with_them() {
    let (_broker, _receiver, connector) = start(&format!("{}\nopen_metrics = true", with_token())).await;
    assert_eq!(status(&connector, "GET", "/metrics", &[]).await, 200);
    let wrong = bearer(OTHER);
    assert_eq!(status(&connector, "GET", "/metrics", &[("Authorization", &wrong)]).await, 200);
    assert_eq!(status(&connector, "GET", "/", &[]).await, 401);
}

#[tokio::test]
async fn a_login_leads_to_the_page_that_was_asked_for_and_to_no_other_site() {
    let (_broker, _receiver, connector) = start(&with_token()).await;
    let answer = ask(&connector, "GET", "/targets/policy?x=1", &[HTML], "").await;
    assert_eq!(answer.header("location").as_deref(), Some("/login?next=%2Ftargets%2Fpolicy%3Fx%3D1"));
    for (next, leads) in [
        ("%2Ftargets%2Fpolicy%3Fx%3D1", "/targets/policy?x=1"),
        ("https%3A%2F%2Fevil.example", "/"),
        ("%2F%2Fevil.example", "/"),
        ("%2F%5Cevil.example", "/"),
        ("%2F%0D%0ASet-Cookie%3A%20a%3Db", "/"),
    ] {
        let answer = ask(&connector, "POST", "/login", &[FORM], &format!("token={TOKEN}&next={next}")).await;
        assert_eq!((answer.status(), answer.header("location").as_deref()), (303, Some(leads)), "{next}");
        let form = ask(&connector, "GET", &format!("/login?next={next}"), &[HTML], "").await;
        assert!(page(&form).contains(&format!("name=\"next\" value=\"{leads}\"")), "{}", page(&form));
    }
    let answer = ask(&connector, "POST", "/login", &[FORM], &format!("token={OTHER}")).await;
    assert_eq!((answer.status(), answer.header("set-cookie")), (401, None));
    let cross = [FORM, ("Sec-Fetch-Site", "cross-site")];
    assert_eq!(ask(&connector, "POST", "/login", &cross, &format!("token={TOKEN}")).await.status(), 403);
}

#[tokio::test]
async fn a_session_opens_everything_until_its_end_and_no_other_cookie_does() {
    let (_broker, _receiver, mut connector) = start(&with_token()).await;
    let answer = ask(&connector, "POST", "/login", &[FORM], &format!("token={TOKEN}")).await;
    let set = answer.header("set-cookie").unwrap();
    let (cookie, attributes) = set.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
    let secure = [FORM, ("X-Forwarded-Proto", "https")];
    let answer = ask(&connector, "POST", "/login", &secure, &format!("token={TOKEN}")).await;
    assert!(answer.header("set-cookie").unwrap().ends_with("; SameSite=Strict; Secure"));

    let with = |cookie: &str| [("Cookie".to_owned(), cookie.to_owned())];
    let opens = async |connector: &Connector, cookie: &str| {
        let headers = with(cookie);
        let headers = [(headers[0].0.as_str(), headers[0].1.as_str())];
        status(connector, "GET", "/targets/policy", &headers).await == 200
    };
    assert!(opens(&connector, cookie).await);
    assert!(opens(&connector, &format!("a=b; {cookie}; c=d")).await);
    assert_eq!(status(&connector, "POST", PAUSE, &[("Cookie", cookie)]).await, 303);
    let cross = [("Cookie", cookie), ("Origin", "https://evil.example")];
    assert_eq!(status(&connector, "POST", "/targets/policy/resume", &cross).await, 403);

    let (name, value) = cookie.split_once('=').unwrap();
    let mut forged = value.to_owned().into_bytes();
    forged[3] = if forged[3] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let expired = session(TOKEN, SystemTime::now() - Duration::from_secs(1));
    let of_another_token = session(OTHER, SystemTime::now() + Duration::from_secs(60));
    for value in ["", "x", &forged, &value[1..], &expired, &of_another_token] {
        assert!(!opens(&connector, &format!("{name}={value}")).await, "{value}");
    }
    let made_here = session(TOKEN, SystemTime::now() + Duration::from_secs(60));
    assert!(
        opens(&connector, &format!("{name}={made_here}")).await,
        "the test makes sessions as natshook does"
    );

    let answer = ask(&connector, "POST", "/logout", &[("Cookie", cookie)], "").await;
    assert!(answer.header("set-cookie").unwrap().starts_with(&format!("{name}=; Path=/; Max-Age=0")));
    connector.stop().await;
    connector.restart().await;
    assert!(opens(&connector, cookie).await, "a session holds across restarts");
}

/// A session as natshook makes it.
fn session(token: &str, expires: SystemTime) -> String {
    use base64::Engine;
    use ring::hmac::{HMAC_SHA256, Key, sign};
    let key = sign(&Key::new(HMAC_SHA256, token.as_bytes()), b"natshook admin session, 1");
    let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claim = [&expires.to_be_bytes()[..], &[7; 16]].concat();
    let proof = sign(&Key::new(HMAC_SHA256, key.as_ref()), &claim);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([&claim[..], proof.as_ref()].concat())
}

#[tokio::test]
async fn whoever_tries_tokens_is_slowed_and_whoever_is_in_is_not() {
    let (_broker, _receiver, connector) = start(&with_token()).await;
    let cookie = log_in(&connector, TOKEN).await.unwrap();
    let mut statuses = Vec::new();
    for n in 0..8 {
        let wrong = bearer(&format!("wrong-token-number-{n}"));
        // Readiness is open, but it must not tell for free whether a token is right.
        let path = if n % 2 == 0 { "/readyz" } else { "/" };
        statuses.push(status(&connector, "GET", path, &[("Authorization", &wrong)]).await);
    }
    assert_eq!(statuses, [200, 401, 200, 401, 200, 429, 200, 429]);
    let right = bearer(TOKEN);
    let answer = ask(&connector, "GET", "/", &[("Authorization", &right)], "").await;
    assert_eq!(answer.status(), 429, "not even the right token is looked at now");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    let answer = ask(&connector, "POST", "/login", &[FORM], &format!("token={TOKEN}")).await;
    assert_eq!((answer.status(), answer.header("set-cookie")), (429, None));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(status(&connector, "GET", "/", &[("Cookie", &cookie)]).await, 200);
    let opens = async || status(&connector, "GET", "/", &[("Authorization", &right)]).await == 200;
    until("the right token is looked at again", secs(15), opens).await;
}

#[tokio::test]
async fn a_reload_brings_another_token_and_ends_all_sessions() {
    let (broker, receiver, connector) = start(&with_token()).await;
    let cookie = log_in(&connector, TOKEN).await.unwrap();
    let mut changed = config(&broker, &receiver, &format!("token = {OTHER:?}"));
    changed.admin_port = connector.admin_port;

    connector.write_config(&changed.text());

    connector.wait_for_line(&["config reloaded"]).await;
    let (right, old) = (bearer(OTHER), bearer(TOKEN));
    assert_eq!(status(&connector, "GET", "/", &[("Authorization", &right)]).await, 200);
    assert_eq!(status(&connector, "GET", "/", &[("Authorization", &old)]).await, 401);
    assert_eq!(status(&connector, "GET", "/", &[("Cookie", &cookie)]).await, 401);
    assert_eq!(
        connector.output().matches("\"message\":\"admin listener\"").count(),
        1,
        "it was not bound again"
    );
}

#[tokio::test]
async fn every_answer_tells_browsers_what_they_may_do_with_it() {
    let (_broker, _receiver, connector) = start(&with_token()).await;
    let token = bearer(TOKEN);
    let known = ("Authorization", token.as_str());
    for (method, path, headers) in [
        ("GET", "/", &[known][..]),
        ("GET", "/targets/policy", &[known]),
        ("GET", "/dead-letters", &[known]),
        ("GET", "/targets/nobody", &[known]),
        ("GET", "/nothing", &[known]),
        ("GET", PAUSE, &[known]),
        ("POST", PAUSE, &[("Origin", "null")]),
        ("GET", "/", &[]),
        ("GET", "/", &[HTML]),
        ("GET", "/login", &[]),
        ("GET", "/healthz", &[]),
        ("GET", "/readyz", &[]),
        ("GET", "/metrics", &[known]),
        ("GET", "/assets/nothing", &[]),
    ] {
        let answer = ask(&connector, method, path, headers, "").await;
        let policy = answer.header("content-security-policy").unwrap_or_default();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(part), "{method} {path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name).as_deref(), Some(value), "{method} {path}: {name}");
        }
    }
}

#[tokio::test]
async fn an_open_address_without_a_token_is_refused_at_the_start() {
    for listen in ["0.0.0.0:8822", "192.0.2.1:8822", "[::]:8822"] {
        let text = Config::offline().target("policy", "a", "http://127.0.0.1:1/", "").text();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("natshook.toml");
        let ours = text.lines().find(|line| line.starts_with("listen")).unwrap();
        std::fs::write(&file, text.replace(ours, &format!("listen = {listen:?}"))).unwrap();
        let finished = natshook(&["run", "--config", file.to_str().unwrap()]).await;
        assert_eq!(finished.code, 78, "{}", finished.all());
        assert!(
            finished.stderr.contains("admin.listen") && finished.stderr.contains("admin.token"),
            "{}",
            finished.stderr
        );
    }
}

#[tokio::test]
async fn a_client_cannot_hold_the_listener_with_large_slow_or_many_requests() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_broker, _receiver, connector) = start("").await;
    let port = connector.admin_port;
    let large = ask(&connector, "POST", PAUSE, &[FORM], &"x".repeat(10_000)).await;
    assert_eq!(large.status(), 413);
    let head = format!("X-Long: {}", "x".repeat(40_000));
    let (name, value) = head.split_once(": ").unwrap();
    assert_eq!(status(&connector, "GET", "/", &[(name, value)]).await, 431);

    let mut slow = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    let mut streams = Vec::new();
    let open = format!("GET /events?view=overview HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    for _ in 0..64 {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(open.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        streams.push(stream);
    }
    assert_eq!(status(&connector, "GET", "/events?view=overview", &[]).await, 503);
    assert_eq!(status(&connector, "GET", "/", &[]).await, 200);
    drop(streams);
    let end = tokio::time::timeout(secs(15), slow.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok(), "whoever sends half a head is cut off");
}
