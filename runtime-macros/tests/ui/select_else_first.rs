fn main() {}

async fn else_first() {
    leakfree::select! {
        else => {}
        _ = leakfree::yield_now() => {}
    }
}
