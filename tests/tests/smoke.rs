//! (temporary)
use std::time::Duration;
#[test]
fn smoke() {
    let rt = leakfree::runtime::Builder::new().workers(2).grace(Duration::ZERO).build().unwrap();
    let n = rt.block_on(async {
        let mut hs = vec![];
        for i in 0..10000u64 { hs.push(leakfree::spawn(async move { leakfree::yield_now().await; i })); }
        let mut s = 0;
        for h in hs { s += h.await.unwrap(); }
        s
    });
    assert_eq!(n, 9999*10000/2);
    let t = rt.block_on(async {
        leakfree::scope(async |s| {
            let a = s.spawn(async { 1 });
            let s2 = s.clone();
            let b = s.spawn(async move { s2.spawn(async {5}).await.unwrap() });
            a.await.unwrap() + b.await.unwrap()
        }).await
    });
    assert_eq!(t, 6);
    rt.block_on(async { leakfree::spawn(async { std::future::pending::<()>().await }); leakfree::yield_now().await;
        let (tx, rx) = futures::channel::oneshot::channel::<()>();
        leakfree::spawn(async move { let _ = rx.await; });
        std::mem::forget(tx);
     });
    let report = rt.shutdown();
    println!("{report}");
}
