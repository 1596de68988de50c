#[leakfree::main]
async unsafe fn main() {}
