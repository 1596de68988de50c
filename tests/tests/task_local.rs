//! `task_local!`: where a value is seen, who inherits it, and when it goes.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use leakfree::task::JoinSet;
use leakfree_tests::{DropGuard, Drops};

leakfree::task_local! {
    static NUMBER: u32;
    /// Another one of the same type.
    pub static OTHER: u32;
    static SHARED: AtomicU32;
    static GUARD: Arc<DropGuard>;
    static TEXT: String
}

#[leakfree::test]
async fn a_value_is_seen_in_its_future_and_nowhere_else() {
    assert_eq!(NUMBER.try_get().unwrap_err().to_string(), "the task-local value is not set");
    let text = TEXT.scope("text".to_owned(), async {
        NUMBER
            .scope(1, async {
                leakfree::yield_now().await;
                assert_eq!((NUMBER.get(), TEXT.with(String::len)), (1, 4));
                assert!(OTHER.try_with(|_| ()).is_err());
                NUMBER.scope(2, async { assert_eq!(NUMBER.get(), 2) }).await;
                assert_eq!(NUMBER.get(), 1);
                assert_eq!(OTHER.sync_scope(3, || (NUMBER.get(), OTHER.get())), (1, 3));
                assert!(OTHER.try_get().is_err());
            })
            .await;
        assert!(NUMBER.try_get().is_err());
        TEXT.get()
    });
    assert_eq!(text.await, "text");
    // Two in turns in one task.
    leakfree::join!(
        NUMBER.scope(1, async {
            for _ in 0..3 {
                assert_eq!(NUMBER.get(), 1);
                leakfree::yield_now().await;
            }
        }),
        NUMBER.scope(2, async {
            for _ in 0..3 {
                assert_eq!(NUMBER.get(), 2);
                leakfree::yield_now().await;
            }
        }),
        async {
            for _ in 0..3 {
                assert!(NUMBER.try_get().is_err());
                leakfree::yield_now().await;
            }
        },
    );
}

#[leakfree::test]
#[should_panic(expected = "the task-local value is not set: set it with `LocalKey::scope`")]
async fn a_look_at_a_value_that_is_not_set_says_what_to_do() {
    NUMBER.with(|_| ());
}

#[leakfree::test(workers = 2)]
async fn children_of_every_kind_inherit_the_one_value() {
    SHARED
        .scope(AtomicU32::new(0), async {
            let add = || SHARED.with(|shared| shared.fetch_add(1, SeqCst));
            leakfree::spawn(async move {
                add();
                // And theirs.
                leakfree::spawn(async move { add() }).await.unwrap();
            })
            .await
            .unwrap();
            leakfree::spawn_blocking(add).await.unwrap();
            leakfree::scope(async |s| {
                s.spawn(async move { add() });
                s.spawn_daemon(async move { add() }).await.unwrap();
                s.spawn_blocking(add);
            })
            .await;
            let mut set = JoinSet::new();
            set.spawn(async move { add() });
            set.spawn_blocking(add);
            set.join_all().await;
            assert_eq!(SHARED.with(|shared| shared.load(SeqCst)), 8);
        })
        .await;
}

#[leakfree::test]
async fn a_child_has_what_was_set_when_it_was_spawned_and_may_set_its_own() {
    let (before, child) = NUMBER
        .scope(1, async {
            let before = leakfree::spawn(async { OTHER.try_get().ok() });
            let child = OTHER.sync_scope(2, || {
                NUMBER.sync_scope(10, || {
                    leakfree::spawn(async {
                        leakfree::yield_now().await;
                        let own = NUMBER.scope(11, async {
                            let grandchild = leakfree::spawn(async { (NUMBER.get(), OTHER.get()) });
                            grandchild.await.unwrap()
                        });
                        (own.await, NUMBER.get(), OTHER.get())
                    })
                })
            });
            (before, child)
        })
        .await;
    // The parent's values are gone, the children's are not.
    assert_eq!(before.await.unwrap(), None);
    assert_eq!(child.await.unwrap(), ((11, 2), 10, 2));
}

#[leakfree::test]
async fn outside_of_a_task_it_is_inherited_too_and_inside_a_block_on_it_is_not() {
    let handle = leakfree::runtime::Handle::current();
    let seen = std::thread::spawn(move || {
        NUMBER.sync_scope(5, || {
            let child = handle.spawn(async { NUMBER.get() });
            let outer = handle.block_on(async { NUMBER.get() });
            (handle.block_on(child).unwrap(), outer)
        })
    });
    let seen = leakfree::spawn_blocking(|| seen.join()).await.unwrap();
    assert_eq!(seen.unwrap(), (5, 5), "the body of a `block_on` is a task, which inherits");
}

#[leakfree::test]
async fn destructors_see_the_value() {
    struct Look<'a>(&'a RefCell<Vec<u32>>);
    impl Drop for Look<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push(NUMBER.get());
        }
    }
    let seen = RefCell::new(Vec::new());
    let look = Look(&seen);
    NUMBER.scope(1, async move { drop(look) }).await;
    let look = Look(&seen);
    let mut polled = Box::pin(NUMBER.scope(2, async {
        let _look = look;
        std::future::pending::<()>().await;
    }));
    assert!(polled.as_mut().now_or_never().is_none());
    drop(polled);
    let look = Look(&seen);
    drop(NUMBER.scope(3, async move { drop(look) }));
    assert_eq!(*seen.borrow(), [1, 2, 3]);
    // An inherited value, in a task that is dropped.
    let seen = Arc::new(Mutex::new(None));
    struct Tell(Arc<Mutex<Option<u32>>>);
    impl Drop for Tell {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = NUMBER.try_get().ok();
        }
    }
    let tell = Tell(Arc::clone(&seen));
    let task = NUMBER.sync_scope(4, || {
        leakfree::spawn(async move {
            let _tell = tell;
            std::future::pending::<()>().await;
        })
    });
    task.abort();
    task.await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), Some(4));
}

#[leakfree::test]
async fn a_value_goes_with_the_last_task_that_has_it() {
    let drops = Drops::new();
    let (tx, rx) = leakfree::sync::oneshot::channel::<()>();
    let (child,) = GUARD
        .scope(Arc::new(drops.guard()), async {
            let child = leakfree::spawn(async {
                rx.await.unwrap();
            });
            (child,)
        })
        .await;
    let abort = child.abort_handle();
    assert_eq!(drops.count(), 0);
    tx.send(()).unwrap();
    child.await.unwrap();
    assert_eq!(drops.count(), 1, "at the child's end, whoever still has a handle of it");
    drop(abort);
}

#[leakfree::test]
async fn a_panic_leaves_no_binding_behind() {
    let caught = AssertUnwindSafe(NUMBER.scope(1, async { panic!("in it") })).catch_unwind().await;
    assert!(caught.is_err() && NUMBER.try_get().is_err());
    let caught = std::panic::catch_unwind(|| NUMBER.sync_scope(1, || panic!("in it")));
    assert!(caught.is_err() && NUMBER.try_get().is_err());
    assert_eq!(leakfree::spawn(async { NUMBER.try_get().ok() }).await.unwrap(), None);
}
