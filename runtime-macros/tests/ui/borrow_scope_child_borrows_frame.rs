fn main() {}

async fn caller() {
    let local = 1;
    leakfree::scope(async |s| {
        s.spawn(async { local + 1 });
    })
    .await;
}
