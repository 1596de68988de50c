fn main() {}

async fn caller() {
    let (handle, _) = leakfree::scope_with(0, async |s, data| s.spawn(async move { &*data })).await;
    drop(handle);
}
