#!/usr/bin/env python3
"""Judges addresses without natshook: which are public, and which must be refused.

Prints tests/it/fixtures/egress-oracle.txt, a line for each address with its verdict. The test
`the_guard_agrees_with_the_oracle` holds the egress guard against it, and another one that this
script still prints it, byte for byte:

    python3 scripts/egress-oracle.py > tests/it/fixtures/egress-oracle.txt

The verdicts come from the IANA registries below with their own column "Globally Reachable", and
from the list of exceptions. Python's `ipaddress` is the second opinion: where it says otherwise,
the address must lie in a range of DIFFERS, or this script ends with an error. It is no more than
that because its tables differ between versions of Python.
"""

import random
import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

# IANA IPv4 Special-Purpose Address Registry: range, globally reachable.
IPV4_REGISTRY = [
    ("0.0.0.0/8", False), ("0.0.0.0/32", False), ("10.0.0.0/8", False), ("100.64.0.0/10", False),
    ("127.0.0.0/8", False), ("169.254.0.0/16", False), ("172.16.0.0/12", False),
    ("192.0.0.0/24", False), ("192.0.0.0/29", False), ("192.0.0.8/32", False),
    ("192.0.0.9/32", True), ("192.0.0.10/32", True), ("192.0.0.170/32", False),
    ("192.0.0.171/32", False), ("192.0.2.0/24", False), ("192.31.196.0/24", True),
    ("192.52.193.0/24", True), ("192.88.99.0/24", False), ("192.88.99.2/32", False),
    ("192.168.0.0/16", False), ("192.175.48.0/24", True), ("198.18.0.0/15", False),
    ("198.51.100.0/24", False), ("203.0.113.0/24", False), ("240.0.0.0/4", False),
    ("255.255.255.255/32", False),
]

# IANA IPv6 Special-Purpose Address Registry. Where it says "N/A" (Teredo, 6to4) the address leads on to
# an IPv4 address of anybody's choice, so it counts as not reachable. Mapped addresses (::ffff:0:0/96)
# and the well-known NAT64 prefix (64:ff9b::/96) are in it as well; see `embedded`.
IPV6_REGISTRY = [
    ("::1/128", False), ("::/128", False), ("64:ff9b:1::/48", False), ("100::/64", False),
    ("100:0:0:1::/64", False), ("2001::/23", False), ("2001::/32", False), ("2001:1::1/128", True),
    ("2001:1::2/128", True), ("2001:1::3/128", True), ("2001:2::/48", False), ("2001:3::/32", True),
    ("2001:4:112::/48", True), ("2001:10::/28", False), ("2001:20::/28", True),
    ("2001:30::/28", True), ("2001:db8::/32", False), ("2002::/16", False),
    ("2620:4f:8000::/48", True), ("3fff::/20", False), ("5f00::/16", False), ("fc00::/7", False),
    ("fe80::/10", False),
]

# Refused although the registries call them globally reachable, or do not name them.
EXCEPTIONS = [
    ("192.0.0.9/32", "anycast (port control): the nearest one answers, often one's own router"),
    ("192.0.0.10/32", "anycast (TURN): likewise"),
    ("192.31.196.0/24", "anycast (AS112): a DNS sink, often in one's own network"),
    ("192.52.193.0/24", "anycast (AMT): a multicast relay"),
    ("192.175.48.0/24", "anycast (AS112)"),
    ("224.0.0.0/4", "multicast: not in the registry, and no one receiver"),
    ("2001:1::1/128", "anycast (port control)"),
    ("2001:1::2/128", "anycast (TURN)"),
    ("2001:1::3/128", "anycast (service registration)"),
    ("2001:3::/32", "anycast (AMT)"),
    ("2001:4:112::/48", "anycast (AS112)"),
    ("2001:20::/28", "ORCHIDv2: names of keys, not places in the network"),
    ("2001:30::/28", "ids of drones, likewise"),
    ("2620:4f:8000::/48", "anycast (AS112)"),
    ("::/3", "not public unicast (2000::/3): the IETF's reserve, IPv4-compatible and -translated"),
    ("4000::/2", "not public unicast"),
    ("8000::/1", "not public unicast: unique, link and site local, multicast, and the IETF's reserve"),
]

