fn main() {
    let runtime = leakfree::runtime::Runtime::new().unwrap();
    let mut kept = None;
    runtime.scope_blocking(|s| {
        kept = Some(s.spawn(async {}));
    });
    drop(kept);
}
