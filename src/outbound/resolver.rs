//! From a host's name to addresses that may be called. What is judged here is what is connected to: the
//! name is not resolved a second time, so that no answer of DNS can change in between.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::address::refusal;
use crate::settings::Outbound;

/// Most names that are looked up at once. A look-up holds a thread until the system's resolver gives up,
/// whoever still waits for it.
const LOOKUPS_MAX: usize = 16;

/// Why a host has no address that may be called.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Unusable {
    #[error("its name has no address")]
    Unknown,
    #[error("its address {address} is {what}; if that is meant, add it to outbound.allow_private")]
    Refused { address: IpAddr, what: &'static str },
}

/// Resolves names, and keeps what may be called.
pub(super) struct Resolver {
    allowed: Vec<IpNet>,
    hosts: BTreeMap<String, SocketAddr>,
    lookups: Arc<Semaphore>,
}

impl Resolver {
    pub(super) fn new(settings: &Outbound) -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self { allowed: settings.allow_private.clone(), hosts: settings.hosts.clone(), lookups }
    }

    /// Judges an address that stands in a URL itself.
    pub(super) fn judge(&self, address: IpAddr) -> Result<(), Unusable> {
        match refusal(address, &self.allowed) {
            None => Ok(()),
            Some(what) => Err(Unusable::Refused { address, what }),
        }
    }
}

/// Keeps the addresses that may be called; one that may not is told where no other is left.
fn usable(found: &[SocketAddr], allowed: &[IpNet]) -> Result<Vec<SocketAddr>, Unusable> {
    let good: Vec<_> = found.iter().copied().filter(|it| refusal(it.ip(), allowed).is_none()).collect();
    if !good.is_empty() {
        return Ok(good);
    }
    let refused = found.iter().find_map(|it| Some((it.ip(), refusal(it.ip(), allowed)?)));
    Err(refused.map_or(Unusable::Unknown, |(address, what)| Unusable::Refused { address, what }))
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_ascii_lowercase();
        let (allowed, lookups) = (self.allowed.clone(), self.lookups.clone());
        let pinned = self.hosts.get(&host).copied();
        Box::pin(async move {
            let found = match pinned {
                Some(address) => vec![address],
                None => {
                    let permit = lookups.acquire_owned().await?;
                    let look_up = move || {
                        let _permit = permit;
                        // Port 0 becomes the URL's own.
                        (host.as_str(), 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>)
                    };
                    tokio::task::spawn_blocking(look_up).await?.map_err(|_| Unusable::Unknown)?
                }
            };
            Ok(Box::new(usable(&found, &allowed)?.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: &[&str], expected: Result<&[&str], &str>) {
        let parse = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
        };
        let usable = usable(&parse(found), &["10.9.0.0/16".parse().unwrap()]);
        assert_eq!(
            usable.map_err(|error| error.to_string()),
            expected.map(parse).map_err(str::to_owned),
            "{found:?}"
        );
    }

    #[test]
    fn only_addresses_that_may_be_called_are_left() {
        check(&["1.1.1.1", "2606:4700::1111"], Ok(&["1.1.1.1", "2606:4700::1111"]));
        check(&["127.0.0.1", "1.1.1.1"], Ok(&["1.1.1.1"]));
        check(&["10.9.1.1"], Ok(&["10.9.1.1"]));
        check(&[], Err("its name has no address"));
        check(
            &["::1", "10.8.0.1"],
            Err("its address ::1 is loopback; if that is meant, add it to outbound.allow_private"),
        );
    }
}
