#[leakfree::main(workers = 1, name = "a", workers = 2)]
async fn main() {}
