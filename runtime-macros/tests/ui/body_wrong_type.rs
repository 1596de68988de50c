#[path = "support/mod.rs"]
#[allow(dead_code)]
mod fake;

#[leakfree::main(crate = fake)]
async fn main() -> Result<(), String> {
    let port: u16 = "80";
    if port == 0 {
        return port;
    }
    Ok(())
}
