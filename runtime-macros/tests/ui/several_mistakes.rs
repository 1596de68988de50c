#[leakfree::main(workers = 0)]
fn main(argument: u8) {}
