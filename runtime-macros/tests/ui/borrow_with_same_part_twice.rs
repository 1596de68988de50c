fn main() {}

async fn caller() {
    leakfree::scope_with(0, async |s, data| {
        s.spawn(async { *data += 1 });
        s.spawn(async { *data += 1 });
    })
    .await;
}
