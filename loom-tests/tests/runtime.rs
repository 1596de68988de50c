//! The whole runtime.
#![cfg(loom)]
use leakfree::model::Engine;
use loom::thread;
use std::sync::Arc;

fn model(lock: bool, f: impl Fn() + Send + Sync + 'static) {
    let n = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let m = n.clone();
    let begin = std::time::Instant::now();
    leakfree::model::set_queues_with_lock(lock);
    loom::model(move || {
        m.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        f();
    });
    eprintln!("{} executions in {:?}", n.load(std::sync::atomic::Ordering::Relaxed), begin.elapsed());
}

fn run(workers: usize, body: impl Fn(&Arc<Engine>)) {
    let engine = Engine::new(workers);
    let threads: Vec<_> = (0..workers)
        .map(|index| {
            let engine = engine.clone();
            thread::spawn(move || engine.work(index))
        })
        .collect();
    body(&engine);
    threads.into_iter().for_each(|t| t.join().unwrap());
    engine.check();
}

#[test]
fn empty1() {
    model(false, || run(1, |e| e.shut_down()));
}

#[test]
fn one1() {
    model(false, || {
        run(1, |engine| {
            let t = engine.root().spawn(async { 3 });
            engine.stop();
            assert!(t.is_finished());
        })
    });
}
#[test]
fn two() {
    model(false, || {
        run(2, |engine| {
            let t = engine.root().spawn(async { 3 });
            engine.stop();
            assert!(t.is_finished());
        })
    });
}
#[test]
fn two_b() {
    model(false, || {
        let engine = Engine::new(2);
        let t = engine.root().spawn(async { 3 });
        let t2 = engine.root().spawn(async { 3 });
        let e2 = engine.clone();
        let th = thread::spawn(move || e2.work(1));
        let e2 = engine.clone();
        let th2 = thread::spawn(move || e2.stop());
        engine.work(0);
        th.join().unwrap();
        th2.join().unwrap();
        assert!(t.is_finished());
        engine.check();
    });
}
