fn main() {
    let runtime = leakfree::runtime::Runtime::new().unwrap();
    runtime.scope_blocking(|s| {
        let local = 1;
        s.spawn(async { local + 1 });
    });
}
