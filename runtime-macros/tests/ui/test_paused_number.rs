#[leakfree::test(paused = 1)]
async fn t() {}

fn main() {}
