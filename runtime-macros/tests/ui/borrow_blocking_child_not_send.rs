fn main() {
    let runtime = leakfree::runtime::Runtime::new().unwrap();
    runtime.scope_blocking(|s| {
        let local = std::rc::Rc::new(1);
        s.spawn(async move { *local });
    });
}
