//! Not called `main`, with a value, borrowed data and `on_leak` as a string.

#![deny(warnings, missing_docs)]

/// As above.
#[path = "../support/mod.rs"]
#[allow(dead_code, missing_docs)]
mod fake;

/// Gives seven.
#[leakfree::main(crate = fake, on_leak = "report")]
pub async fn seven() -> impl std::fmt::Display {
    let text = String::from("7");
    let borrowed = std::future::ready(&text).await;
    borrowed.clone()
}

fn main() {
    assert_eq!(seven().to_string(), "7");
}
