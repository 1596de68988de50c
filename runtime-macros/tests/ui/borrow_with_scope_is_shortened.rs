use leakfree::{BlockingScope, DataScope};

fn main() {}

pub fn shorten<'long: 'short, 'short>(s: DataScope<'long>) -> DataScope<'short> {
    s
}

pub fn shorten_blocking<'env, 'long: 'short, 'short>(
    s: &'long BlockingScope<'long, 'env>,
) -> &'short BlockingScope<'short, 'env> {
    s
}
