#[leakfree::main(workers)]
async fn main() {}
