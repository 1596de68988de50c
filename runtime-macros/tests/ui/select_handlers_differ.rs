fn main() {}

async fn handlers_differ() -> u32 {
    leakfree::select! {
        _ = leakfree::yield_now() => 1,
        _ = leakfree::yield_now() => "two",
    }
}
