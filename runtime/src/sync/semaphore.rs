//! A count of permits, for bounding how much goes on at once. Fair: permits are given out in the order in which they were
//! asked for.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::permits::{Claim, Hold, Permits, Source};
use crate::task::facts::Hand;
use crate::task::wait::WaitReason;

/// A number of permits that tasks take and give back.
///
/// Whoever asks for more permits than are free waits, and whoever comes after waits behind: nobody is overtaken, even where
/// fewer permits would do.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let semaphore = leakfree::sync::Semaphore::new(2);
/// let one = semaphore.acquire().await.unwrap();
/// assert_eq!(semaphore.available_permits(), 1);
/// assert!(semaphore.try_acquire_many(2).is_err());
/// drop(one);
/// assert!(semaphore.try_acquire_many(2).is_ok());
/// # });
/// ```
pub struct Semaphore {
    permits: Permits,
}

impl Source for &Semaphore {
    const OWNED: bool = false;

    fn permits(&self) -> &Permits {
        &self.permits
    }
}

impl Source for Arc<Semaphore> {
    const OWNED: bool = true;

    fn permits(&self) -> &Permits {
        &self.permits
    }
}

impl Semaphore {
    /// The most permits that a semaphore can have.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    /// A semaphore with that many permits.
    ///
    /// # Panics
    /// If there are more than [`MAX_PERMITS`](Semaphore::MAX_PERMITS).
    #[track_caller]
    pub const fn new(permits: usize) -> Semaphore {
        assert!(
            permits <= Semaphore::MAX_PERMITS,
            "a semaphore was to have more than Semaphore::MAX_PERMITS"
        );
        Semaphore { permits: Permits::new(permits, Location::caller()) }
    }

    /// As [`new`](Semaphore::new), which can be called in a `static`, too.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub const fn const_new(permits: usize) -> Semaphore {
        Semaphore::new(permits)
    }

    /// How many permits can be had now without waiting. What has come free for somebody who waits for more is not counted.
    pub fn available_permits(&self) -> usize {
        self.permits.available()
    }

    /// Adds permits.
    ///
    /// # Panics
    /// If more than [`MAX_PERMITS`](Semaphore::MAX_PERMITS) were free.
    #[track_caller]
    pub fn add_permits(&self, n: usize) {
        assert!(
            self.permits.add(n, Semaphore::MAX_PERMITS),
            "a semaphore with {} free permits was given {n} more, and can have Semaphore::MAX_PERMITS at most",
            self.available_permits()
        );
    }

    /// Takes up to `n` permits that are free out for good, and returns how many.
    pub fn forget_permits(&self, n: usize) -> usize {
        self.permits.remove(n)
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// [`AcquireError`] if the semaphore is closed, or is closed meanwhile.
    ///
    /// # Cancel safety
    /// Cancel safe, but the place in the queue is lost. A permit that was granted to it goes to the next in line.
    #[track_caller]
    pub fn acquire(&self) -> Acquire<'_> {
        self.acquire_many(1)
    }

    /// Waits for `n` permits, and takes them at once.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # Cancel safety
    /// As there.
    #[track_caller]
    pub fn acquire_many(&self, n: u32) -> Acquire<'_> {
        Acquire(Claim::new(self, n as usize, WaitReason::SemaphoreAcquire))
    }

    /// As [`acquire`](Semaphore::acquire), with a permit that keeps the semaphore alive and borrows nothing.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    #[track_caller]
    pub fn acquire_owned(self: Arc<Self>) -> AcquireOwned {
        self.acquire_many_owned(1)
    }

    /// As [`acquire_many`](Semaphore::acquire_many), with a permit that keeps the semaphore alive and borrows nothing.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    #[track_caller]
    pub fn acquire_many_owned(self: Arc<Self>, n: u32) -> AcquireOwned {
        AcquireOwned(Claim::new(self, n as usize, WaitReason::SemaphoreAcquire))
    }

    /// A permit, if one is free and nobody waits. Does not wait.
    ///
    /// # Errors
    /// [`TryAcquireError`], which says why not.
    #[track_caller]
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// `n` permits, if they are free and nobody waits. Does not wait.
    ///
    /// # Errors
    /// [`TryAcquireError`], which says why not.
    #[track_caller]
    pub fn try_acquire_many(&self, n: u32) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        let held = self.permits.try_take(n as usize, Hand::polled(Location::caller()))?;
        Ok(SemaphorePermit(Hold::new(self, n as usize, held)))
    }

    /// As [`try_acquire`](Semaphore::try_acquire), with a permit that keeps the semaphore alive and borrows nothing.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    /// As [`try_acquire_many`](Semaphore::try_acquire_many), with a permit that keeps the semaphore alive and borrows
    /// nothing.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn try_acquire_many_owned(self: Arc<Self>, n: u32) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        let held = self.permits.try_take(n as usize, Hand::polled(Location::caller()).owned())?;
        Ok(OwnedSemaphorePermit(Hold::new(self, n as usize, held)))
    }

    /// Gives no permits out any more: who waits, and who asks later, gets an error. Those that were given out stay so.
    pub fn close(&self) {
        self.permits.close();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }
}

