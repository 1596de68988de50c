//! (temporary)
#[derive(Debug)]
pub(crate) struct Clock(std::time::Instant);
impl Clock { pub(crate) fn real() -> Clock { Clock(std::time::Instant::now()) } pub(crate) fn now(&self) -> std::time::Duration { self.0.elapsed() } }