# Where `ipaddress` may say otherwise, depending on the version of Python.
DIFFERS = [
    ("192.0.0.0/24", "before 3.13 its rows were read in part"),
    ("192.31.196.0/24", "globally reachable, see the exceptions"),
    ("192.52.193.0/24", "globally reachable, see the exceptions"),
    ("192.88.99.0/24", "deprecated (RFC 7526), but not among its private ranges"),
    ("192.175.48.0/24", "globally reachable, see the exceptions"),
    ("64:ff9b:1::/48", "unknown before 3.13"),
    ("100:0:0:1::/64", "newer than most versions"),
    ("2001::/23", "before 3.13 its rows were read in part; the rest see the exceptions"),
    ("2002::/16", "not private by itself"),
    ("2620:4f:8000::/48", "globally reachable, see the exceptions"),
    ("3fff::/20", "newer than most versions"),
]

SEED = 20240703
NAT64 = int(IPv6Address("64:ff9b::"))
MAPPED = int(IPv6Address("::ffff:0:0"))


def embedded(address):
    """The IPv4 address that is really reached through a mapped or NAT64 address; else the address."""
    if address.version == 6 and int(address) >> 32 in (MAPPED >> 32, NAT64 >> 32):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def networks(rows):
    return [(ip_network(row[0]), row[1]) for row in rows]


REGISTRY = networks(IPV4_REGISTRY) + networks(IPV6_REGISTRY)
REFUSED = networks(EXCEPTIONS)
DISAGREED = networks(DIFFERS)


def inside(address, rows):
    return [(net, what) for net, what in rows if net.version == address.version and address in net]


def is_public(address):
    address = embedded(address)
    rows = inside(address, REGISTRY)
    # The narrowest row decides: the registry lists exceptions inside wider ranges.
    narrowest = max(rows, key=lambda row: row[0].prefixlen, default=(None, True))
    return narrowest[1] and not inside(address, REFUSED)


def second_opinion(address):
    address = embedded(address)
    site_local = address.version == 6 and address.is_site_local
    return address.is_global and not (address.is_multicast or address.is_reserved or site_local)


def written(address):
    """In full for IPv6, since Python's own shortest form changed between versions."""
    if address.version == 4:
        return str(address)
    return ":".join(f"{int(address) >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))


def boundaries(net):
    most = 2**net.max_prefixlen - 1
    first, last = int(net.network_address), int(net.broadcast_address)
    values = {first - 1, first, first + 1, last - 1, last, last + 1, (first + last) // 2}
    cls = type(net.network_address)
    return {cls(value) for value in values if 0 <= value <= most}


def addresses():
    draw = random.Random(SEED)
    four, six = set(), set()
    for net, _ in REGISTRY + REFUSED:
        (four if net.version == 4 else six).update(boundaries(net))
        width = net.max_prefixlen - net.prefixlen
        inner = type(net.network_address)(int(net.network_address) | draw.getrandbits(128) % 2**width)
        (four if net.version == 4 else six).add(inner)
    four.update(IPv4Address(draw.getrandbits(32)) for _ in range(1000))
    four.update(map(IPv4Address, ["8.8.8.8", "93.184.215.14", "169.254.169.254", "100.100.100.200"]))
    six.update(IPv6Address(draw.getrandbits(128)) for _ in range(300))
    unicast = int(IPv6Address("2000::"))
    six.update(IPv6Address(unicast | draw.getrandbits(125)) for _ in range(1000))
    six.update(map(IPv6Address, ["2606:4700::1111", "fd00:ec2::254", "fec0::1", "ff02::1", "200::1"]))
    for address in sorted(four):
        value = int(address)
        six.add(IPv6Address(MAPPED | value))
        six.add(IPv6Address(NAT64 | value))
    for address in draw.sample(sorted(four), 60):
        value = int(address)
        six.add(IPv6Address(value))  # IPv4-compatible
        six.add(IPv6Address(0xFFFF << 48 | value))  # IPv4-translated
        six.add(IPv6Address(0x2002 << 112 | value << 80))  # 6to4
        six.add(IPv6Address(0x20010000 << 96 | draw.getrandbits(64) << 32 | value ^ 0xFFFF_FFFF))  # Teredo
        six.add(IPv6Address(int(IPv6Address("64:ff9b:1::")) | value))  # local-use NAT64
    return sorted(four) + sorted(six)


def main():
    unexplained = []
    for address in addresses():
        public = is_public(address)
        if second_opinion(address) != public and not inside(embedded(address), DISAGREED):
            unexplained.append(f"{address}: {'public' if public else 'refused'} here, not so in ipaddress")
        print(written(address), "public" if public else "refused")
    if unexplained:
        sys.exit("\n".join(["Python's ipaddress says otherwise, and DIFFERS does not say why:", *unexplained]))


main()
