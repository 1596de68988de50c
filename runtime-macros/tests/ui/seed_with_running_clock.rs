#[leakfree::test(seed = 1, paused = false)]
async fn t() {}

fn main() {}
