fn main() {}

async fn caller() {
    leakfree::scope_with(0, async |s, _data| {
        let local = std::rc::Rc::new(1);
        s.spawn(async move { *local });
    })
    .await;
}
