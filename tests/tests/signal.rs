//! Signals. Each test uses signals of its own: they are the process's.

use std::io::ErrorKind;

use leakfree::signal::ctrl_c;
use leakfree::signal::unix::{SignalKind, signal};
use leakfree_tests::{again, polled_once};
use rustix::process::{Signal, getpid, kill_process};

fn raise(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

#[leakfree::test(workers = 2)]
async fn every_listener_hears_of_a_signal_once() {
    let mut a = signal(SignalKind::user_defined1()).unwrap();
    let mut b = signal(SignalKind::user_defined1()).unwrap();
    let mut other = signal(SignalKind::user_defined2()).unwrap();
    assert!(polled_once(a.recv()).await.is_pending());
    raise(Signal::USR1);
    assert_eq!(a.recv().await, Some(()));
    assert_eq!(b.recv().await, Some(()));
    assert!(polled_once(a.recv()).await.is_pending());
    assert!(polled_once(other.recv()).await.is_pending());
    // What came while nobody waited is told, as one.
    raise(Signal::USR1);
    raise(Signal::USR1);
    b.recv().await;
    assert_eq!(a.recv().await, Some(()));
    // The listener is gone, and the process is still not ended by it.
    drop((a, b));
    raise(Signal::USR1);
    raise(Signal::USR2);
    assert_eq!(other.recv().await, Some(()));
}

#[leakfree::test(workers = 2)]
async fn a_wait_that_is_dropped_has_lost_no_signal() {
    let mut hangup = signal(SignalKind::hangup()).unwrap();
    assert!(polled_once(hangup.recv()).await.is_pending());
    raise(Signal::HUP);
    assert_eq!(hangup.recv().await, Some(()));
    raise(Signal::HUP);
    assert_eq!(std::future::poll_fn(|cx| hangup.poll_recv(cx)).await, Some(()));
}

#[leakfree::test(workers = 2)]
async fn signals_that_cannot_be_listened_for() {
    for kind in [9, 19, 11, 0, -1] {
        let error = signal(SignalKind::from_raw(kind)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("cannot be listened for"), "{error}");
    }
    assert!(signal(SignalKind::from_raw(1000)).is_err());
}

#[test]
fn ctrl_c_is_heard_from_the_call_on_in_every_runtime() {
    // In a process of its own: the harness may want to be ended by it.
    if !again("ctrl_c_is_heard_from_the_call_on_in_every_runtime") {
        return;
    }
    for _ in 0..2 {
        let runtime = leakfree_tests::runtime(1);
        runtime.block_on(async {
            let pressed = ctrl_c();
            raise(Signal::INT);
            pressed.await.unwrap();
        });
        assert!(runtime.shutdown().is_clean());
    }
}

#[test]
fn a_kind_is_its_number() {
    for kind in [SignalKind::terminate(), SignalKind::hangup(), SignalKind::window_change()] {
        let number = kind.as_raw_value();
        assert_eq!(
            (i32::from(kind), SignalKind::from(number), SignalKind::from_raw(number)),
            (number, kind, kind)
        );
    }
    assert_eq!(SignalKind::interrupt().as_raw_value(), Signal::INT.as_raw());
}
