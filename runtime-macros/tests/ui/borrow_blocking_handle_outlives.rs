fn main() {
    let runtime = leakfree::runtime::Runtime::new().unwrap();
    let local = 1;
    let handle = runtime.scope_blocking(|s| s.spawn(async { &local }));
    drop(handle);
}
