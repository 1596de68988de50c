fn main() {}

async fn no_pattern() {
    leakfree::select! {
        leakfree::yield_now() => {}
    }
}
