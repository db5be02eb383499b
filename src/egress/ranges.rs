//! The address ranges that are not for the public internet: the IANA IPv4 and IPv6 Special-Purpose Address
//! Registries, row by row, and what those leave out (multicast, deprecated ranges). Pure tables; whether the config
//! opens a range is decided in `guard`.
//!
//! Rows that the registries call globally reachable are refused too. They are anycast services (AS112, AMT, PCP,
//! TURN) or overlays (ORCHIDv2, drone ids): whoever is nearest answers, which may be one's own network, and none of
//! them is anybody's webhook.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Ranges of IPv4, each with its purpose and the document that says so.
const IPV4: [(Ipv4Net, &str); 27] = [
    (v4([0, 0, 0, 0], 8), "this network, RFC 791"),
    (v4([0, 0, 0, 0], 32), "this host on this network, RFC 1122"),
    (v4([10, 0, 0, 0], 8), "private use, RFC 1918"),
    (v4([100, 64, 0, 0], 10), "shared address space, RFC 6598"),
    (v4([127, 0, 0, 0], 8), "loopback, RFC 1122"),
    (v4([169, 254, 0, 0], 16), "link local, RFC 3927"),
    (v4([172, 16, 0, 0], 12), "private use, RFC 1918"),
    (v4([192, 0, 0, 0], 24), "IETF protocol assignments, RFC 6890"),
    (v4([192, 0, 0, 0], 29), "IPv4 service continuity, RFC 7335"),
    (v4([192, 0, 0, 8], 32), "IPv4 dummy address, RFC 7600"),
    (v4([192, 0, 0, 9], 32), "port control protocol anycast, RFC 7723"),
    (v4([192, 0, 0, 10], 32), "TURN anycast, RFC 8155"),
    (v4([192, 0, 0, 170], 31), "NAT64/DNS64 discovery, RFC 8880 and RFC 7050"),
    (v4([192, 0, 2, 0], 24), "documentation, RFC 5737"),
    (v4([192, 31, 196, 0], 24), "AS112 anycast, RFC 7535"),
    (v4([192, 52, 193, 0], 24), "AMT anycast, RFC 7450"),
    (v4([192, 88, 99, 0], 24), "deprecated 6to4 relay anycast, RFC 7526"),
    (v4([192, 88, 99, 2], 32), "6a44 relay anycast, RFC 6751"),
    (v4([192, 168, 0, 0], 16), "private use, RFC 1918"),
    (v4([192, 175, 48, 0], 24), "AS112 anycast, RFC 7534"),
    (v4([198, 18, 0, 0], 15), "benchmarking, RFC 2544"),
    (v4([198, 51, 100, 0], 24), "documentation, RFC 5737"),
    (v4([203, 0, 113, 0], 24), "documentation, RFC 5737"),
    (v4([224, 0, 0, 0], 4), "multicast, RFC 5771"),
    (v4([233, 252, 0, 0], 24), "multicast for documentation, RFC 6676"),
    (v4([240, 0, 0, 0], 4), "reserved, RFC 1112"),
    (v4([255, 255, 255, 255], 32), "limited broadcast, RFC 8190 and RFC 919"),
];

/// The same for IPv6. Mapped (RFC 4291) and well-known NAT64 (RFC 6052) addresses never come here: [`stands_for`]
/// turns them into the IPv4 address that they hold.
const IPV6: [(Ipv6Net, &str); 27] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "unspecified, RFC 4291"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback, RFC 4291"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "deprecated IPv4-compatible, RFC 4291"),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), "IPv4-translated, RFC 2765"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "local-use NAT64, RFC 8215"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard only, RFC 6666"),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), "dummy prefix, RFC 9780"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "IETF protocol assignments, RFC 2928"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "Teredo, RFC 4380 and RFC 8190"),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128), "port control protocol anycast, RFC 7723"),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128), "TURN anycast, RFC 8155"),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128), "DNS-SD service registration anycast, RFC 9665"),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), "benchmarking, RFC 5180"),
    (v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32), "AMT anycast, RFC 7450"),
    (v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48), "AS112 anycast, RFC 7535"),
    (v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), "deprecated ORCHID, RFC 4843"),
    (v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), "ORCHIDv2, RFC 7343"),
    (v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28), "drone remote ids, RFC 9374"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation, RFC 3849"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "6to4, RFC 3056"),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), "AS112 anycast, RFC 7534"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation, RFC 9637"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing SIDs, RFC 9602"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "unique local, RFC 4193 and RFC 8190"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link local, RFC 4291"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "deprecated site local, RFC 3879"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast, RFC 4291"),
];

/// The only range from which IPv6 addresses of the public internet have been handed out (RFC 3587). What lies
/// outside and has no row above is nobody's, so whoever answers there is one's own network.
const IPV6_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
const OUTSIDE_UNICAST: &str = "outside 2000::/3, the public unicast range, RFC 3587";

/// The well-known NAT64 prefix (RFC 6052): its last 32 bits are an IPv4 address.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

const fn v4(octets: [u8; 4], bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), bits)
}

const fn v6(segments: [u16; 8], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_segments(segments), bits)
}

/// Why `address` is not public: the narrowest range that holds it. `None` for a public address.
pub(super) fn special_purpose(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(a) => {
            let rows = IPV4.iter().filter(|(net, _)| net.contains(&a));
            rows.max_by_key(|(net, _)| net.prefix_len()).map(|(_, purpose)| *purpose)
        }
        IpAddr::V6(a) => {
            let rows = IPV6.iter().filter(|(net, _)| net.contains(&a));
            let row = rows.max_by_key(|(net, _)| net.prefix_len()).map(|(_, purpose)| *purpose);
            row.or_else(|| (!IPV6_UNICAST.contains(&a)).then_some(OUTSIDE_UNICAST))
        }
    }
}

/// The IPv4 address at the other end of a mapped or NAT64 address; any other address itself.
pub(super) fn stands_for(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(a) if NAT64.contains(&a) => {
            let [.., a, b, c, d] = a.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn purpose(address: &str) -> Option<&'static str> {
        special_purpose(stands_for(address.parse().unwrap()))
    }

    #[test]
    fn the_narrowest_range_is_the_one_that_is_named() {
        assert_eq!(purpose("192.0.0.9"), Some("port control protocol anycast, RFC 7723"));
        assert_eq!(purpose("192.0.0.11"), Some("IETF protocol assignments, RFC 6890"));
        assert_eq!(purpose("2001::1"), Some("Teredo, RFC 4380 and RFC 8190"));
        assert_eq!(purpose("255.255.255.255"), Some("limited broadcast, RFC 8190 and RFC 919"));
        assert_eq!(purpose("4000::1"), Some(OUTSIDE_UNICAST));
    }

    #[test]
    fn an_address_that_holds_another_is_judged_by_it() {
        assert_eq!(purpose("::ffff:10.0.0.1"), Some("private use, RFC 1918"));
        assert_eq!(purpose("64:ff9b::127.0.0.1"), Some("loopback, RFC 1122"));
        assert_eq!(purpose("64:ff9b::93.184.215.14"), None);
    }
}
