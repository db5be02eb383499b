//! Which URLs and addresses a target may have. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Ranges that are not for the public internet, with the document that says so (IANA IPv4 Special-Purpose
/// Address Registry, plus multicast).
const IPV4_DENIED: [(Ipv4Net, &str); 17] = [
    (v4(0, 0, 0, 0, 8), "this network, RFC 791"),
    (v4(10, 0, 0, 0, 8), "private use, RFC 1918"),
    (v4(100, 64, 0, 0, 10), "shared address space, RFC 6598"),
    (v4(127, 0, 0, 0, 8), "loopback, RFC 1122"),
    (v4(169, 254, 0, 0, 16), "link local, RFC 3927"),
    (v4(172, 16, 0, 0, 12), "private use, RFC 1918"),
    (v4(192, 0, 0, 0, 24), "IETF protocol assignments, RFC 6890"),
    (v4(192, 0, 2, 0, 24), "documentation, RFC 5737"),
    (v4(192, 31, 196, 0, 24), "AS112-v4, RFC 7535"),
    (v4(192, 52, 193, 0, 24), "AMT, RFC 7450"),
    (v4(192, 88, 99, 0, 24), "deprecated 6to4 relay anycast, RFC 7526"),
    (v4(192, 168, 0, 0, 16), "private use, RFC 1918"),
    (v4(192, 175, 48, 0, 24), "direct delegation AS112 service, RFC 7534"),
    (v4(198, 18, 0, 0, 15), "benchmarking, RFC 2544"),
    (v4(198, 51, 100, 0, 24), "documentation, RFC 5737"),
    (v4(203, 0, 113, 0, 24), "documentation, RFC 5737"),
    (v4(224, 0, 0, 0, 3), "multicast and reserved, RFC 5771 and RFC 1112"),
];

/// The same for IPv6 (IANA IPv6 Special-Purpose Address Registry, plus multicast and deprecated ranges).
/// Mapped and NAT64 addresses are judged by the IPv4 address they hold.
const IPV6_DENIED: [(Ipv6Net, &str); 13] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "unspecified, loopback and IPv4-compatible, RFC 4291"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "local-use NAT64, RFC 8215"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard only, RFC 6666"),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), "dummy prefix, RFC 9780"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "IETF protocol assignments (Teredo and others), RFC 2928"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation, RFC 3849"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "6to4, RFC 3056"),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), "direct delegation AS112 service, RFC 7534"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation, RFC 9637"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing SIDs, RFC 9602"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "unique local, RFC 4193"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 9), "link local and site local, RFC 4291 and RFC 3879"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast, RFC 4291"),
];

/// The well-known NAT64 prefix (RFC 6052): its last 32 bits are an IPv4 address.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(s: [u16; 8], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), bits)
}

/// What the config opens beyond public addresses over https.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Ranges that may be dialled although they are not public.
    pub allow: Vec<IpNet>,
    /// Whether plain http may be used.
    pub allow_http: bool,
}

/// Why a target may not be reached. Names the setting that would change it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An `http` URL.
    #[error("plain http is not allowed; use https, or set egress.allow_http = true")]
    PlainHttp,
    /// An address in a denied range.
    #[error("{address} is not a public address ({range}); to open it, add its range to egress.allow")]
    Address {
        /// The address.
        address: IpAddr,
        /// Which range it is in and the document that defines it.
        range: &'static str,
    },
}

impl Guard {
    /// Judges what can be judged before a name is resolved: the scheme, and the host where it is an address.
    ///
    /// # Errors
    /// Says what is refused, and which setting opens it.
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        if url.scheme() == "http" && !self.allow_http {
            return Err(Refusal::PlainHttp);
        }
        match url.host() {
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }

    /// Judges an address that is about to be dialled.
    ///
    /// # Errors
    /// Names the address and the range that it is in.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Refusal> {
        let judged = embedded(address);
        if self.allow.iter().any(|net| net.contains(&judged) || net.contains(&address)) {
            return Ok(());
        }
        match denied(judged) {
            Some(range) => Err(Refusal::Address { address, range }),
            None => Ok(()),
        }
    }
}

fn denied(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(a) => IPV4_DENIED.iter().find(|(net, _)| net.contains(&a)).map(|(_, range)| *range),
        IpAddr::V6(a) => IPV6_DENIED.iter().find(|(net, _)| net.contains(&a)).map(|(_, range)| *range),
    }
}

/// The IPv4 address that a mapped or NAT64 address stands for; any other address itself.
fn embedded(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(a) => match a.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None if NAT64.contains(&a) => {
                let [.., a, b, c, d] = a.octets();
                Ipv4Addr::new(a, b, c, d).into()
            }
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(url: &str) -> bool {
        Guard::default().check_url(&Url::parse(url).unwrap()).is_err()
    }

    #[test]
    fn every_spelling_of_a_local_address_is_refused() {
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://169.254.169.254/latest/meta-data",
            "https://[fd00:ec2::254]/",
            "https://user:pw@10.0.0.1/",
            "http://example.com/",
        ] {
            assert!(refused(url), "{url}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass() {
        for url in ["https://93.184.215.14/", "https://[2606:4700::1111]/", "https://hooks.example/"] {
            assert!(!refused(url), "{url}");
        }
    }

    #[test]
    fn the_config_opens_ranges_and_plain_http() {
        let guard = Guard { allow: vec!["127.0.0.0/8".parse().unwrap()], allow_http: true };
        assert_eq!(guard.check_url(&Url::parse("http://127.0.0.1:8080/").unwrap()), Ok(()));
        assert_eq!(guard.check_address("::ffff:127.0.0.1".parse().unwrap()), Ok(()));
        assert!(guard.check_address("10.0.0.1".parse().unwrap()).is_err());
    }
}
