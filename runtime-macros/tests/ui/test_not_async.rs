#[leakfree::test]
fn test() {}

fn main() {}
