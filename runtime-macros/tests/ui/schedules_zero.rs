#[leakfree::test(schedules = 0)]
async fn t() {}

fn main() {}
