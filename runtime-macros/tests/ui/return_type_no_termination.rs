#[path = "support/mod.rs"]
#[allow(dead_code)]
mod fake;

#[leakfree::main(crate = fake)]
async fn main() -> u16 {
    80
}
