fn main() {}

async fn condition_without_if(enabled: bool) {
    leakfree::select! {
        _ = leakfree::yield_now(), enabled => {}
    }
}
