#[path = "support/mod.rs"]
#[allow(dead_code)]
mod fake;

#[leakfree::main(crate = fake)]
async fn main() -> Result<(), String> {
    println!("no value at the end");
}
