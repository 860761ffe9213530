//! Failed logins cost time that doubles.
//!
//! An attempt counts as failed until it is known to have succeeded, so a thousand at once are as slow as a thousand in a row. What is counted is
//! a name at an address, and the address for all names together; never the name alone, or anybody could lock a user out. Time is passed in.
//!
//! Invariant: never more than [`ENTRIES_MAX`] entries.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::sha256;

/// How many names and addresses are remembered.
const ENTRIES_MAX: usize = 10_000;

/// How many attempts a name at an address has before it must wait.
const FREE_NAME: u32 = 5;

/// How many attempts an address has before it must wait.
const FREE_ADDRESS: u32 = 50;

/// The first wait; each further failure doubles it.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(5 * 60);

/// After how long without an attempt everything is forgotten.
const MEMORY: Duration = Duration::from_secs(15 * 60);

/// Failed logins of late.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    entries: Mutex<HashMap<Key, Failures>>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    /// An address and the hash of a name.
    Name(IpAddr, [u8; 32]),
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// An attempt that was let through, and counts as failed until it has succeeded.
#[derive(Debug)]
pub(crate) struct Attempt {
    address: Key,
    name: Option<Key>,
}

impl Limiter {
    /// Lets an attempt through, or says how long to wait. Without a name, as of a token, it counts for the address alone.
    pub(crate) fn attempt(&self, address: IpAddr, name: Option<&str>, now: Instant) -> Result<Attempt, Duration> {
        let address = network(address);
        let attempt = Attempt {
            address: Key::Address(address),
            name: name.map(|name| Key::Name(address, sha256(name.as_bytes()))),
        };
        let keys = || [Some(attempt.address), attempt.name].into_iter().flatten();
        let mut entries = self.entries.lock();
        let wait = keys().filter_map(|key| entries.get(&key)?.wait(key.free(), now)).max();
        if let Some(wait) = wait {
            return Err(wait);
        }
        for key in keys() {
            make_room(&mut entries, &key, now);
            let failures = entries.entry(key).or_insert(Failures { count: 0, last: now });
            if now.saturating_duration_since(failures.last) > MEMORY {
                failures.count = 0;
            }
            *failures = Failures { count: failures.count.saturating_add(1), last: now };
        }
        assert!(entries.len() <= ENTRIES_MAX, "the limiter must not outgrow its bound");
        Ok(attempt)
    }

    /// The attempt succeeded: the name's failures are forgiven, the address has one fewer.
    pub(crate) fn succeeded(&self, attempt: &Attempt) {
        let mut entries = self.entries.lock();
        if let Some(name) = &attempt.name {
            entries.remove(name);
        }
        if let Some(failures) = entries.get_mut(&attempt.address) {
            failures.count = failures.count.saturating_sub(1);
        }
    }
}

impl Key {
    fn free(&self) -> u32 {
        match self {
            Self::Address(_) => FREE_ADDRESS,
            Self::Name(..) => FREE_NAME,
        }
    }
}

impl Failures {
    /// How long the next attempt must wait still.
    fn wait(&self, free: u32, now: Instant) -> Option<Duration> {
        let beyond = self.count.checked_sub(free)?;
        let wait = WAIT_MIN.saturating_mul(2_u32.saturating_pow(beyond.min(16))).min(WAIT_MAX);
        wait.checked_sub(now.saturating_duration_since(self.last)).filter(|wait| !wait.is_zero())
    }
}

/// The address as it is counted: whoever has one address of IPv6 has the 2^64 of its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

/// Forgets what is old, or else what is oldest, where a new key would not fit.
fn make_room(entries: &mut HashMap<Key, Failures>, key: &Key, now: Instant) {
    if entries.len() < ENTRIES_MAX || entries.contains_key(key) {
        return;
    }
    entries.retain(|_, failures| now.saturating_duration_since(failures.last) <= MEMORY);
    if entries.len() < ENTRIES_MAX {
        return;
    }
    // A tenth at once, so that a flood of names does not pay for a search with each.
    let mut ages: Vec<Instant> = entries.values().map(|failures| failures.last).collect();
    let (_, cut, _) = ages.select_nth_unstable(ENTRIES_MAX / 10);
    let cut = *cut;
    entries.retain(|_, failures| failures.last > cut);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn waits_double_after_the_free_attempts_and_end_with_a_success() {
        let (limiter, mut now) = (Limiter::default(), Instant::now());
        for _ in 0..FREE_NAME {
            limiter.attempt(address(1), Some("ada"), now).unwrap();
        }
        assert_eq!(limiter.attempt(address(1), Some("ada"), now).unwrap_err(), WAIT_MIN);
        now += WAIT_MIN;
        limiter.attempt(address(1), Some("ada"), now).unwrap();
        assert_eq!(limiter.attempt(address(1), Some("ada"), now).unwrap_err(), WAIT_MIN * 2);
        now += WAIT_MIN * 2;
        let attempt = limiter.attempt(address(1), Some("ada"), now).unwrap();
        limiter.succeeded(&attempt);
        for _ in 0..FREE_NAME {
            limiter.attempt(address(1), Some("ada"), now).unwrap();
        }
    }

    #[test]
    fn other_names_and_addresses_go_on_until_the_address_has_had_enough() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for _ in 0..FREE_NAME {
            limiter.attempt(address(1), Some("ada"), now).unwrap();
        }
        assert!(limiter.attempt(address(1), Some("ada"), now).is_err());
        limiter.attempt(address(2), Some("ada"), now).unwrap();
        for number in 0..FREE_ADDRESS - FREE_NAME {
            limiter.attempt(address(1), Some(&format!("user {number}")), now).unwrap();
        }
        assert!(limiter.attempt(address(1), Some("another"), now).is_err());
        limiter.attempt(address(2), Some("another"), now).unwrap();
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for host in 0..u16::try_from(FREE_NAME).unwrap() {
            let address = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host));
            limiter.attempt(address, Some("ada"), now).unwrap();
        }
        let other = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 9, 9, 9, 9));
        assert!(limiter.attempt(other, Some("ada"), now).is_err());
    }

    #[test]
    fn flood_of_names_stays_within_the_bound() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        for number in 0..30_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let now = start + Duration::from_millis(u64::from(number));
            limiter.attempt(IpAddr::from([10, a, b, c]), Some("ada"), now).unwrap();
        }
        assert!(limiter.entries.lock().len() <= ENTRIES_MAX);
    }

    #[test]
    fn everything_is_forgotten_in_time() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for number in 0..20 {
            let _refused = limiter.attempt(address(1), Some("ada"), now + WAIT_MAX * number);
        }
        let later = now + WAIT_MAX * 20 + MEMORY * 2;
        for _ in 0..FREE_NAME {
            limiter.attempt(address(1), Some("ada"), later).unwrap();
        }
    }
}
