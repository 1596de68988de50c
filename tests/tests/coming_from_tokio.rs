//! The table of `docs/COMING-FROM-TOKIO.md`: both columns are compiled here, and the file is made of them. So is its short form in the README.
//!
//! After a change of a row: `LEAKFREE_REWRITE=1 cargo test -p leakfree-tests --test coming_from_tokio`.

use std::error::Error;
use std::fmt::Write;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/COMING-FROM-TOKIO.md");

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

/// How the rows begin that the README has: where something differs that a tokio user meets on the first day.
const IN_README: &[&str] = &[
    "#[tokio::main] ",
    "#[tokio::test] ",
    "tokio::select!",
    "tokio::task_local!",
    "tokio::runtime::Builder::new_current_thread",
    "tokio::runtime::Runtime::new()?.shutdown_timeout",
    "tokio::spawn(async { 1 }).await?",
    "tokio::task::spawn_blocking",
    "tokio::task::LocalSet",
    "tokio::task::JoinSet::<()>::new().join_next",
    "tokio_util::sync::CancellationToken",
    "tokio_util::task::TaskTracker",
    "tokio::sync::Mutex::new(0).lock()",
    "tokio::time::timeout",
    "tokio::net::TcpListener",
    "tokio::io::duplex(64).0.read_exact",
    "tokio::fs::read_to_string",
];

const HEAD: &str = "| tokio | leakfree | what differs, and why |\n|---|---|---|\n";

const BEGINNING: &str = "\
# Coming from tokio

What a tokio user writes, and what that is here. Both columns are compiled by `tests/tests/coming_from_tokio.rs`, which this file is made
by: `LEAKFREE_REWRITE=1 cargo test -p leakfree-tests --test coming_from_tokio`. Where the third column is empty, names, shapes and
semantics are the same. In both, `use std::time::Duration`, and the extension traits of `io` are in scope.

Three things differ everywhere:

- **Nothing outlives its bound in silence.** What is alive when `main`, a test or a runtime ends is reported, with where it was spawned
  and what it waits for. Detaching a task is allowed, forgetting it is not.
- **A cancel drops a task at its next suspension point**, as an abort does there, and has a reason. It goes down the tree of scopes.
- **Every wait is recorded** with the caller's file, line and column: nothing to switch on, no build flag.
";

struct Row {
    area: &'static str,
    theirs: &'static str,
    ours: &'static str,
    differs: &'static str,
}

/// A row each: what it is about, their code, ours, and what differs. All code is compiled, and none is run.
macro_rules! rows {
    ($($area:ident { $($theirs:tt)* } { $($ours:tt)* } $differs:literal;)+) => {
        #[test]
        #[allow(deprecated, unused, unnameable_test_items, clippy::all)]
        fn both_columns_compile() {
            $(
                let theirs = || async {
                    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
                    use std::time::Duration;
                    $($theirs)*;
                    Ok::<(), Box<dyn Error>>(())
                };
                let ours = || async {
                    use leakfree::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
                    use std::time::Duration;
                    $($ours)*;
                    Ok::<(), Box<dyn Error>>(())
                };
            )+
        }

        const ROWS: &[Row] = &[$(Row {
            area: stringify!($area),
            theirs: stringify!($($theirs)*),
            ours: stringify!($($ours)*),
            differs: $differs,
        }),+];
    };
}

