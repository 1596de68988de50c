//! What may cross threads, and what may not: asserted at compile time.

use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::MutexGuard as NotSend;

use leakfree::sync::{broadcast, futures, mpsc, oneshot, watch, *};

/// `Send` and not `Sync`.
type NotSync = Cell<u8>;

struct Probe<T: ?Sized>(PhantomData<T>);

trait Otherwise {
    const SEND: bool = false;
    const SYNC: bool = false;
}

impl<T: ?Sized> Otherwise for Probe<T> {}

// An inherent constant hides the trait's, where its bound holds.
struct SendProbe<T: ?Sized>(PhantomData<T>);
struct SyncProbe<T: ?Sized>(PhantomData<T>);
impl<T: ?Sized> Otherwise for SendProbe<T> {}
impl<T: ?Sized> Otherwise for SyncProbe<T> {}
impl<T: ?Sized + Send> SendProbe<T> {
    const SEND: bool = true;
}
impl<T: ?Sized + Sync> SyncProbe<T> {
    const SYNC: bool = true;
}

macro_rules! check {
    ($($type:ty: $send:literal $sync:literal;)+) => {
        $(
            assert_eq!(
                (SendProbe::<$type>::SEND, SyncProbe::<$type>::SYNC),
                ($send == "send", $sync == "sync"),
                "{}", stringify!($type)
            );
        )+
        let _ = (Probe::<()>(PhantomData), SendProbe::<()>(PhantomData), SyncProbe::<()>(PhantomData));
        assert!(!Probe::<()>::SEND && !Probe::<()>::SYNC);
    };
}

#[test]
fn locks() {
    check! {
        Mutex<u8>: "send" "sync";
        Mutex<NotSync>: "send" "sync";
        Mutex<Rc<u8>>: "-" "-";
        MutexGuard<'static, u8>: "send" "sync";
        MutexGuard<'static, NotSync>: "send" "-";
        MutexGuard<'static, Rc<u8>>: "-" "-";
        MutexGuard<'static, NotSend<'static, u8>>: "-" "sync";
        OwnedMutexGuard<NotSync>: "send" "-";
        OwnedMutexGuard<u8>: "send" "sync";
        MappedMutexGuard<'static, u8>: "send" "sync";
        MappedMutexGuard<'static, NotSync>: "send" "-";
        MappedMutexGuard<'static, Rc<u8>>: "-" "-";
        OwnedMappedMutexGuard<u8, NotSync>: "send" "-";
        OwnedMappedMutexGuard<Rc<u8>, u8>: "-" "-";
        futures::Lock<'static, NotSync>: "send" "sync";
        futures::LockOwned<NotSync>: "send" "sync";
        futures::LockOwned<Rc<u8>>: "-" "-";

        RwLock<u8>: "send" "sync";
        RwLock<NotSync>: "send" "-";
        RwLock<Rc<u8>>: "-" "-";
        RwLockReadGuard<'static, u8>: "send" "sync";
        RwLockReadGuard<'static, NotSync>: "-" "-";
        RwLockWriteGuard<'static, u8>: "send" "sync";
        RwLockWriteGuard<'static, NotSync>: "-" "-";
        RwLockWriteGuard<'static, NotSend<'static, u8>>: "-" "-";
        RwLockMappedWriteGuard<'static, NotSync>: "-" "-";
        OwnedRwLockReadGuard<u8>: "send" "sync";
        OwnedRwLockReadGuard<u8, NotSync>: "-" "-";
        OwnedRwLockReadGuard<NotSync, u8>: "-" "-";
        OwnedRwLockReadGuard<NotSend<'static, u8>, u8>: "-" "-";
        OwnedRwLockWriteGuard<u8>: "send" "sync";
        OwnedRwLockWriteGuard<NotSync>: "-" "-";
        OwnedRwLockMappedWriteGuard<u8, Rc<u8>>: "-" "-";
        futures::Read<'static, u8>: "send" "sync";
        futures::Read<'static, NotSync>: "-" "-";
        futures::WriteOwned<u8>: "send" "sync";
        futures::WriteOwned<NotSync>: "-" "-";

        Semaphore: "send" "sync";
        SemaphorePermit<'static>: "send" "sync";
        OwnedSemaphorePermit: "send" "sync";
        futures::Acquire<'static>: "send" "sync";
        futures::AcquireOwned: "send" "sync";
        Notify: "send" "sync";
        futures::Notified<'static>: "send" "sync";
        futures::OwnedNotified: "send" "sync";
        Barrier: "send" "sync";
        futures::BarrierWait<'static>: "send" "sync";
        OnceCell<u8>: "send" "sync";
        OnceCell<NotSync>: "send" "-";
        OnceCell<Rc<u8>>: "-" "-";
        SetOnce<NotSync>: "send" "-";
        SetOnce<u8>: "send" "sync";
    }
}

