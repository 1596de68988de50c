#[leakfree::test(schedules = 3, settle = "1ms")]
async fn t() {}

fn main() {}
