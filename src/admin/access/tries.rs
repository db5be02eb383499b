//! Slows down whoever tries tokens: each address may be wrong a few times, and then only now and then. Pure: the time is an
//! argument.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

/// So many wrong tokens are answered at once.
pub(super) const BURST: u32 = 5;
/// After which time one more is.
pub(super) const REFILL: Duration = Duration::from_secs(10);
/// How many addresses are told apart; all others together are one more.
const PEERS_MAX: usize = 4_096;
/// Where the addresses are counted that find no place.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

/// The wrong tokens of late. For each address, when all of them are forgotten.
#[derive(Debug, Default)]
pub(super) struct Tries(HashMap<IpAddr, Instant>);

impl Tries {
    /// How long `peer` has to wait before its next token is looked at; `None` if not at all.
    pub(super) fn wait(&self, peer: IpAddr, now: Instant) -> Option<Duration> {
        let forgotten = self.0.get(&self.place(peer))?.saturating_duration_since(now);
        let wait = (forgotten + REFILL).saturating_sub(BURST * REFILL);
        (!wait.is_zero()).then_some(wait)
    }

    /// Counts a wrong token.
    pub(super) fn failed(&mut self, peer: IpAddr, now: Instant) {
        if self.0.len() >= PEERS_MAX {
            self.0.retain(|_, forgotten| *forgotten > now);
        }
        let forgotten = self.0.entry(self.place(peer)).or_insert(now);
        *forgotten = (*forgotten).max(now) + REFILL;
    }

    fn place(&self, peer: IpAddr) -> IpAddr {
        let peer = network(peer);
        if self.0.contains_key(&peer) || self.0.len() < PEERS_MAX { peer } else { OTHERS }
    }
}

/// Whoever has one address of an IPv6 network has all 2^64 of them.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_few_wrong_tokens_are_free_and_more_take_their_time() {
        let (mut tries, peer, start) = (Tries::default(), IpAddr::from([192, 0, 2, 1]), Instant::now());
        for _ in 0..BURST {
            assert_eq!(tries.wait(peer, start), None);
            tries.failed(peer, start);
        }
        assert_eq!(tries.wait(peer, start), Some(REFILL));
        assert_eq!(tries.wait(IpAddr::from([192, 0, 2, 2]), start), None, "another address is free");
        assert_eq!(tries.wait(peer, start + REFILL), None);
        tries.failed(peer, start + REFILL);
        assert_eq!(tries.wait(peer, start + REFILL), Some(REFILL));
        let later = start + 100 * REFILL;
        for _ in 0..BURST {
            assert_eq!(tries.wait(peer, later), None, "in time all is forgotten");
            tries.failed(peer, later);
        }
    }

    #[test]
    fn many_addresses_take_no_more_memory_and_no_more_tries() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        let mut answered = 0;
        for n in 0..u32::try_from(3 * PEERS_MAX).unwrap() {
            let peer = IpAddr::from(n.to_be_bytes());
            if tries.wait(peer, now).is_none() {
                answered += 1;
                tries.failed(peer, now);
            }
        }
        assert!(tries.0.len() <= PEERS_MAX + 1, "{}", tries.0.len());
        assert_eq!(answered, PEERS_MAX + usize::try_from(BURST).unwrap());
        let neighbours = ["2001:db8::1", "2001:db8::2"].map(|text| network(text.parse().unwrap()));
        assert_eq!(neighbours[0], neighbours[1]);
    }
}