/// The future of [`Semaphore::acquire`] and [`Semaphore::acquire_many`].
#[must_use = "futures do nothing unless they are awaited"]
#[derive(Debug)]
pub struct Acquire<'a>(Claim<&'a Semaphore>);

impl<'a> Future for Acquire<'a> {
    type Output = Result<SemaphorePermit<'a>, AcquireError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(SemaphorePermit)
    }
}

/// The future of [`Semaphore::acquire_owned`] and [`Semaphore::acquire_many_owned`].
#[must_use = "futures do nothing unless they are awaited"]
#[derive(Debug)]
pub struct AcquireOwned(Claim<Arc<Semaphore>>);

#[cfg(feature = "http")]
impl AcquireOwned {
    /// As part of a call that the user wrote there.
    pub(crate) fn for_call_at(self, place: &'static Location<'static>) -> AcquireOwned {
        AcquireOwned(self.0.for_call_at(place))
    }
}

impl Future for AcquireOwned {
    type Output = Result<OwnedSemaphorePermit, AcquireError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(OwnedSemaphorePermit)
    }
}

/// Permits of a [`Semaphore`]; dropping it gives them back.
#[must_use = "the permit is given back at once if it is not kept"]
pub struct SemaphorePermit<'a>(Hold<&'a Semaphore>);

/// Permits of a [`Semaphore`] that keep it alive; dropping it gives them back.
#[must_use = "the permit is given back at once if it is not kept"]
pub struct OwnedSemaphorePermit(Hold<Arc<Semaphore>>);

macro_rules! permit {
    ([$($life:lifetime)?] $permit:ty, $name:literal, $semaphore:ty) => {
        impl<$($life)?> $permit {
            /// The permits are not given back: the semaphore has fewer from now on.
            pub fn forget(self) {
                self.0.forget();
            }

            /// Takes the permits of `other` over.
            ///
            /// # Panics
            /// If they are of another semaphore.
            #[track_caller]
            pub fn merge(&mut self, other: Self) {
                assert!(
                    std::ptr::eq(self.0.source().permits(), other.0.source().permits()),
                    "permits of two different semaphores were merged"
                );
                self.0.merge(other.0);
            }

            /// Splits `n` permits off; `None` if there are fewer.
            pub fn split(&mut self, n: usize) -> Option<Self> {
                self.0.split(n).map(Self)
            }

            /// How many permits these are.
            pub fn num_permits(&self) -> usize {
                self.0.count()
            }

            /// The semaphore that these are permits of.
            pub fn semaphore(&self) -> &$semaphore {
                self.0.source()
            }
        }

        impl<$($life)?> fmt::Debug for $permit {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name).field("permits", &self.num_permits()).finish_non_exhaustive()
            }
        }
    };
}

permit!(['a] SemaphorePermit<'a>, "SemaphorePermit", Semaphore);
permit!([] OwnedSemaphorePermit, "OwnedSemaphorePermit", Arc<Semaphore>);

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available_permits", &self.available_permits())
            .finish_non_exhaustive()
    }
}

/// The semaphore is closed: it gives no permits out any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcquireError(pub(super) ());

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the semaphore is closed")
    }
}

impl std::error::Error for AcquireError {}

/// Why there was no permit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryAcquireError {
    /// The semaphore is closed: it gives no permits out any more.
    Closed,
    /// Too few are free now, or somebody waits.
    NoPermits,
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryAcquireError::Closed => "the semaphore is closed",
            TryAcquireError::NoPermits => "no permits are free",
        })
    }
}

impl std::error::Error for TryAcquireError {}
