#[leakfree::main(on_leak = panic)]
async fn main() {}
