#[leakfree::main(paused)]
async fn main() {}
