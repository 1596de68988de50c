fn main() {}

async fn caller() {
    let local = 1;
    let borrowed = &local;
    leakfree::scope_with(0, async move |s, _data| {
        s.spawn(async move { *borrowed + 1 });
    })
    .await;
}
