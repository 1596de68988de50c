fn main() {}

async fn not_a_future() {
    let (a, b) = (1, 2);
    leakfree::select! {
        _ = a + b => {}
    }
}
