//! Which addresses may be called: pure judgement, on addresses alone.
//!
//! A URL that comes with a request, or a name that somebody else's DNS server answers for, must not lead
//! into the network that hookkeeper runs in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// IPv4 networks that are not the public internet (IANA's special-purpose registry), and what they are.
const SPECIAL_V4: [(Ipv4Addr, u8, &str); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this machine's own"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by carriers"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    // Azure's services of the virtual machine's host.
    (Ipv4Addr::new(168, 63, 129, 16), 32, "a cloud's metadata service"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// IPv6 networks within the global range that are not the public internet.
const SPECIAL_V6: [(Ipv6Addr, u8, &str); 4] = [
    // Teredo, ORCHID, benchmarks: tunnels may end at any IPv4 address.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a tunnel to an IPv4 address"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
];

/// The range of global unicast addresses; what lies outside is no public address.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// The prefix under which NAT64 shows IPv4 addresses (RFC 6052).
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Returns what an address is that may not be called; nothing for one that may.
pub(super) fn refusal(address: IpAddr, allowed: &[IpNet]) -> Option<&'static str> {
    // An IPv4 address in IPv6 clothes is judged as what is called in the end.
    let address = address.to_canonical();
    if allowed.iter().any(|network| network.contains(&address)) {
        return None;
    }
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = u32::from(address);
    let found = SPECIAL_V4.iter().find(|(network, prefix, _)| {
        let shift = 32 - u32::from(*prefix);
        bits >> shift == u32::from(*network) >> shift
    });
    found.map(|(_, _, what)| *what)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let within = |(network, prefix): (Ipv6Addr, u8)| {
        let shift = 128 - u32::from(prefix);
        u128::from(address) >> shift == u128::from(network) >> shift
    };
    if within(NAT64) {
        let [.., a, b, c, d] = address.octets();
        return special_v4(Ipv4Addr::new(a, b, c, d));
    }
    if !within(GLOBAL_V6) {
        return Some(match address {
            Ipv6Addr::LOCALHOST => "loopback",
            _ if address.is_multicast() => "multicast",
            _ if address.is_unique_local() => "private",
            _ if address.is_unicast_link_local() => "link-local",
            _ => "reserved",
        });
    }
    let found = SPECIAL_V6.iter().find(|(network, prefix, _)| within((*network, *prefix)));
    found.map(|(_, _, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, allowed: &[&str], expected: Option<&str>) {
        let allowed: Vec<IpNet> = allowed.iter().map(|network| network.parse().unwrap()).collect();
        assert_eq!(refusal(address.parse().unwrap(), &allowed), expected, "{address} with {allowed:?}");
    }

    #[test]
    fn public_addresses_may_be_called() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "2001:200::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            check(address, &[], None);
        }
    }

    #[test]
    fn everything_else_may_not() {
        for (address, expected) in [
            ("0.0.0.0", "this machine's own"),
            ("0.1.2.3", "this machine's own"),
            ("10.0.0.1", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("100.64.0.1", "shared by carriers"),
            ("100.100.100.200", "shared by carriers"),
            ("169.254.169.254", "link-local"),
            ("168.63.129.16", "a cloud's metadata service"),
            ("192.0.0.192", "reserved"),
            ("198.19.0.1", "for benchmarks"),
            ("203.0.113.9", "for documentation"),
            ("239.1.1.1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("::", "reserved"),
            ("::1", "loopback"),
            ("::127.0.0.1", "reserved"),
            ("fc00::1", "private"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "reserved"),
            ("ff02::1", "multicast"),
            ("100::1", "reserved"),
            ("2001::1", "reserved"),
            ("2001:db8::1", "for documentation"),
            ("2002:7f00:1::", "a tunnel to an IPv4 address"),
            ("3fff::1", "for documentation"),
            ("5f00::1", "reserved"),
            ("64:ff9b:1::10.0.0.1", "reserved"),
        ] {
            check(address, &[], Some(expected));
        }
    }

    #[test]
    fn ipv4_in_ipv6_is_judged_as_ipv4() {
        check("::ffff:127.0.0.1", &[], Some("loopback"));
        check("::ffff:169.254.169.254", &[], Some("link-local"));
        check("64:ff9b::10.0.0.1", &[], Some("private"));
        check("64:ff9b::169.254.169.254", &[], Some("link-local"));
        check("::ffff:10.0.0.1", &["10.0.0.0/8"], None);
    }

    #[test]
    fn what_is_allowed_is_allowed_and_no_more() {
        check("10.1.2.3", &["10.1.2.0/24"], None);
        check("10.1.3.3", &["10.1.2.0/24"], Some("private"));
        check("127.0.0.1", &["127.0.0.1/32"], None);
        check("127.0.0.2", &["127.0.0.1/32"], Some("loopback"));
        check("::1", &["127.0.0.0/8"], Some("loopback"));
        check("fd00::5", &["fd00::/8"], None);
    }
}
