//! Libraries written for tokio, on leakfree: see `tests/`.
