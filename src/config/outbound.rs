//! Reads `[outbound]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Outbound;
use super::document::{Node, Section};
use super::raw::{Reader, optional, or_default};

/// Shortest prefix of a network that is allowed without a warning: less names more than one's own.
const PREFIX_MIN: u8 = 8;

/// Reads the table.
pub(super) fn read_outbound(reader: &Reader<'_>, section: &Section<'_>) -> Option<Outbound> {
    section.only(&["allow_private", "hosts", "ca"], &[]);
    let allow_private = or_default(section.get("allow_private"), Vec::new(), networks);
    let hosts = or_default(section.get("hosts"), BTreeMap::new(), |node| hosts(reader, node));
    let ca = optional(section.get("ca"), |node| reader.readable(node));
    Some(Outbound { allow_private: allow_private?, hosts: hosts?, ca: ca? })
}

fn networks(node: &Node<'_>) -> Option<Vec<IpNet>> {
    let items = bounded(node.array("networks such as 10.20.0.0/16")?, node)?;
    // All are read before the first failure counts, so that each is reported.
    items.iter().map(network).collect::<Vec<_>>().into_iter().collect()
}

fn network(node: &Node<'_>) -> Option<IpNet> {
    let text = node.string("a network such as 10.20.0.0/16")?;
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    match network {
        None => node.wrong("this is no network", "write an address, or one with a prefix: 10.20.0.0/16"),
        Some(network) if network.prefix_len() < PREFIX_MIN => node.risky(
            "this allows calls to almost any address, those of cloud metadata services among them",
            "name the network that is meant, such as 10.20.0.0/16",
        ),
        Some(_) => {}
    }
    network
}

fn hosts(reader: &Reader<'_>, node: &Node<'_>) -> Option<BTreeMap<String, SocketAddr>> {
    let section = node.section()?;
    let entries = bounded(section.entries().collect(), node)?;
    let read = |(name, node): &(&str, Node<'_>)| {
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || !name.chars().all(is_host) {
            node.wrong("this is no host name", "write it without scheme, port and path: keys.example.com");
            return None;
        }
        Some((name.to_ascii_lowercase(), reader.address(node)?))
    };
    entries.iter().map(read).collect::<Vec<_>>().into_iter().collect()
}

fn bounded<T>(items: Vec<T>, node: &Node<'_>) -> Option<Vec<T>> {
    if items.len() > Outbound::ENTRIES_MAX {
        node.wrong("the list is too long", format!("name at most {}", Outbound::ENTRIES_MAX));
        return None;
    }
    Some(items)
}
