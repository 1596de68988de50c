fn main() {
    let runtime = leakfree::runtime::Runtime::new().unwrap();
    let mut local = 1;
    runtime.scope_blocking(|s| {
        s.spawn(async { local += 1 });
        s.spawn(async { local += 1 });
    });
}