#[test]
fn channels() {
    check! {
        mpsc::Sender<NotSync>: "send" "sync";
        mpsc::Sender<Rc<u8>>: "-" "-";
        mpsc::WeakSender<NotSync>: "send" "sync";
        mpsc::Receiver<NotSync>: "send" "sync";
        mpsc::Receiver<Rc<u8>>: "-" "-";
        mpsc::UnboundedSender<NotSync>: "send" "sync";
        mpsc::UnboundedReceiver<Rc<u8>>: "-" "-";
        mpsc::Permit<'static, NotSync>: "send" "sync";
        mpsc::OwnedPermit<NotSync>: "send" "sync";
        mpsc::OwnedPermit<Rc<u8>>: "-" "-";
        mpsc::Recv<'static, NotSync>: "send" "sync";
        oneshot::Sender<NotSync>: "send" "sync";
        oneshot::Receiver<NotSync>: "send" "sync";
        oneshot::Receiver<Rc<u8>>: "-" "-";
        watch::Sender<u8>: "send" "sync";
        watch::Sender<NotSync>: "-" "-";
        watch::Receiver<u8>: "send" "sync";
        watch::Receiver<NotSync>: "-" "-";
        watch::Ref<'static, u8>: "-" "sync";
        broadcast::Sender<NotSync>: "send" "sync";
        broadcast::Receiver<NotSync>: "send" "sync";
        broadcast::Receiver<Rc<u8>>: "-" "-";
        broadcast::Recv<'static, NotSync>: "send" "sync";
    }
}

#[test]
fn futures_of_methods_without_a_name() {
    fn send(_: impl Send) {}
    let cell = OnceCell::<u8>::new();
    send(cell.get_or_init(|| async { 1 }));
    send(cell.get_or_try_init(|| async { Ok::<u8, ()>(1) }));
    let (_tx, mut rx) = watch::channel(0);
    send(rx.wait_for(|n| *n > 0));
}

/// A panic leaves what these share whole: they can be used within `catch_unwind` without more ado.
#[test]
fn primitives_without_a_value_and_handles_are_unwind_safe() {
    use std::panic::{RefUnwindSafe, UnwindSafe};
    fn is<T: UnwindSafe + RefUnwindSafe>() {}
    is::<leakfree::sync::Notify>();
    is::<leakfree::sync::Barrier>();
    is::<leakfree::sync::Semaphore>();
    is::<leakfree::sync::OwnedSemaphorePermit>();
    is::<leakfree::sync::SetOnce<u8>>();
    is::<leakfree::sync::oneshot::Sender<u8>>();
    is::<leakfree::sync::oneshot::Receiver<u8>>();
    is::<leakfree::sync::mpsc::Sender<u8>>();
    is::<leakfree::sync::mpsc::UnboundedSender<u8>>();
    is::<leakfree::sync::broadcast::Sender<u8>>();
    is::<leakfree::sync::watch::Sender<u8>>();
    is::<leakfree::sync::watch::Receiver<u8>>();
}
