fn main() {}

async fn no_handler() {
    leakfree::select! {
        _ = leakfree::yield_now()
    }
}
