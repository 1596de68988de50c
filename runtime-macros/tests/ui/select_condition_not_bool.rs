fn main() {}

async fn condition_not_bool() {
    leakfree::select! {
        _ = leakfree::yield_now(), if 1 => {}
    }
}
