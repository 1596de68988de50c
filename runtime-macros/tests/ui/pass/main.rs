//! Attributes, a `Result`, `?`, an early `return`, an attribute within the body, and every option.

#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod fake;

#[leakfree::main(
    workers = 2,
    name = "server",
    grace = "5s",
    settle = "100ms",
    on_leak = fail,
    crate = crate::fake,
)]
/// Documented.
async fn main() -> Result<(), std::num::ParseIntError> {
    #![allow(unused_variables)]
    let unused = 1;
    let number: u8 = "7".parse()?;
    if number == 7 {
        return Ok(());
    }
    unreachable!()
}
