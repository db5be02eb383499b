//! What the egress guard is told: the ranges, the scheme and the ports that it lets through.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{bounds::within, texts};
use crate::{
    config::{
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        limits, raw,
    },
    egress::{DEFAULT_PORTS, Guard},
};

/// How many bits of a mapped address stand before the IPv4 address (RFC 4291, 2.5.5.2).
const MAPPED_BITS: u8 = 96;

pub(super) fn check(raw: Section<raw::Egress>, path: &KeyPath, errors: &mut Errors) -> Guard {
    let raw = raw.open(path, errors);
    let allow = texts(raw.allow, &path.key("allow"), errors)
        .into_iter()
        .filter_map(|(path, text)| range(text, &path, errors))
        .collect();
    let allow_http = raw.allow_http.take(&path.key("allow_http"), errors).unwrap_or(false);
    let ports = ports(raw.ports, &path.key("ports"), errors).unwrap_or_else(|| DEFAULT_PORTS.to_vec());
    Guard { allow, allow_http, ports }
}

fn range(found: String, path: &KeyPath, errors: &mut Errors) -> Option<IpNet> {
    let net = found.parse().ok().or_else(|| Some(IpNet::from(found.parse::<IpAddr>().ok()?)));
    if net.is_none() {
        errors.add(path, Problem::Range { found });
    }
    net.map(unmapped)
}

/// A range of mapped addresses as the one that it stands for: `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn unmapped(net: IpNet) -> IpNet {
    match (net.network().to_canonical(), net.prefix_len().checked_sub(MAPPED_BITS)) {
        (IpAddr::V4(address), Some(bits)) if net.network().is_ipv6() => {
            IpNet::new(address.into(), bits).unwrap_or(net)
        }
        _ => net,
    }
}

/// An empty list is allowed: then only the ranges of `allow` can be reached, and with `allow_http` port 80.
fn ports(raw: Field<Vec<Field<u64>>>, path: &KeyPath, errors: &mut Errors) -> Option<Vec<u16>> {
    let list = raw.take(path, errors)?;
    let port = |(index, field): (usize, Field<u64>)| {
        let path = path.index(index);
        let found = field.require(&path, errors)?;
        u16::try_from(within(found, limits::PORT, &path, errors)?).ok()
    };
    Some(list.into_iter().enumerate().filter_map(port).collect())
}
