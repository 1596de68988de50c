#[leakfree::main(schedules = 1)]
async fn main() {}
