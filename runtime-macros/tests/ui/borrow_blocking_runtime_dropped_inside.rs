fn main() {
    let runtime = leakfree::runtime::Runtime::new().unwrap();
    runtime.scope_blocking(|s| {
        s.spawn(async {});
        drop(runtime);
    });
}
