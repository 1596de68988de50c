fn main() {}

async fn no_comma() -> u32 {
    leakfree::select! {
        _ = leakfree::yield_now() => 1
        _ = leakfree::yield_now() => 2
    }
}
