//! Tasks as spans of `tracing`, in the shape that tokio's console reads: feature `tracing`. Without the feature nothing of this is left.
//!
//! A task's span is a child of the one that is current where it is spawned, and current whenever the task is polled; so what is
//! logged in a child lies in its parent's spans. Where nobody wants the task's own span, the parent's takes its place.
//!
//! The console is told of one waker per park, which is used up by the wake; the last one of a task that nothing can wake any more is
//! dropped. That is said where the task's runner stands, not where wakers are cloned and woken: there may be locks, and a
//! subscriber is code of the user's.

#[cfg(feature = "tracing")]
pub(crate) use self::with_tracing::{Traced, parks, traced, unwakeable, woken};
#[cfg(not(feature = "tracing"))]
pub(crate) use self::without::{Traced, parks, traced, unwakeable, woken};

#[cfg(feature = "tracing")]
mod with_tracing {
    use std::future::Future;
    use std::mem::ManuallyDrop;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tracing::level_filters::LevelFilter;
    use tracing::{Level, Span, trace, trace_span};

    use crate::report::snapshot::TaskKind;
    use crate::task::header::Header;

    /// A task's future, in its span.
    pub(crate) struct Traced<F> {
        span: Span,
        future: ManuallyDrop<F>,
    }

    /// Puts a new task's future into a span.
    #[inline]
    pub(crate) fn traced<F>(future: F, header: &Header) -> Traced<F> {
        let wanted = LevelFilter::current() != LevelFilter::OFF;
        let span = if wanted { span(header) } else { Span::none() };
        Traced { span, future: ManuallyDrop::new(future) }
    }

    #[cold]
    fn span(header: &Header) -> Span {
        if !tracing::span_enabled!(target: "tokio::task", Level::TRACE) {
            return Span::current();
        }
        let kind = match header.kind() {
            TaskKind::Main => "block_on",
            TaskKind::Blocking => "blocking",
            _ => "task",
        };
        let location = header.record.spawned_at();
        let name = header.existing_extra().and_then(|extra| extra.name.clone());
        let span = trace_span!(
            target: "tokio::task",
            "runtime.spawn",
            kind = %kind,
            task.name = %name.as_deref().unwrap_or_default(),
            task.id = header.record.id().get(),
            loc.file = location.file(),
            loc.line = location.line(),
            loc.col = location.column(),
        );
        match span.id() {
            Some(id) => {
                header.extra().span = Some(id.into_non_zero_u64());
                span
            }
            // A filter has looked at the fields.
            None => Span::current(),
        }
    }

    impl<F: Future> Future for Traced<F> {
        type Output = F::Output;

        /// Inlined, and with its caller's location: the future is polled as if there were nothing in between.
        #[track_caller]
        #[inline]
        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
            // SAFETY: the future is pinned with us: it is not moved, and dropped in place by our own drop.
            let (span, future) = unsafe {
                let this = self.get_unchecked_mut();
                (&this.span, Pin::new_unchecked(&mut *this.future))
            };
            let _entered = span.enter();
            future.poll(cx)
        }
    }

    impl<F> Drop for Traced<F> {
        fn drop(&mut self) {
            // A subscriber may panic: the future is dropped all the same.
            let future = DropInPlace(&mut self.future);
            let _entered = self.span.enter();
            drop(future);
        }
    }

    struct DropInPlace<'a, F>(&'a mut ManuallyDrop<F>);

    impl<F> Drop for DropInPlace<'_, F> {
        fn drop(&mut self) {
            // SAFETY: made once, by the drop of what holds it, and not touched after.
            unsafe { ManuallyDrop::drop(self.0) };
        }
    }

    /// Tells of a waker of the task's.
    #[inline]
    fn tell(header: &Header, op: &'static str) {
        if LevelFilter::current() == LevelFilter::TRACE {
            tell_subscriber(header, op);
        }
    }

    #[cold]
    fn tell_subscriber(header: &Header, op: &'static str) {
        let span = header.existing_extra().and_then(|extra| extra.span);
        if let Some(span) = span {
            // A subscriber that panics must not take the worker along; its message has been printed.
            crate::task::waker::forgive(|| {
                trace!(target: "tokio::task::waker", op = op, task.id = span.get());
            });
        }
    }

    /// The task's runner is about to park it.
    #[inline]
    pub(crate) fn parks(header: &Header) {
        tell(header, "waker.clone");
    }

    /// The task is about to run again after a park.
    #[inline]
    pub(crate) fn woken(header: &Header) {
        // The first poll, which is counted by now, comes after a spawn, not after a wake.
        if header.record.polls() > 1 {
            tell(header, "waker.wake");
        }
    }

    /// Nothing can wake the task any more.
    #[inline]
    pub(crate) fn unwakeable(header: &Header) {
        tell(header, "waker.drop");
    }
}

#[cfg(not(feature = "tracing"))]
mod without {
    use crate::task::header::Header;

    pub(crate) type Traced<F> = F;

    #[inline]
    pub(crate) fn traced<F>(future: F, _header: &Header) -> Traced<F> {
        future
    }

    #[inline]
    pub(crate) fn parks(_header: &Header) {}

    #[inline]
    pub(crate) fn woken(_header: &Header) {}

    #[inline]
    pub(crate) fn unwakeable(_header: &Header) {}
}
