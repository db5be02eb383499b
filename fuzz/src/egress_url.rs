//! The URL of a target: what the guard allows by default leads to a public address over https, or to a name that
//! the resolver will be asked about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use natshook::egress::{Guard, Reach};
use url::{Host, Url};

/// Reads `bytes` as a URL, and their first sixteen as an address that a name might lead to.
pub fn check(bytes: &[u8]) {
    if let Some(first) = bytes.first_chunk::<16>() {
        judge(Ipv6Addr::from_octets(*first).into());
    }
    if let Some(first) = bytes.first_chunk::<4>() {
        let v4 = Ipv4Addr::from_octets(*first);
        judge(v4.into());
        judge(v4.to_ipv6_mapped().into());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(url) = Url::parse(text) else { return };
    if !matches!(url.scheme(), "http" | "https") || Guard::default().check_url(&url).is_err() {
        return;
    }
    assert_eq!(url.scheme(), "https", "{url}");
    assert!(matches!(url.port_or_known_default(), Some(443 | 8443)), "{url}");
    match url.host() {
        Some(Host::Ipv4(address)) => assert!(is_public_v4(address), "{url}"),
        Some(Host::Ipv6(address)) => assert!(is_public_v6(address), "{url}"),
        Some(Host::Domain(name)) => {
            // The client dials what reads as an address without asking the resolver.
            let rooted = name.strip_suffix('.').unwrap_or(name);
            assert!(name.parse::<IpAddr>().is_err() && rooted.parse::<IpAddr>().is_err(), "{url}");
        }
        None => panic!("a web address without a host: {url}"),
    }
}

fn judge(address: IpAddr) {
    let public = match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    };
    let guard = Guard::default();
    assert_eq!(guard.check_address(address, Reach::Public).is_ok(), public, "{address}");
    assert!(guard.check_address(address, Reach::OpenedOnly).is_err(), "{address} without an opened range");
}

/// By the bits of the address; shares nothing with the guard's tables.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 88, 99)
            | (192, 168, _)
            | (192, 175, 48)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let last = Ipv4Addr::from_bits(address.to_bits() as u32);
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(last),
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x2002, ..] | [0x2620, 0x4f, 0x8000, ..] => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}
