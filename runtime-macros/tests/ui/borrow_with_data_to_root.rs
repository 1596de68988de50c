fn main() {}

async fn caller() {
    leakfree::scope_with(0, async |_s, data| {
        leakfree::spawn(async move { *data += 1 });
    })
    .await;
}
