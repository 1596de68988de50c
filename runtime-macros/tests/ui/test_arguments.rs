#[leakfree::test]
async fn test(port: u16) {}

fn main() {}
