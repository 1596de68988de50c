fn main() {}

async fn caller() {
    let (s, _) = leakfree::scope_with(0, async |s, _data| s).await;
    drop(s);
}
