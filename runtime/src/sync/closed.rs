//! The wait of a channel's senders for the end of its receivers.

use std::panic::Location;
use std::task::{Context, Poll};

use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waiters::{Place, Waiters};
use crate::util::lock::Guard;

pub(super) struct ClosedWait {
    place: Option<Place>,
    leaf: Leaf,
}

impl ClosedWait {
    #[track_caller]
    pub(super) fn new(reason: WaitReason, created: &'static Location<'static>) -> ClosedWait {
        ClosedWait { place: None, leaf: Leaf::new(reason, Object::Created(created)) }
    }

    /// `is_closed` is what the state says, `line` who waits for that, and `parked` what the wait is recorded on.
    pub(super) fn poll<S>(
        &mut self,
        mut state: Guard<'_, S>,
        is_closed: bool,
        line: impl Fn(&mut S) -> &mut Waiters,
        parked: impl FnOnce(&mut S) -> Object,
        cx: &Context<'_>,
    ) -> Poll<()> {
        if is_closed {
            drop(state);
            self.leaf.ready();
            return Poll::Ready(());
        }
        let old = match self.place.map(|place| line(&mut state).poll(place, cx, ())) {
            Some(Err(replaced)) => replaced,
            // Not yet in line; or the last one had gone, and before we looked there was another.
            Some(Ok(())) | None => {
                if let Some(granted) = self.place.take() {
                    line(&mut state).leave(granted);
                }
                self.place = Some(line(&mut state).join(cx, ()));
                self.leaf.set_object(parked(&mut state));
                None
            }
        };
        drop(state);
        drop(old);
        self.leaf.pending(cx);
        Poll::Pending
    }

    /// Leaves the line, if it is in it.
    pub(super) fn leave<S>(&mut self, state: impl FnOnce() -> S, line: impl Fn(&mut S) -> &mut Waiters) {
        let Some(place) = self.place.take() else { return };
        let mut state = state();
        let waker = line(&mut state).leave(place);
        drop(state);
        drop(waker);
    }
}
