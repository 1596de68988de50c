fn main() {}

async fn caller() {
    let escaped = {
        let local = 1;
        leakfree::join_scope(async |j| {
            drop(j.spawn(async { local + 1 }));
            j
        })
        .await
    };
    drop(escaped);
}
