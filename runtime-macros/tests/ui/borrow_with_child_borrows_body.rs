fn main() {}

async fn caller() {
    leakfree::scope_with(0, async |s, _data| {
        let local = 1;
        let child = s.spawn(async { local + 1 });
        child.await.unwrap()
    })
    .await;
}
