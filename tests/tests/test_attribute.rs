//! `#[leakfree::test]`: a leak fails the test with a report of this test's own tasks.

#![allow(unnameable_test_items)]

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The message a test panicked with.
fn failure(test: impl FnOnce()) -> Option<String> {
    let payload = catch_unwind(AssertUnwindSafe(test)).err()?;
    Some(payload.downcast_ref::<String>().expect("a formatted message").clone())
}

#[test]
fn a_test_that_leaks_fails_with_the_report_and_its_repaired_twin_passes() {
    // Within a function the harness does not see these, and we can call them.
    #[leakfree::test]
    async fn leaks() {
        let (tx, rx) = leakfree::sync::oneshot::channel::<()>();
        leakfree::spawn(rx);
        std::mem::forget(tx);
    }
    #[leakfree::test]
    async fn repaired() {
        let (tx, rx) = leakfree::sync::oneshot::channel::<()>();
        let waiter = leakfree::spawn(rx);
        tx.send(()).unwrap();
        waiter.await.unwrap().unwrap();
    }
    let message = failure(leaks).expect("it leaked");
    assert!(message.contains("leaks leaked"), "{message}");
    assert!(message.contains("oneshot::Receiver at tests/tests/test_attribute.rs:"), "{message}");
    assert!(message.contains("1 leaked task at the test's end"), "{message}");
    assert_eq!(failure(repaired), None);
}

#[test]
fn a_leak_may_be_reported_without_failing() {
    #[leakfree::test(on_leak = report)]
    async fn lenient() -> Result<(), String> {
        leakfree::spawn(std::future::pending::<()>());
        Ok(())
    }
    assert_eq!(failure(|| lenient().unwrap()), None);
}

#[test]
fn thirty_two_tests_in_parallel_each_blame_only_their_own() {
    macro_rules! leaking {
        ($($name:ident)*) => {{
            let mut tests: Vec<(&str, fn())> = Vec::new();
            $({
                #[leakfree::test]
                async fn $name() {
                    for _ in 0..3 {
                        let (tx, mut rx) = leakfree::sync::mpsc::unbounded_channel::<()>();
                        leakfree::scope::current()
                            .task().name(stringify!($name)).spawn(async move { rx.recv().await });
                        std::mem::forget(tx);
                    }
                }
                tests.push((stringify!($name), $name));
            })*
            tests
        }};
    }
    let tests = leaking!(
        t00 t01 t02 t03 t04 t05 t06 t07 t08 t09 t10 t11 t12 t13 t14 t15
        t16 t17 t18 t19 t20 t21 t22 t23 t24 t25 t26 t27 t28 t29 t30 t31
    );
    assert_eq!(tests.len(), 32);
    let names: Vec<&str> = tests.iter().map(|(name, _)| *name).collect();
    std::thread::scope(|threads| {
        for (name, test) in tests {
            let names = &names;
            threads.spawn(move || {
                let message = failure(test).expect("it leaked");
                assert!(message.contains("3 leaked tasks"), "{message}");
                for other in names {
                    let blamed = message.contains(&format!("task {other:?}"))
                        || message.contains(&format!(" {other:?}   spawned"));
                    assert_eq!(blamed, *other == name, "{name} blames {other}: {message}");
                }
            });
        }
    });
}
