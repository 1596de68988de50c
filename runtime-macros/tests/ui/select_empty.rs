fn main() {}

async fn nothing() {
    leakfree::select! {}
}
