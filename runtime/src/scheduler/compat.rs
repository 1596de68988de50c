//! tokio beside us, for libraries that are written for it: feature `tokio-compat`.
//!
//! A runtime of tokio's with one worker thread drives its timers and sockets, and what is spawned there. Every thread that runs our tasks
//! has it as tokio's current runtime for as long as it does. A task of ours that waits for something of tokio's has
//! given it a waker: a foreign one, so nothing is ever claimed of that wait.

#[cfg(feature = "tokio-compat")]
pub(crate) use self::with_tokio::{Compat, Entered};
#[cfg(not(feature = "tokio-compat"))]
pub(crate) use self::without::{Compat, Entered};

#[cfg(feature = "tokio-compat")]
mod with_tokio {
    use std::io;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread;
    use std::time::{Duration, Instant};

    use tokio::runtime::{self, Handle, Runtime};

    /// Threads that run tasks there. The work is ours; this one mostly waits for events.
    const WORKERS: usize = 1;
    /// How long a thread of its blocking pool stays without work. While there is one, nothing is said to be quiet.
    const KEEP_ALIVE: Duration = Duration::from_secs(1);
    /// How long a shutdown waits for its threads.
    const SHUTDOWN_WAIT: Duration = Duration::from_millis(100);
    const LOOK_AGAIN: Duration = Duration::from_micros(500);

    /// A runtime of tokio's, or none.
    #[derive(Debug, Default)]
    pub(crate) struct Compat(Option<Helper>);

    #[derive(Debug)]
    struct Helper {
        handle: Handle,
        /// Taken at the shutdown.
        runtime: Mutex<Option<Runtime>>,
        threads: Arc<AtomicUsize>,
    }

    /// tokio's context on this thread.
    pub(crate) type Entered<'a> = Option<runtime::EnterGuard<'a>>;

    impl Compat {
        /// # Errors
        /// If the operating system gives no thread, or no descriptor for its driver.
        pub(crate) fn start(wanted: bool, name: &str) -> io::Result<Compat> {
            if !wanted {
                return Ok(Compat(None));
            }
            let threads = Arc::new(AtomicUsize::new(0));
            let (started, stopped) = (Arc::clone(&threads), Arc::clone(&threads));
            let runtime = runtime::Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .thread_name(format!("{name}-tokio"))
                .thread_keep_alive(KEEP_ALIVE)
                .on_thread_start(move || _ = started.fetch_add(1, Relaxed))
                .on_thread_stop(move || _ = stopped.fetch_sub(1, Relaxed))
                .enable_all()
                .build()?;
            let handle = runtime.handle().clone();
            Ok(Compat(Some(Helper { handle, runtime: Mutex::new(Some(runtime)), threads })))
        }

        pub(crate) fn enter(&self) -> Entered<'_> {
            self.0.as_ref().map(|helper| helper.handle.enter())
        }

        /// Tasks that are alive there.
        pub(crate) fn tasks(&self) -> u64 {
            self.0.as_ref().map_or(0, |helper| helper.handle.metrics().num_alive_tasks() as u64)
        }

        /// Whether nothing there could act on one of our tasks: no task is alive, and no thread is left that may be in a
        /// blocking call.
        pub(crate) fn is_idle(&self) -> bool {
            self.tasks() == 0 && self.0.as_ref().is_none_or(|helper| helper.threads.load(Relaxed) <= WORKERS)
        }

        /// Drops what is left there. Called when our own tasks are gone.
        pub(crate) fn shut_down(&self) {
            let (Some(helper), Some(runtime)) = (&self.0, self.take()) else { return };
            // tokio's own ways to wait panic on a thread of any tokio runtime, and a program may have several.
            runtime.shutdown_background();
            let until = Instant::now() + SHUTDOWN_WAIT;
            while helper.threads.load(Relaxed) > 0 && Instant::now() < until {
                thread::sleep(LOOK_AGAIN);
            }
        }

        fn take(&self) -> Option<Runtime> {
            self.0.as_ref()?.runtime.lock().unwrap_or_else(PoisonError::into_inner).take()
        }
    }

    impl Drop for Compat {
        fn drop(&mut self) {
            // Nobody can say on which thread: it must not block.
            if let Some(runtime) = self.take() {
                runtime.shutdown_background();
            }
        }
    }
}

#[cfg(not(feature = "tokio-compat"))]
mod without {
    use std::io;
    use std::marker::PhantomData;

    #[derive(Debug, Default)]
    pub(crate) struct Compat {}

    pub(crate) type Entered<'a> = PhantomData<&'a Compat>;

    impl Compat {
        pub(crate) fn start(_wanted: bool, _name: &str) -> io::Result<Compat> {
            Ok(Compat {})
        }

        pub(crate) fn enter(&self) -> Entered<'_> {
            PhantomData
        }

        pub(crate) fn tasks(&self) -> u64 {
            0
        }

        pub(crate) fn is_idle(&self) -> bool {
            true
        }

        pub(crate) fn shut_down(&self) {}
    }
}
