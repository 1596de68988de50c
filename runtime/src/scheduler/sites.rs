//! How long tasks of each spawn site are usually parked: a histogram a site, fed by samples.
//!
//! A worker looks at the first poll of some of its turns, so the price is spread over hundreds of polls. A sample that finds the table
//! busy is dropped.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::task::header::Header;

/// Bucket 0 is less than a millisecond, bucket n is from 2^(n-1) ms up to 2^n ms. The last has no end: 12 days and more.
const BUCKETS: usize = 32;

/// Spawn sites that are kept; a program has so many lines that spawn only if it was generated.
const SITES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Sites(Mutex<HashMap<&'static Location<'static>, Parks>>);

/// Sampled park times of one site's tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parks([u32; BUCKETS]);

impl Sites {
    /// The task is about to be polled. Its runner only.
    #[cold]
    pub(crate) fn sample(&self, header: &Header, now_ms: u64) {
        // A first poll ends no park.
        let Some(parked_ms) = header.record.last_parked_ms() else { return };
        let Ok(mut sites) = self.0.try_lock() else { return };
        let site = header.record.spawned_at();
        if sites.len() < SITES_MAX || sites.contains_key(site) {
            sites.entry(site).or_default().add(now_ms.saturating_sub(parked_ms));
        }
    }

    pub(crate) fn copy(&self) -> Vec<(&'static Location<'static>, Parks)> {
        let sites = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sites.iter().map(|(site, parks)| (*site, parks.clone())).collect()
    }
}

impl Parks {
    fn add(&mut self, ms: u64) {
        let bucket = (u64::BITS - ms.leading_zeros()) as usize;
        let count = &mut self.0[bucket.min(BUCKETS - 1)];
        *count = count.saturating_add(1);
    }

    pub(crate) fn samples(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }

    /// At most this long were 99 of 100 samples, rounded up to a bucket's end.
    pub(crate) fn p99(&self) -> Duration {
        self.bound(self.samples() - self.samples() / 100)
    }

    /// At most this long were all of them, rounded up to a bucket's end.
    pub(crate) fn longest(&self) -> Duration {
        self.bound(self.samples())
    }

    /// The end of the bucket in which the sample of that rank lies, in order of length.
    fn bound(&self, rank: u64) -> Duration {
        let mut seen = 0;
        let bucket = self.0.iter().position(|&count| {
            seen += u64::from(count);
            seen >= rank
        });
        Duration::from_millis(1 << bucket.unwrap_or(0))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_the_ends_of_buckets() {
        let mut parks = Parks::default();
        for ms in [0, 1, 3, 4, 700] {
            parks.add(ms);
        }
        assert_eq!((parks.0[0], parks.0[1], parks.0[2], parks.0[3], parks.0[10]), (1, 1, 1, 1, 1));
        assert_eq!((parks.samples(), parks.longest()), (5, Duration::from_millis(1024)));
        (0..495).for_each(|_| parks.add(5));
        assert_eq!(parks.p99(), Duration::from_millis(8), "495 of 500 were under 8 ms, and 4 more");
        parks.add(u64::MAX);
        assert_eq!(parks.longest(), Duration::from_millis(1 << (BUCKETS - 1)));
    }
}
