#[leakfree::main]
struct Server;

fn main() {}
