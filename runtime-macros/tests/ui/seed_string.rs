#[leakfree::test(seed = "7")]
async fn t() {}

fn main() {}
