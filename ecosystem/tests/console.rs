//! tokio's console, unchanged: its subscriber in a program of ours, and its client, which sees our tasks as the terminal program does.

use std::collections::HashMap;
use std::time::Duration;

use console_api::field::{Name, Value};
use console_api::instrument::instrument_client::InstrumentClient;
use console_api::instrument::{InstrumentRequest, Update};
use console_api::tasks::{Stats, Task};
use console_subscriber::ConsoleLayer;
use leakfree::runtime::Builder;
use leakfree::sync::oneshot;
use leakfree::{Scope, scope};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What the console knows at a time.
#[derive(Default)]
struct Seen {
    tasks: HashMap<u64, Task>,
    stats: HashMap<u64, Stats>,
    targets: HashMap<u64, (String, String)>,
}

impl Seen {
    fn take(&mut self, update: Update) {
        for metadata in update.new_metadata.into_iter().flat_map(|new| new.metadata) {
            let (id, metadata) = (metadata.id.unwrap().id, metadata.metadata.unwrap());
            self.targets.insert(id, (metadata.name, metadata.target));
        }
        let Some(update) = update.task_update else { return };
        assert_eq!(update.dropped_events, 0);
        for task in update.new_tasks {
            self.tasks.insert(task.id.as_ref().unwrap().id, task);
        }
        self.stats.extend(update.stats_update);
    }

    /// The task of that name.
    fn named(&self, name: &str) -> Option<(&Task, &Stats)> {
        let task = self.tasks.values().find(|task| field(task, "task.name").is_some_and(|is| is == name))?;
        Some((task, self.stats.get(&task.id.as_ref()?.id)?))
    }
}

/// A field as the console shows it.
fn field(task: &Task, name: &str) -> Option<String> {
    let field =
        task.fields.iter().find(|field| matches!(&field.name, Some(Name::StrName(is)) if is == name))?;
    Some(match field.value.as_ref()? {
        Value::DebugVal(text) | Value::StrVal(text) => text.clone(),
        Value::U64Val(n) => n.to_string(),
        Value::I64Val(n) => n.to_string(),
        Value::BoolVal(is) => is.to_string(),
    })
}

#[test]
fn the_console_sees_our_tasks_with_name_place_polls_and_wakers() {
    let socket = std::env::temp_dir().join(format!("leakfree-console-{}", std::process::id()));
    let layer = ConsoleLayer::builder()
        .server_addr(socket.as_path())
        .publish_interval(Duration::from_millis(20))
        .spawn();
    tracing_subscriber::registry().with(layer).init();

    let runtime = Builder::new().workers(2).build().unwrap();
    runtime.block_on(scope(async |s: Scope| {
        let (tx, rx) = oneshot::channel::<()>();
        let line = line!() + 1;
        let waits = s.task().name("waits").spawn(async move {
            leakfree::yield_now().await;
            rx.await.unwrap();
        });
        let task_id = waits.id().get();
        s.task().name("called").spawn_blocking(|| {}).await.unwrap();

        let endpoint = format!("unix://{}", socket.display());
        let mut client = loop {
            match InstrumentClient::connect(endpoint.clone()).await {
                Ok(client) => break client,
                // Its thread is still on its way.
                Err(_) => leakfree::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let mut updates = client.watch_updates(InstrumentRequest {}).await.unwrap().into_inner();
        let mut seen = Seen::default();
        let mut until = async |what: &str, wanted: &dyn Fn(&Seen) -> bool| {
            let looks = async {
                while !wanted(&seen) {
                    let update = updates.message().await.unwrap();
                    seen.take(update.expect("the console's server goes on"));
                }
            };
            let looked = leakfree::time::timeout(Duration::from_secs(20), looks).await;
            looked.unwrap_or_else(|_| panic!("never seen: {what}; {:?}", seen.stats));
        };

        // Parked for the second time: polled twice, and one waker is out. The console counts a wake as a drop, too.
        until("a parked task", &|seen| {
            let Some((task, stats)) = seen.named("waits") else { return false };
            let location = task.location.as_ref().unwrap();
            assert!(location.file().ends_with("tests/console.rs"), "{location:?}");
            assert_eq!((location.line(), location.column()), (line, 44));
            assert_eq!(field(task, "kind").as_deref(), Some("task"));
            assert_eq!(field(task, "task.id"), Some(task_id.to_string()));
            assert_eq!(field(task, "loc.line"), None, "it has become the location");
            let metadata = &seen.targets[&task.metadata.as_ref().unwrap().id];
            assert_eq!((&*metadata.0, &*metadata.1), ("runtime.spawn", "tokio::task"));
            assert!(stats.dropped_at.is_none());
            let polls = stats.poll_stats.as_ref().unwrap();
            polls.polls == 2
                && polls.last_poll_ended.is_some()
                && (stats.waker_clones, stats.wakes, stats.waker_drops) == (2, 1, 1)
        })
        .await;
        until("a blocking call that has ended", &|seen| {
            let Some((task, stats)) = seen.named("called") else { return false };
            assert_eq!(field(task, "kind").as_deref(), Some("blocking"));
            stats.dropped_at.is_some()
        })
        .await;
        tx.send(()).unwrap();
        waits.await.unwrap();
        until("the end of a task, and all its wakers gone", &|seen| {
            let (_, stats) = seen.named("waits").unwrap();
            stats.dropped_at.is_some() && stats.waker_clones == stats.waker_drops
        })
        .await;
        // What the terminal program warns of: not woken, not running, and without a waker.
        s.task().name("lost").spawn(std::future::pending::<()>());
        until("a task that has lost its waker", &|seen| {
            let Some((_, stats)) = seen.named("lost") else { return false };
            stats.dropped_at.is_none() && (stats.waker_clones, stats.wakes, stats.waker_drops) == (1, 0, 1)
        })
        .await;
        s.cancel("seen");
    }));
    let report = runtime.shutdown();
    assert!(report.is_clean(), "{report}");
    let _ = std::fs::remove_file(socket);
}
