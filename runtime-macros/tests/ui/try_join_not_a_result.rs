fn main() {}

async fn not_a_result() -> Result<((), ()), ()> {
    leakfree::try_join!(leakfree::yield_now(), async { Ok(()) })
}
