fn main() {}

async fn caller() {
    let (data, _) = leakfree::scope_with(0, async |_s, data| data).await;
    *data += 1;
}
