fn main() {}

async fn caller() {
    leakfree::join_scope(async |j| {
        let local = 1;
        drop(j.spawn(async { local + 1 }));
    })
    .await;
}
