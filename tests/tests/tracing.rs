//! Feature `tracing`: tasks are spans as tokio's console knows them, and lie in their parent's. Needs the feature of the same name.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once};

use leakfree::sync::oneshot;
use leakfree::{Scope, scope, supervisor_scope};
use leakfree_tests::{Drops, Holding, panic_message, parked, until};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber, info, info_span};
use tracing_core::span::Current;

type Fields = BTreeMap<&'static str, String>;

struct SpanSeen {
    metadata: &'static Metadata<'static>,
    parent: Option<u64>,
    fields: Fields,
}

struct EventSeen {
    target: &'static str,
    span: Option<u64>,
    fields: Fields,
}

/// All that the process has traced.
#[derive(Default)]
struct Seen {
    spans: HashMap<u64, SpanSeen>,
    events: Vec<EventSeen>,
}

static SEEN: Mutex<Option<Seen>> = Mutex::new(None);

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// This thread's wish to have no spans of tasks.
    static NO_TASKS: Cell<bool> = const { Cell::new(false) };
    /// This thread's wish that a new span panics.
    static BAD_SPANS: Cell<bool> = const { Cell::new(false) };
}

/// Whoever enters this span panics.
static NOT_TO_ENTER: AtomicU64 = AtomicU64::new(0);

struct Collector(AtomicU64);

struct Collect<'a>(&'a mut Fields);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

fn current() -> Option<u64> {
    ENTERED.with_borrow(|entered| entered.last().copied())
}

fn lock() -> MutexGuard<'static, Option<Seen>> {
    SEEN.lock().unwrap_or_else(|e| e.into_inner())
}

impl Subscriber for Collector {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() != "tokio::task" || !NO_TASKS.get()
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        assert!(!BAD_SPANS.get(), "on purpose: a new span");
        let id = self.0.fetch_add(1, Ordering::Relaxed);
        let mut fields = Fields::new();
        attributes.record(&mut Collect(&mut fields));
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.into_u64()),
            None => current().filter(|_| attributes.is_contextual()),
        };
        let span = SpanSeen { metadata: attributes.metadata(), parent, fields };
        lock().get_or_insert_default().spans.insert(id, span);
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Collect(&mut fields));
        let event = EventSeen { target: event.metadata().target(), span: current(), fields };
        lock().get_or_insert_default().events.push(event);
    }

    fn enter(&self, span: &Id) {
        assert_ne!(NOT_TO_ENTER.load(Ordering::Relaxed), span.into_u64(), "on purpose: enter");
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| assert_eq!(entered.pop(), Some(span.into_u64()), "spans nest"));
    }

    fn current_span(&self) -> Current {
        let id = current();
        match id.and_then(|id| lock().as_ref().map(|seen| (id, seen.spans[&id].metadata))) {
            Some((id, metadata)) => Current::new(Id::from_u64(id), metadata),
            None => Current::none(),
        }
    }
}

fn trace() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Collector(AtomicU64::new(1))).unwrap());
}

/// The spans around the event with that message, innermost first, by name; a task's by its task's name.
fn around(message: &str) -> Vec<String> {
    let seen = lock();
    let seen = seen.as_ref().unwrap();
    let event = seen.events.iter().find(|event| event.fields.get("message").is_some_and(|m| m == message));
    let mut next = event.unwrap_or_else(|| panic!("no event {message}")).span;
    let mut names = Vec::new();
    while let Some(span) = next.map(|id| &seen.spans[&id]) {
        let task = span.fields.get("task.name").map(|name| format!("task {name}"));
        names.push(task.unwrap_or_else(|| span.metadata.name().to_owned()));
        next = span.parent;
    }
    // The body's own task, which has no name, is the outermost, but in the test that came first: it began before the subscriber.
    if names.last().is_some_and(|name| name == "task ") {
        names.pop();
    }
    names
}

fn said(message: &str) -> bool {
    let seen = lock();
    let mut events = seen.as_ref().unwrap().events.iter();
    events.any(|event| event.fields.get("message").is_some_and(|m| m == message))
}

/// The id and the fields of the span of a task.
fn task_span(name: &str) -> (u64, Fields) {
    let seen = lock();
    let mut spans = seen.as_ref().unwrap().spans.iter();
    let (id, span) = spans.find(|(_, span)| span.fields.get("task.name").is_some_and(|n| n == name)).unwrap();
    assert_eq!((span.metadata.name(), span.metadata.target()), ("runtime.spawn", "tokio::task"));
    (*id, span.fields.clone())
}

/// How often something was done to the wakers of the task of that span.
fn ops(span: u64, op: &str) -> usize {
    let seen = lock();
    let events = seen.as_ref().unwrap().events.iter().filter(|event| {
        event.target == "tokio::task::waker"
            && event.fields["op"] == op
            && event.fields["task.id"] == span.to_string()
    });
    events.count()
}

#[leakfree::test(workers = 2)]
async fn a_task_has_a_span_that_says_what_and_where() {
    trace();
    let mut line = 0;
    let (mut id, mut blocking) = (0, 0);
    scope(async |s| {
        line = line!() + 1;
        let task = s.task().name("described").spawn(async {});
        id = task.id().get();
        task.await.unwrap();
        let task = s.task().name("called").spawn_blocking(|| {});
        blocking = task.id().get();
        task.await.unwrap();
    })
    .await;
    let (_, fields) = task_span("described");
    assert_eq!(fields["kind"], "task");
    assert_eq!(fields["task.id"], id.to_string());
    assert!(fields["loc.file"].ends_with("tracing.rs"), "{fields:?}");
    assert_eq!(fields["loc.line"], line.to_string());
    assert_eq!(fields["loc.col"], "47");
    let (_, fields) = task_span("called");
    assert_eq!((&*fields["kind"], &fields["task.id"]), ("blocking", &blocking.to_string()));
}

