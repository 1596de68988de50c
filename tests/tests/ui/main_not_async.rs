#[leakfree::main]
fn main() {}
