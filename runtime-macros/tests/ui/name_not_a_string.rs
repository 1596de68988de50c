#[leakfree::main(name = server)]
async fn main() {}