#[leakfree::test(workers = 2)]
async fn a_child_is_in_the_spans_of_its_parent_across_parks_and_in_its_drop() {
    struct Says(&'static str);
    impl Drop for Says {
        fn drop(&mut self) {
            info!("{}", self.0);
        }
    }
    trace();
    scope(async |s: Scope| {
        let (tx, rx) = oneshot::channel();
        let span = info_span!("request");
        span.in_scope(|| {
            let inner = s.clone();
            s.task().name("parent").spawn(async move {
                info!("first poll");
                rx.await.unwrap();
                info!("after a park");
                inner.task().name("child").spawn(async { info!("further down") });
                inner.task().name("called here").spawn_blocking(|| info!("blocking"));
            });
            s.task().name("dropped").spawn(Holding(Says("in the drop")));
        });
        parked("dropped").await;
        parked("parent").await;
        tx.send(()).unwrap();
        until(|| said("blocking") && said("further down")).await;
        s.cancel("the test");
    })
    .await;
    assert_eq!(around("first poll"), ["task parent", "request"]);
    assert_eq!(around("after a park"), ["task parent", "request"]);
    assert_eq!(around("further down"), ["task child", "task parent", "request"]);
    assert_eq!(around("blocking"), ["task called here", "task parent", "request"]);
    assert_eq!(around("in the drop"), ["task dropped", "request"]);
}

#[leakfree::test(workers = 2)]
async fn where_nobody_wants_spans_of_tasks_the_parents_is_passed_on() {
    trace();
    scope(async |s: Scope| {
        let span = info_span!("quiet");
        NO_TASKS.set(true);
        span.in_scope(|| s.task().name("unseen").spawn(async { info!("without its own") }));
        NO_TASKS.set(false);
    })
    .await;
    assert_eq!(around("without its own"), ["quiet"]);
}

#[leakfree::test(workers = 2)]
async fn a_parked_task_has_one_waker_and_one_that_nothing_can_wake_has_none() {
    trace();
    scope(async |s: Scope| {
        let (tx, rx) = oneshot::channel();
        let waits = s.task().name("waits").spawn(async move {
            leakfree::yield_now().await;
            rx.await.unwrap();
        });
        parked("waits").await;
        let (span, _) = task_span("waits");
        assert_eq!((ops(span, "waker.clone"), ops(span, "waker.wake")), (2, 1));
        tx.send(()).unwrap();
        waits.await.unwrap();
        assert_eq!((ops(span, "waker.clone"), ops(span, "waker.wake"), ops(span, "waker.drop")), (2, 2, 0));

        s.task().name("lost").spawn(Holding(()));
        until(|| leakfree::runtime::Handle::current().snapshot().unwakeable_total > 0).await;
        let (span, _) = task_span("lost");
        until(|| ops(span, "waker.drop") == 1).await;
        assert_eq!((ops(span, "waker.clone"), ops(span, "waker.wake")), (1, 0));
        s.cancel("the test");
    })
    .await;
}

/// A spawn that panics in the subscriber: the child is counted out again, its place is free, and what it held is dropped.
#[leakfree::test(workers = 2)]
async fn a_subscriber_that_panics_in_a_spawn_leaves_nothing_behind() {
    trace();
    let drops = Drops::new();
    let bad = |spawn: &dyn Fn()| {
        BAD_SPANS.set(true);
        let message = panic_message(spawn);
        BAD_SPANS.set(false);
        assert!(message.contains("on purpose: a new span"), "{message}");
    };
    scope(async |s: Scope| {
        bad(&|| drop(s.spawn(Holding(drops.guard()))));
        bad(&|| drop(s.task().name("with a name").spawn_blocking(|| {})));
        bad(&|| drop(s.spawn_daemon(Holding(drops.guard()))));
        assert_eq!(s.spawn(async { 1 }).await.unwrap(), 1);
    })
    .await;
    Scope::builder()
        .max_concurrent(1)
        .scope(async |s: Scope| {
            for _ in 0..3 {
                bad(&|| drop(s.spawn(Holding(drops.guard()))));
            }
            assert_eq!(s.spawn(async { 2 }).await.unwrap(), 2);
            let mut when_free = Box::pin(s.spawn_when_free(Holding(drops.guard())));
            BAD_SPANS.set(true);
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let message = panic_message(|| _ = std::future::Future::poll(when_free.as_mut(), &mut cx));
            BAD_SPANS.set(false);
            assert!(message.contains("on purpose"), "{message}");
            assert_eq!(s.spawn_when_free(async { 3 }).await.await.unwrap(), 3);
            // After a cancel a spawn is refused, in a task of its own.
            s.cancel("the test");
            bad(&|| drop(s.spawn(Holding(drops.guard()))));
        })
        .await;
    assert_eq!(drops.count(), 7);
}

#[leakfree::test(workers = 2)]
async fn a_subscriber_that_panics_when_a_task_is_dropped_does_not_keep_it() {
    trace();
    let drops = Drops::new();
    supervisor_scope(async |s: Scope| {
        let task = s.task().name("not to enter").spawn(Holding(drops.guard()));
        parked("not to enter").await;
        NOT_TO_ENTER.store(task_span("not to enter").0, Ordering::Relaxed);
        task.abort();
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(drops.count(), 1);
    })
    .await;
}
