fn main() {}

async fn caller() {
    let mut local = 1;
    leakfree::scope_with(&mut local, async |_s, _data| ()).await;
}
