//! Values that a task carries: `task_local!`, and how children inherit them.
//!
//! While the future of [`LocalKey::scope`] is polled, its value lies on this thread's stack of bindings; the frame counts those
//! that belong to the task being polled. What a task inherited lies out of line, behind its header, and says so in the
//! header's note: so a spawn by a task without any looks at two words.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::frame;

/// Declares values that a task carries, and that the tasks it spawns inherit: [`LocalKey`]s.
///
/// ```
/// leakfree::task_local! {
///     /// The request that is being served.
///     pub static REQUEST: u64;
/// }
///
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let served = REQUEST.scope(7, async {
///     let child = leakfree::spawn(async { REQUEST.get() });
///     (REQUEST.get(), child.await.unwrap())
/// });
/// assert_eq!(served.await, (7, 7));
/// assert!(REQUEST.try_get().is_err());
/// # });
/// ```
#[macro_export]
macro_rules! task_local {
    () => {};
    ($(#[$attribute:meta])* $visibility:vis static $name:ident : $type:ty; $($rest:tt)*) => {
        $(#[$attribute])*
        $visibility static $name: $crate::task::LocalKey<$type> = $crate::task::LocalKey::new();
        $crate::task_local! { $($rest)* }
    };
    ($(#[$attribute:meta])* $visibility:vis static $name:ident : $type:ty) => {
        $crate::task_local! { $(#[$attribute])* $visibility static $name: $type; }
    };
}

/// A value of the task; declared by [`task_local!`](crate::task_local).
///
/// It is set for the length of a future ([`scope`](LocalKey::scope)) or of a closure. What is spawned meanwhile **inherits** it,
/// blocking calls included, and so does what they spawn: parent and children share the one value, for as long as any of them
/// lives. A task can set it anew for itself. As it is shared, it must be `Send` and `Sync`: for a value that changes, use an
/// atomic or a lock.
pub struct LocalKey<T: 'static> {
    /// Statics with a size have addresses of their own.
    _place: u8,
    value: PhantomData<fn() -> T>,
}

type Value = Arc<dyn Any + Send + Sync>;

struct Binding {
    /// The key's address.
    key: usize,
    value: Value,
}

/// What a task inherited, innermost first, one binding for each key.
pub(crate) struct Locals(Vec<Binding>);

thread_local! {
    static BOUND: RefCell<Vec<Binding>> = const { RefCell::new(Vec::new()) };
}

/// What a task that is spawned now inherits.
#[inline]
pub(crate) fn to_inherit() -> Option<Arc<Locals>> {
    if frame::may_have_locals() { collect() } else { None }
}

#[cold]
fn collect() -> Option<Arc<Locals>> {
    let inherited = frame::inherited_locals();
    let own = frame::locals();
    if own == 0 {
        return inherited;
    }
    let mut locals = Vec::new();
    let mut add = |binding: &Binding| {
        if !locals.iter().any(|there: &Binding| there.key == binding.key) {
            locals.push(Binding { key: binding.key, value: Arc::clone(&binding.value) });
        }
    };
    BOUND.with_borrow(|bound| bound.iter().rev().take(own).for_each(&mut add));
    inherited.iter().for_each(|inherited| inherited.0.iter().for_each(&mut add));
    Some(Arc::new(Locals(locals)))
}

fn find(key: usize) -> Option<Value> {
    let of = |binding: &Binding| (binding.key == key).then(|| Arc::clone(&binding.value));
    let own = frame::locals();
    let mut found = None;
    if own > 0 {
        found = BOUND.with_borrow(|bound| bound.iter().rev().take(own).find_map(of));
    }
    found.or_else(|| frame::inherited_locals()?.0.iter().find_map(of))
}

/// A value that is bound; dropping this puts it back where it came from.
struct Bound<'a> {
    slot: &'a mut Option<Value>,
}

impl<'a> Bound<'a> {
    fn new(key: usize, slot: &'a mut Option<Value>) -> Bound<'a> {
        // A thread whose locals are gone binds nothing.
        if let Some(value) = slot.take() {
            let mut value = Some(value);
            let bound = BOUND.try_with(|bound| {
                let value = value.take().expect("taken once");
                bound.borrow_mut().push(Binding { key, value });
            });
            match bound {
                Ok(()) => frame::add_local(),
                Err(_) => *slot = value,
            }
        }
        Bound { slot }
    }
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        if self.slot.is_none() {
            frame::remove_local();
            // Bindings nest as polls do: the topmost is ours.
            *self.slot = BOUND.with_borrow_mut(Vec::pop).map(|binding| binding.value);
        }
    }
}

impl<T: 'static> LocalKey<T> {
    /// For [`task_local!`](crate::task_local).
    #[doc(hidden)]
    #[allow(clippy::new_without_default)]
    pub const fn new() -> LocalKey<T> {
        LocalKey { _place: 0, value: PhantomData }
    }

    fn address(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Runs `future` with the value set to `value`, for its polls and its drop.
    ///
    /// # Cancel safety
    /// As the future's.
    pub fn scope<F>(&'static self, value: T, future: F) -> TaskLocalFuture<T, F>
    where
        F: Future,
        T: Send + Sync,
    {
        TaskLocalFuture { key: self, value: Some(Arc::new(value)), future: Some(future) }
    }

    /// Runs `f` with the value set to `value`. What `f` spawns inherits it.
    pub fn sync_scope<F, R>(&'static self, value: T, f: F) -> R
    where
        F: FnOnce() -> R,
        T: Send + Sync,
    {
        let mut value: Option<Value> = Some(Arc::new(value));
        let _bound = Bound::new(self.address(), &mut value);
        f()
    }

    /// Looks at the value.
    ///
    /// # Panics
    /// If it is not set.
    #[track_caller]
    pub fn with<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&T) -> R,
    {
        match self.try_with(f) {
            Ok(looked) => looked,
            Err(error) => {
                panic!("{error}: set it with `LocalKey::scope` around this, or around what spawned it")
            }
        }
    }

    /// Looks at the value.
    ///
    /// # Errors
    /// [`AccessError`] if it is not set.
    pub fn try_with<F, R>(&'static self, f: F) -> Result<R, AccessError>
    where
        F: FnOnce(&T) -> R,
    {
        let value = find(self.address()).ok_or(AccessError(()))?;
        value.downcast_ref().map(f).ok_or(AccessError(()))
    }

    /// A copy of the value.
    ///
    /// # Panics
    /// If it is not set.
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Clone,
    {
        self.with(T::clone)
    }

    /// A copy of the value.
    ///
    /// # Errors
    /// [`AccessError`] if it is not set.
    pub fn try_get(&'static self) -> Result<T, AccessError>
    where
        T: Clone,
    {
        self.try_with(T::clone)
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// The future of [`LocalKey::scope`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct TaskLocalFuture<T: 'static, F> {
    key: &'static LocalKey<T>,
    /// Empty while it is bound.
    value: Option<Value>,
    /// `None` when it has ended.
    future: Option<F>,
}

impl<T: 'static, F> TaskLocalFuture<T, F> {
    fn project(self: Pin<&mut Self>) -> (usize, &mut Option<Value>, Pin<&mut Option<F>>) {
        // SAFETY: `future` is the only field that is pinned: nothing moves it, and it is dropped in place.
        unsafe {
            let this = self.get_unchecked_mut();
            (this.key.address(), &mut this.value, Pin::new_unchecked(&mut this.future))
        }
    }
}

impl<T: 'static, F: Future> Future for TaskLocalFuture<T, F> {
    type Output = F::Output;

    /// # Panics
    /// When polled again after it was ready.
    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (key, value, mut future) = self.project();
        let _bound = Bound::new(key, value);
        let inner = future.as_mut().as_pin_mut().expect("a `TaskLocalFuture` was polled after it was ready");
        let polled = inner.poll(cx);
        if polled.is_ready() {
            // Its destructors see the value, too.
            future.set(None);
        }
        polled
    }
}

impl<T: 'static, F> Drop for TaskLocalFuture<T, F> {
    fn drop(&mut self) {
        // SAFETY: it is not moved any more.
        let (key, value, mut future) = unsafe { Pin::new_unchecked(self) }.project();
        if future.is_some() {
            let _bound = Bound::new(key, value);
            future.set(None);
        }
    }
}

impl<T: 'static, F: fmt::Debug> fmt::Debug for TaskLocalFuture<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskLocalFuture").field("future", &self.future).finish_non_exhaustive()
    }
}

/// The value of a [`LocalKey`] is not set here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccessError(());

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task-local value is not set")
    }
}

impl std::error::Error for AccessError {}
