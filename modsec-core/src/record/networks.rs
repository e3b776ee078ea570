//! Sets of networks that an administrator writes down.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::address::embedded_ipv4;
use super::parse_ip;

/// Why a text is not a set of networks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworksError {
    /// Neither an address nor a network.
    #[error("{text:?} is not an address or network, write it like 192.0.2.7 or 2001:db8::/32")]
    NotANetwork {
        /// The text in question.
        text: String,
    },
    /// A line of a list is neither an address nor a network.
    #[error("line {line}: {text:?} is not an address or network")]
    BadLine {
        /// Line, counted from 1.
        line: usize,
        /// The text in question.
        text: String,
    },
}

/// Reads `192.0.2.7`, `192.0.2.0/24`, `2001:db8::1` or `2001:db8::/32`.
///
/// Bits behind the prefix are cleared. An address alone is the network that holds only it, and an
/// IPv4-mapped network is the IPv4 network it stands for.
///
/// # Errors
/// [`NetworksError::NotANetwork`] for anything else.
pub fn parse_network(text: &str) -> Result<IpNet, NetworksError> {
    parse_ip(text.as_bytes())
        .map(IpNet::from)
        .or_else(|| text.parse::<IpNet>().ok().map(canonical))
        .ok_or_else(|| NetworksError::NotANetwork {
            text: text.to_owned(),
        })
}

/// Returns the shortest spelling of a network: of a network of one the address alone.
///
/// [`parse_network`] reads it back.
pub fn network_text(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// Clears the bits behind the prefix and turns `::ffff:192.0.2.0/120` into `192.0.2.0/24`.
fn canonical(network: IpNet) -> IpNet {
    let network = network.trunc();
    let mapped = match (network.addr().to_canonical(), network.prefix_len()) {
        (IpAddr::V4(address), prefix @ 96..) => IpNet::new(address.into(), prefix - 96).ok(),
        _ => None,
    };
    mapped.unwrap_or(network)
}

/// A set of networks, asked by binary search.
///
/// Overlapping and adjacent networks are joined, so a list of thousands costs a look-up of a few
/// steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// IPv4 networks as ranges of addresses, ascending; no two overlap.
    v4: Vec<RangeInclusive<Ipv4Addr>>,
    /// IPv6 networks, in the same way.
    v6: Vec<RangeInclusive<Ipv6Addr>>,
}

impl Networks {
    /// Returns the addresses by which a host reaches itself: `127.0.0.0/8` and `::1`.
    pub fn loopback() -> Networks {
        [
            IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
            IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ]
        .into_iter()
        .collect()
    }

    /// Reads one address or network per line; blank lines and what follows `#` do not count.
    ///
    /// # Errors
    /// [`NetworksError::BadLine`] names the first line that is something else.
    pub fn parse_list(text: &str) -> Result<Vec<IpNet>, NetworksError> {
        let entry = |(n, line): (usize, &str)| {
            let text = line.split('#').next().unwrap_or_default().trim();
            (!text.is_empty()).then(|| {
                parse_network(text).map_err(|_| NetworksError::BadLine {
                    line: n + 1,
                    text: text.to_owned(),
                })
            })
        };
        text.lines().enumerate().filter_map(entry).collect()
    }

    /// Returns `true` if `address` is in one of the networks, or, if it stands for an IPv4 address
    /// (NAT64, 6to4, Teredo), if that is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => any_contains(&self.v4, address),
            IpAddr::V6(address) => {
                any_contains(&self.v6, address)
                    || embedded_ipv4(address).is_some_and(|v4| any_contains(&self.v4, v4))
            }
        }
    }

    /// Returns `true` if the set is empty.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// `ranges` are sorted and do not touch.
fn any_contains<A: Ord + Copy>(ranges: &[RangeInclusive<A>], address: A) -> bool {
    let behind = ranges.partition_point(|range| *range.start() <= address);
    behind
        .checked_sub(1)
        .and_then(|n| ranges.get(n))
        .is_some_and(|range| address <= *range.end())
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let networks: Vec<IpNet> = networks.into_iter().map(canonical).collect();
        let mut set = Networks::default();
        for network in IpNet::aggregate(&networks) {
            match network {
                IpNet::V4(network) => set.v4.push(network.network()..=network.broadcast()),
                IpNet::V6(network) => set.v6.push(network.network()..=network.broadcast()),
            }
        }
        set.v4.sort_unstable_by_key(|range| *range.start());
        set.v6.sort_unstable_by_key(|range| *range.start());
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_in_every_spelling() {
        for (text, want) in [
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("192.0.2.7/24", Some("192.0.2.0/24")),
            ("2001:db8::1", Some("2001:db8::1/128")),
            ("2001:db8::1/32", Some("2001:db8::/32")),
            ("::ffff:192.0.2.7", Some("192.0.2.7/32")),
            ("::ffff:192.0.2.0/120", Some("192.0.2.0/24")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("192.0.2.7/33", None),
            ("192.0.2.7/e", None),
            ("192.0.2.7 ", None),
            ("localhost", None),
            ("", None),
        ] {
            let got = parse_network(text).ok().map(|network| network.to_string());
            assert_eq!(got.as_deref(), want, "input {text:?}");
        }
    }

    #[test]
    fn a_set_holds_exactly_its_networks() {
        let list = "192.0.2.0/25 # office\n\n192.0.2.128/25\n198.51.100.7\n2001:db8::/32\n";
        let set: Networks = Networks::parse_list(list).unwrap().into_iter().collect();
        for (address, want) in [
            ("192.0.1.255", false),
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("198.51.100.6", false),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
            ("::ffff:198.51.100.7", true),
            ("64:ff9b::198.51.100.7", true),
            ("64:ff9b::198.51.100.8", false),
            ("2002:c633:6407::1", true),
            ("2002:c633:6408::1", false),
            ("2001:0:cb00:7101:8000:63bf:39cc:9bf8", true),
            ("2001:db7:ffff::1", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), want, "{address}");
        }
        assert!(!Networks::default().contains(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(Networks::loopback().contains("127.9.9.9".parse().unwrap()));
        // Nobody becomes a trusted proxy by an address that he made up.
        for made_up in ["64:ff9b::127.0.0.1", "2002:7f00:1::"] {
            assert!(!Networks::loopback().contains(made_up.parse().unwrap()));
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        assert_eq!(
            Networks::parse_list("192.0.2.0/24\n\nsomewhere # x\n"),
            Err(NetworksError::BadLine {
                line: 3,
                text: "somewhere".to_owned()
            })
        );
    }
}
