#[leakfree::main(on_leak = "ignore")]
async fn main() {}