rows! {
    macros { #[tokio::main] async fn main() {} } { #[leakfree::main] async fn main() {} }
        "what is left when it returns is cancelled and reported, not dropped in silence";
    macros { #[tokio::main(worker_threads = 2)] async fn main() {} } { #[leakfree::main(workers = 2)] async fn main() {} }
        "one flavour, with 1 to N workers: there is no `current_thread`";
    macros { #[tokio::test] async fn works() {} } { #[leakfree::test] async fn works() {} }
        "a leaked task fails the test, and so does one that hangs, with the report";
    macros { #[tokio::test(start_paused = true)] async fn works() {} } { #[leakfree::test(paused)] async fn works() {} } "";
    macros { tokio::select! { _ = tokio::task::yield_now() => 1, else => 2 } } { leakfree::select! { _ = leakfree::task::yield_now() => 1, else => 2 } }
        "each arm is recorded with its own line";
    macros { tokio::join!(async { 1 }, async { 2 }) } { leakfree::join!(async { 1 }, async { 2 }) } "";
    macros { tokio::try_join!(async { Ok::<_, ()>(1) }, async { Ok(2) }) } { leakfree::try_join!(async { Ok::<_, ()>(1) }, async { Ok(2) }) } "";
    macros { tokio::task_local! { static KEY: u64; } } { leakfree::task_local! { static KEY: u64; } }
        "spawned tasks inherit the value, where there they start without: so it has to be `Send` and `Sync`";
    macros { std::pin::pin!(tokio::time::sleep(Duration::ZERO)) } { std::pin::pin!(leakfree::time::sleep(Duration::ZERO)) } "`tokio::pin!` is `std::pin::pin!`";

    runtime { tokio::runtime::Runtime::new()? } { leakfree::runtime::Runtime::new()? } "";
    runtime { tokio::runtime::Builder::new_multi_thread().build()? } { leakfree::runtime::Builder::new().build()? } "I/O and time are always on";
    runtime { tokio::runtime::Builder::new_current_thread().build()? } { leakfree::runtime::Builder::new().workers(1).build()? }
        "the worker is a thread of its own; futures that are not `Send` run in `block_on` and in `join_scope`";
    runtime { tokio::runtime::Builder::new_multi_thread().max_blocking_threads(8) } { leakfree::runtime::Builder::new().blocking_threads_max(8) } "";
    runtime { tokio::runtime::Builder::new_multi_thread().thread_name("io") } { leakfree::runtime::Builder::new().name("io") } "";
    runtime { tokio::runtime::Runtime::new()?.block_on(async {}) } { leakfree::runtime::Runtime::new()?.block_on(async {}) }
        "its body is a task of the tree, and in the report";
    runtime { tokio::runtime::Runtime::new()?.shutdown_timeout(Duration::from_secs(1)) } { leakfree::runtime::Builder::new().grace(Duration::from_secs(1)).build()?.shutdown() }
        "there a bound on blocking calls, here a grace in which tasks may end by themselves. It returns the final report; what does not stop is named there, and left";
    runtime { tokio::runtime::Handle::current() } { leakfree::runtime::Handle::current() } "";
    runtime { tokio::runtime::Handle::try_current()? } { leakfree::runtime::Handle::try_current()? } "";
    runtime { tokio::runtime::Handle::current().enter() } { leakfree::runtime::Handle::current().enter() } "";
    runtime { tokio::runtime::Handle::current().metrics().num_alive_tasks() } { leakfree::runtime::Handle::current().snapshot().tasks.len() }
        "a snapshot has every parked task, its waits and their lines";

    task { tokio::spawn(async { 1 }).await? } { leakfree::spawn(async { 1 }).await? }
        "a child of the root scope, dropped handle or not: alive at the end, it is reported. A child of the code around it is `scope.spawn`";
    task { tokio::task::spawn_blocking(|| 1).await? } { leakfree::task::spawn_blocking(|| 1).await? } "the call is in the report; the scope waits for it";
    task { tokio::task::block_in_place(|| 1) } { leakfree::task::block_in_place(|| 1) } "";
    task { tokio::task::yield_now().await } { leakfree::task::yield_now().await } "";
    task { tokio::task::unconstrained(async {}).await } { leakfree::task::unconstrained(async {}).await } "";
    task { tokio::task::consume_budget().await } { leakfree::task::consume_budget().await } "";
    task { tokio::spawn(async {}).abort() } { leakfree::spawn(async {}).abort() } "";
    task { tokio::spawn(async {}).abort_handle() } { leakfree::spawn(async {}).abort_handle() } "";
    task { tokio::spawn(async {}).is_finished() } { leakfree::spawn(async {}).is_finished() } "";
    task { tokio::spawn(async {}).await.unwrap_err().is_cancelled() } { leakfree::spawn(async {}).await.unwrap_err().is_cancelled() }
        "`cancel_reason()` says who, where and why; a wait for one's own ancestor is an error too, `is_would_deadlock()`";
    task { tokio::spawn(async {}).await.unwrap_err().into_panic() } { leakfree::spawn(async {}).await.unwrap_err().into_panic() }
        "in a scope a child's panic cancels its siblings and is resumed in the parent; under `supervisor_scope` and in the root it stays in the handle";
    task { tokio::task::id() } { leakfree::task::id() } "";
    task { tokio::task::LocalSet::new().run_until(async { tokio::task::spawn_local(async {}).await }).await? } { leakfree::join_scope(async |s| s.spawn(async {}).await).await }
        "no `spawn_local`: children that are not `Send`, or borrow, live in their parent's task";
    task { tokio::task::JoinSet::<()>::new().join_next().await } { leakfree::task::JoinSet::<()>::new().join_next().await }
        "the set's tasks are bounded by the scope around it: dropped, it aborts them, and the scope waits for their ends";
    task { tokio::task::JoinSet::<()>::new().spawn(async {}) } { leakfree::task::JoinSet::<()>::new().spawn(async {}) } "";
    task { tokio::task::JoinSet::<()>::new().shutdown().await } { leakfree::task::JoinSet::<()>::new().shutdown().await } "";
    task { tokio_util::sync::CancellationToken::new().cancelled().await } { leakfree::scope::current().token().cancelled().await }
        "each scope has a token; `leakfree::cancelled()` is the task's own";
    task { tokio_util::task::TaskTracker::new().wait().await } { leakfree::scope(async |s| { s.spawn(async {}); }).await }
        "a scope ends when all its tasks have";

    sync { tokio::sync::Mutex::new(0).lock().await } { leakfree::sync::Mutex::new(0).lock().await } "a report names the holder and finds cycles";
    sync { tokio::sync::Mutex::const_new(0).try_lock()? } { leakfree::sync::Mutex::new(0).try_lock()? } "`new` is `const`";
    sync { tokio::sync::Mutex::new(0).blocking_lock() } { leakfree::sync::Mutex::new(0).blocking_lock() } "";
    sync { tokio::sync::RwLock::new(0).read().await } { leakfree::sync::RwLock::new(0).read().await } "";
    sync { tokio::sync::RwLock::new(0).write().await } { leakfree::sync::RwLock::new(0).write().await } "";
    sync { tokio::sync::Semaphore::new(1).acquire().await? } { leakfree::sync::Semaphore::new(1).acquire().await? } "";
    sync { tokio::sync::Semaphore::new(1).acquire_many(1).await? } { leakfree::sync::Semaphore::new(1).acquire_many(1).await? } "";
    sync { tokio::sync::Notify::new().notified().await } { leakfree::sync::Notify::new().notified().await } "";
    sync { tokio::sync::Barrier::new(1).wait().await.is_leader() } { leakfree::sync::Barrier::new(1).wait().await.is_leader() } "";
    sync { tokio::sync::OnceCell::new().get_or_init(|| async { 1 }).await } { leakfree::sync::OnceCell::new().get_or_init(|| async { 1 }).await } "";
    sync { tokio::sync::SetOnce::<u8>::new().wait().await } { leakfree::sync::SetOnce::<u8>::new().wait().await } "";
    sync { tokio::sync::oneshot::channel::<u8>().1.await? } { leakfree::sync::oneshot::channel::<u8>().1.await? } "";
    sync { tokio::sync::oneshot::channel::<u8>().0.closed().await } { leakfree::sync::oneshot::channel::<u8>().0.closed().await } "";
    sync { tokio::sync::mpsc::channel::<u8>(1).0.send(1).await? } { leakfree::sync::mpsc::channel::<u8>(1).0.send(1).await? } "";
    sync { tokio::sync::mpsc::channel::<u8>(1).0.reserve().await?.send(1) } { leakfree::sync::mpsc::channel::<u8>(1).0.reserve().await?.send(1) } "";
    sync { tokio::sync::mpsc::channel::<u8>(1).1.recv().await } { leakfree::sync::mpsc::channel::<u8>(1).1.recv().await } "";
    sync { tokio::sync::mpsc::channel::<u8>(1).1.recv_many(&mut Vec::new(), 9).await } { leakfree::sync::mpsc::channel::<u8>(1).1.recv_many(&mut Vec::new(), 9).await } "";
    sync { tokio::sync::mpsc::unbounded_channel::<u8>().0.send(1)? } { leakfree::sync::mpsc::unbounded_channel::<u8>().0.send(1)? } "";
    sync { tokio::sync::watch::channel(1).1.changed().await? } { leakfree::sync::watch::channel(1).1.changed().await? } "";
    sync { tokio::sync::watch::channel(1).1.wait_for(|n| *n > 1).await? } { leakfree::sync::watch::channel(1).1.wait_for(|n| *n > 1).await? } "";
    sync { tokio::sync::broadcast::channel::<u8>(1).1.recv().await? } { leakfree::sync::broadcast::channel::<u8>(1).1.recv().await? } "";

    time { tokio::time::sleep(Duration::from_secs(1)).await } { leakfree::time::sleep(Duration::from_secs(1)).await } "";
    time { tokio::time::sleep_until(tokio::time::Instant::now()).await } { leakfree::time::sleep_until(leakfree::time::Instant::now()).await } "";
    time { tokio::time::timeout(Duration::from_secs(1), async {}).await? } { leakfree::time::timeout(Duration::from_secs(1), async {}).await? }
        "a scope inside that is dropped half-way is cancelled, and the next scope out waits for its children";
    time { tokio::time::interval(Duration::from_secs(1)).tick().await } { leakfree::time::interval(Duration::from_secs(1)).tick().await } "";
    time { tokio::time::interval(Duration::from_secs(1)).set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip) } { leakfree::time::interval(Duration::from_secs(1)).set_missed_tick_behavior(leakfree::time::MissedTickBehavior::Skip) } "";
    time { tokio::time::advance(Duration::from_secs(1)).await } { leakfree::time::advance(Duration::from_secs(1)).await } "timers on the way fire in order, each at its moment";

    net { tokio::net::TcpListener::bind("127.0.0.1:0").await?.accept().await? } { leakfree::net::TcpListener::bind("127.0.0.1:0").await?.accept().await? }
        "`accept` outlives a shortage of file descriptors: it tries again after a pause";
    net { tokio::net::TcpStream::connect("localhost:80").await? } { leakfree::net::TcpStream::connect("localhost:80").await? } "errors name the address";
    net { tokio::net::TcpStream::connect("localhost:80").await?.read(&mut [0]).await? } { leakfree::net::TcpStream::connect("localhost:80").await?.read(&mut [0]).await? } "`&self` is enough for it, and for `write`";
    net { tokio::net::TcpStream::connect("localhost:80").await?.into_split() } { leakfree::net::TcpStream::connect("localhost:80").await?.into_split() } "";
    net { tokio::net::TcpSocket::new_v4()?.set_reuseaddr(true)? } { leakfree::net::TcpSocket::new_v4()?.set_reuseaddr(true)? } "";
    net { tokio::net::UdpSocket::bind("127.0.0.1:0").await?.recv_from(&mut [0]).await? } { leakfree::net::UdpSocket::bind("127.0.0.1:0").await?.recv_from(&mut [0]).await? } "";
    net { tokio::net::UnixStream::connect("/socket").await? } { leakfree::net::UnixStream::connect("/socket").await? } "while the listener's queue is full it waits, where there it fails";
    net { tokio::net::UnixListener::bind("\0abstract")?.accept().await? } { leakfree::net::UnixListener::bind("\0abstract")?.accept().await? } "";
    net { tokio::net::UnixDatagram::pair()?.0.send(b"x").await? } { leakfree::net::UnixDatagram::pair()?.0.send(b"x").await? } "";
    net { tokio::net::lookup_host("localhost:80").await?.next() } { leakfree::net::lookup_host("localhost:80").await?.next() } "";

    io { tokio::io::duplex(64).0.read_exact(&mut [0; 4]).await? } { leakfree::io::duplex(64).0.read_exact(&mut [0; 4]).await? }
        "the traits are those of `futures-io`; with the feature `tokio-io` our types have tokio's as well";
    io { tokio::io::duplex(64).0.write_all(b"x").await? } { leakfree::io::duplex(64).0.write_all(b"x").await? } "";
    io { tokio::io::BufReader::new(tokio::io::stdin()).lines().next_line().await? } { leakfree::io::BufReader::new(leakfree::io::stdin()).lines().next_line().await? }
        "a read of the standard input holds no shutdown up";
    io { tokio::io::copy(&mut &b"x"[..], &mut tokio::io::sink()).await? } { leakfree::io::copy(&mut &b"x"[..], &mut leakfree::io::sink()).await? } "";
    io { tokio::io::copy_bidirectional(&mut tokio::io::duplex(1).0, &mut tokio::io::duplex(1).0).await? } { leakfree::io::copy_bidirectional(&mut leakfree::io::duplex(1).0, &mut leakfree::io::duplex(1).0).await? } "";
    io { tokio::io::split(tokio::io::duplex(64).0) } { leakfree::io::split(leakfree::io::duplex(64).0) } "";
    io { tokio::io::stdout().flush().await? } { leakfree::io::stdout().flush().await? } "";
    io { tokio::io::unix::AsyncFd::new(std::io::stdin())?.readable().await?.clear_ready() } { leakfree::io::unix::AsyncFd::new(std::io::stdin())?.readable().await?.clear_ready() }
        "no `unsafe` way to make one: nothing is done with the descriptor but to wait for it";

    fs { tokio::fs::read_to_string("file").await? } { leakfree::fs::read_to_string("file").await? }
        "each call is a task of the report; dropped half-way it is still made, and its scope waits for it";
    fs { tokio::fs::write("file", "x").await? } { leakfree::fs::write("file", "x").await? } "";
    fs { tokio::fs::File::open("file").await?.read(&mut [0]).await? } { leakfree::fs::File::open("file").await?.read(&mut [0]).await? } "";
    fs { tokio::fs::File::create("file").await?.sync_all().await? } { leakfree::fs::File::create("file").await?.sync_all().await? } "";
    fs { tokio::fs::OpenOptions::new().append(true).open("file").await? } { leakfree::fs::OpenOptions::new().append(true).open("file").await? } "";
    fs { tokio::fs::read_dir(".").await?.next_entry().await? } { leakfree::fs::read_dir(".").await?.next_entry().await? } "";

    process { tokio::process::Command::new("true").status().await? } { leakfree::process::Command::new("true").status().await? } "";
    process { tokio::process::Command::new("true").output().await? } { leakfree::process::Command::new("true").output().await? } "";
    process { tokio::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn()?.wait().await? } { leakfree::process::Command::new("cat").stdin(leakfree::process::Stdio::piped()).spawn()?.wait().await? } "";
    process { tokio::process::Command::new("cat").kill_on_drop(true).spawn()?.kill().await? } { leakfree::process::Command::new("cat").kill_on_drop(true).spawn()?.kill().await? } "";

    signal { tokio::signal::ctrl_c().await? } { leakfree::signal::ctrl_c().await? } "";
    signal { tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?.recv().await } { leakfree::signal::unix::signal(leakfree::signal::unix::SignalKind::hangup())?.recv().await } "";
}

fn table() -> String {
    let mut text = BEGINNING.to_owned();
    let mut area = "";
    for row in ROWS {
        if row.area != area {
            area = row.area;
            write!(text, "\n## {area}\n\n{HEAD}").unwrap();
        }
        text.push_str(&line(row));
    }
    text
}

/// A row as the files have it.
fn line(row: &Row) -> String {
    let code = |code: &str| code.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    format!("| `{}` | `{}` | {} |\n", code(row.theirs), code(row.ours), row.differs)
}

/// The README's short form.
fn short_table() -> String {
    let mut text = HEAD.to_owned();
    for begins in IN_README {
        let mut rows = ROWS.iter().filter(|row| row.theirs.starts_with(begins));
        let row = rows.next().unwrap_or_else(|| panic!("no row begins with `{begins}`: correct IN_README"));
        assert!(!row.differs.is_empty(), "`{begins}` does not differ: the README needs no row of it");
        text.push_str(&line(row));
    }
    text
}

#[test]
fn the_readme_has_the_rows_that_matter_most() {
    let table = short_table();
    let readme = std::fs::read_to_string(README).unwrap();
    let at = readme.find(HEAD).expect("the README has the head of the table");
    let end = readme[at..].find("\n\n").map_or(readme.len(), |end| at + end + 1);
    if std::env::var_os("LEAKFREE_REWRITE").is_some() {
        std::fs::write(README, format!("{}{table}{}", &readme[..at], &readme[end..])).unwrap();
        return;
    }
    assert!(
        readme[at..end] == table,
        "the README's table is not up to date: run this test with LEAKFREE_REWRITE=1"
    );
    assert!(readme.contains("(docs/COMING-FROM-TOKIO.md)"), "and it leads to the whole one");
}

#[test]
fn the_file_is_the_table() {
    assert!(ROWS.len() >= 60, "{}", ROWS.len());
    let table = table();
    if std::env::var_os("LEAKFREE_REWRITE").is_some() {
        std::fs::write(FILE, &table).unwrap();
    }
    let file = std::fs::read_to_string(FILE).unwrap_or_default();
    let differs = file.lines().zip(table.lines()).find(|(file, table)| file != table);
    assert!(
        file == table,
        "docs/COMING-FROM-TOKIO.md is not up to date ({differs:?}): run this test with LEAKFREE_REWRITE=1"
    );
}
