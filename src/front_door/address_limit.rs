//! Limits refused requests per sender address.
//!
//! Verified traffic is never counted here: behind a proxy every provider has the same address, and
//! forgers must not be able to spend what honest senders need. So the limit is asked after a request
//! failed its verification, and only changes what the forger hears and what is written about it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::event::Timestamp;
use crate::flow::TokenBucket;

/// Refused requests per second that an address may send before it is told to slow down.
const REFUSED_PER_SECOND: f64 = 50.0;
/// Refused requests that an address may send at once.
const REFUSED_BURST: u32 = 500;
/// Most addresses remembered. When there are more, all start anew, which errs on the mild side.
const ADDRESSES_MAX: usize = 4096;

/// Buckets of refused requests by address.
#[derive(Default)]
pub(crate) struct AddressLimit(Mutex<HashMap<IpAddr, TokenBucket>>);

impl AddressLimit {
    /// Counts a refused request of `address`.
    ///
    /// # Errors
    ///
    /// How long the address should wait, if it sent too many.
    pub(crate) fn refused(&self, address: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let mut buckets = self.0.lock();
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&address) {
            buckets.clear();
        }
        let bucket =
            buckets.entry(address).or_insert_with(|| TokenBucket::new(REFUSED_PER_SECOND, REFUSED_BURST));
        bucket.try_take(now.as_microsecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_limited_alone_and_the_table_is_bounded() {
        let limit = AddressLimit::default();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let forger = IpAddr::from([10, 0, 0, 1]);
        assert!((0..REFUSED_BURST).all(|_| limit.refused(forger, now).is_ok()));
        assert!(limit.refused(forger, now).is_err());
        assert!(limit.refused(IpAddr::from([10, 0, 0, 2]), now).is_ok());
        for n in 0..10_000_u32 {
            let _ = limit.refused(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(limit.0.lock().len() <= ADDRESSES_MAX);
    }
}
