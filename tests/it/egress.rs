//! The egress guard over the whole address space: against an oracle that knows nothing of natshook, and as laws.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use ipnet::IpNet;
use natshook::egress::{Grounds, Guard, Reach, Refusal};
use proptest::prelude::*;
use url::{Host, Url};

/// Made by `scripts/egress-oracle.py`, which says how.
const ORACLE: &str = include_str!("fixtures/egress-oracle.txt");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/egress-oracle.py");

/// What the fixture holds at least, so that a cut-off one is noticed.
const ORACLE_LINES_MIN: usize = 5_000;

fn check(guard: &Guard, address: impl Into<IpAddr>) -> Result<Grounds, Refusal> {
    guard.check_address(address.into(), Reach::Public)
}

fn is_public(address: impl Into<IpAddr>) -> bool {
    check(&Guard::default(), address).is_ok()
}

fn opening(net: IpNet) -> Guard {
    Guard { allow: vec![net], ..Guard::default() }
}

fn url(host: &str) -> Option<Url> {
    Url::parse(&format!("https://{host}/hook")).ok()
}

/// An address whose last 32 bits are those of `v4`.
fn ending_in(prefix: [u16; 6], v4: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = prefix;
    let [g, h, i, j] = v4.octets();
    Ipv6Addr::new(a, b, c, d, e, f, u16::from_be_bytes([g, h]), u16::from_be_bytes([i, j]))
}

#[test]
fn the_guard_agrees_with_the_oracle() {
    let mut lines = 0;
    for line in ORACLE.lines() {
        let (address, verdict) = line.split_once(' ').expect("an address and a verdict");
        let address: IpAddr = address.parse().expect("an address");
        assert_eq!(is_public(address), verdict == "public", "{address} is {verdict}");
        assert!(matches!(verdict, "public" | "refused"), "{verdict}");
        lines += 1;
    }
    assert!(lines >= ORACLE_LINES_MIN, "{lines} lines");
}

#[test]
fn the_oracle_s_script_still_prints_the_fixture() {
    let finished = Command::new("python3").arg(SCRIPT).output().expect("python3 runs");
    assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
    // Not assert_eq: a difference would print both.
    assert!(finished.stdout == ORACLE.as_bytes(), "write it anew: its header says how");
}

#[test]
fn every_spelling_of_a_host_that_is_not_public_is_refused() {
    for host in [
        // Decimal, hexadecimal, octal and short forms (WHATWG URL, host parsing).
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "0",
        "0x0",
        "00",
        "10.0",
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "169.254.43518",
        // A dot at the end, other dots (IDNA), full-width digits, percent-encoding, an empty port.
        "127.0.0.1.",
        "127。0。0。1",
        "127．0．0．1",
        "１２７.0.0.1",
        "%31%32%37.0.0.1",
        "127%2e0%2e0%2e1",
        "10.0.0.1:",
        "user:pw@10.0.0.1",
        "user@127.1",
        // IPv6: loopback, mapped, compatible, translated, NAT64 of both kinds, 6to4, Teredo.
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2002:a00:1::1]",
        "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
        // Unique local, link local, site local, multicast, documentation, and what is nobody's.
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[4000::1]",
        "[200::1]",
    ] {
        let url = url(host).unwrap_or_else(|| panic!("{host} is a host"));
        assert!(!matches!(url.host(), Some(Host::Domain(_))), "{host} is an address, whatever it looks like");
        let refused = Guard::default().check_url(&url);
        assert!(matches!(refused, Err(Refusal::Address { .. })), "{host}: {refused:?}");
    }
}

#[test]
fn a_host_that_no_parser_should_take_is_no_url() {
    for host in
        ["[fe80::1%25eth0]", "[fe80::1%eth0]", "", "a b", "127.0.0.256", "1.2.3.4.5", "[::1", "0x.0x.0g.0"]
    {
        // Two slashes and no host would let the first segment of the path become the host.
        let parsed = Url::parse(&format!("https://{host}"));
        assert!(parsed.is_err(), "{host:?}: {parsed:?}");
    }
}

fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    // Half of them near the boundaries of the registry's rows.
    let near = prop::sample::select(
        ORACLE
            .lines()
            .filter_map(|line| line.split(' ').next()?.parse::<Ipv4Addr>().ok())
            .collect::<Vec<_>>(),
    );
    prop_oneof![any::<Ipv4Addr>(), near]
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any_v4().prop_map(IpAddr::from), any::<Ipv6Addr>().prop_map(IpAddr::from)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn an_address_that_holds_another_gets_its_verdict(v4 in any_v4()) {
        let mapped = v4.to_ipv6_mapped();
        let nat64 = ending_in([0x64, 0xff9b, 0, 0, 0, 0], v4);
        prop_assert_eq!(is_public(mapped), is_public(v4));
        prop_assert_eq!(is_public(nat64), is_public(v4));
        // Where the other end is anybody's choice there is no verdict but one.
        let [a, b, c, d] = v4.octets().map(u16::from);
        let to4 = Ipv6Addr::new(0x2002, a << 8 | b, c << 8 | d, 0, 0, 0, 0, 1);
        let others = [to4, ending_in([0; 6], v4), ending_in([0, 0, 0, 0, 0xffff, 0], v4), ending_in([0x2001, 0, 0, 0, 0, 0], v4)];
        prop_assert!(!others.into_iter().any(is_public), "{}", v4);
    }

    #[test]
    fn an_opened_range_is_always_open_and_opens_nothing_else(address in any_address(), other in any_address(), bits in 0_u8..=128) {
        let bits = bits.min(if address.is_ipv4() { 32 } else { 128 });
        let guard = opening(IpNet::new(address, bits).unwrap().trunc());
        let opened = matches!(guard.check_address(address, Reach::OpenedOnly), Ok(Grounds::Opened(_)));
        // A mapped range is written as its IPv4 range when the config is read.
        prop_assert!(opened || address != address.to_canonical());
        if let Ok(Grounds::Public) = check(&guard, other) {
            prop_assert!(is_public(other));
        }
        if check(&guard, other).is_err() {
            prop_assert!(!is_public(other));
        }
    }

    #[test]
    fn a_public_address_needs_an_open_port_and_any_other_an_opened_range(address in any_address(), port in 1_u16..) {
        let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        let guard = Guard::default();
        let judged = guard.check_url(&url(&format!("{host}:{port}")).unwrap());
        prop_assert_eq!(judged.is_ok(), is_public(address) && [443, 8443].contains(&port));
        let anywhere = url(&format!("{host}:{port}")).unwrap();
        prop_assert!(opening(address.to_canonical().into()).check_url(&anywhere).is_ok());
    }

    #[test]
    fn every_spelling_of_an_ipv4_address_gets_its_verdict(v4 in any_v4(), form in 0_usize..6) {
        let [a, b, c, d] = v4.octets();
        let whole = u32::from(v4);
        let low = whole & 0xff_ffff;
        let host = match form {
            0 => whole.to_string(),
            1 => format!("{whole:#x}"),
            2 => format!("0{whole:o}"),
            3 => format!("{a:#x}.0{b:o}.{c}.{d}."),
            4 => format!("{a}.{low}"),
            _ => format!("{a}\u{3002}{b}\u{ff0e}{c}\u{ff61}{d}"),
        };
        let parsed = url(&host).unwrap();
        prop_assert_eq!(parsed.host(), Some(Host::Ipv4(v4)));
        prop_assert_eq!(Guard::default().check_url(&parsed).is_ok(), is_public(v4));
    }

    #[test]
    fn what_the_resolver_is_asked_for_is_never_an_address(host in "[0-9a-fx.:%\\[\\]]{1,24}|\\PC{1,16}") {
        // Otherwise the client would dial it without asking the guard.
        if let Some(url) = url(&host)
            && let Some(Host::Domain(name)) = url.host()
        {
            prop_assert!(name.parse::<IpAddr>().is_err(), "{name}");
            let rooted = name.strip_suffix('.').unwrap_or(name);
            prop_assert!(rooted.parse::<IpAddr>().is_err(), "{name}");
        }
    }
}
