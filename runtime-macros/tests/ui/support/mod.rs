//! What the macros expect of the crate that they are given, in its smallest form: it shows that an expansion compiles,
//! and where errors point, whatever the runtime looks like.

pub mod runtime {
    pub struct Builder;

    pub enum OnLeak {
        Report,
        Fail,
    }

    impl Builder {
        pub fn new() -> Builder {
            Builder
        }
        pub fn workers(self, _: usize) -> Builder {
            self
        }
        pub fn name(self, _: &str) -> Builder {
            self
        }
        pub fn grace(self, _: std::time::Duration) -> Builder {
            self
        }
        pub fn settle(self, _: std::time::Duration) -> Builder {
            self
        }
        pub fn start_paused(self, _: bool) -> Builder {
            self
        }
        pub fn on_leak(self, _: OnLeak) -> Builder {
            self
        }
    }
}

pub mod __private {
    use super::runtime::Builder;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    pub fn run_main<F: Future>(_: Builder, body: F) -> F::Output {
        match pin!(body).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the bodies of these tests never wait"),
        }
    }

    pub fn run_simulated_test<F: Future>(
        name: &str,
        builder: impl Fn() -> Builder,
        seed: u64,
        schedules: u64,
        body: impl Fn() -> F,
    ) {
        assert_eq!(seed, 7);
        (0..schedules).for_each(|_| drop(run_test(name, builder(), body())));
    }

    pub fn run_test<F: Future>(name: &str, builder: Builder, body: F) -> F::Output {
        assert!(name.contains("::"));
        run_main(builder, body)
    }
}
