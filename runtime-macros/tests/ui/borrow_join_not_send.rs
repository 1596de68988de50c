fn main() {}

fn caller() {
    leakfree::spawn(async {
        leakfree::join_scope(async |j| j.spawn(async { 1 }).await).await;
    });
}
