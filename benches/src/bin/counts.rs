//! counts
#[global_allocator]
static ALLOCATOR: leakfree_benches::counting::Counting<leakfree_benches::Allocator> =
    leakfree_benches::counting::Counting(leakfree_benches::ALLOCATOR);
fn main() -> std::process::ExitCode {
    leakfree_benches::child::ran().unwrap_or(std::process::ExitCode::FAILURE)
}
