fn main() {}

async fn caller() {
    let mut escaped = None;
    leakfree::scope_with(0, async |_s, data| {
        escaped = Some(data);
    })
    .await;
}
