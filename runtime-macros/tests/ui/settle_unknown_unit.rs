#[leakfree::test(settle = "5 fortnights")]
async fn test() {}

fn main() {}
