//! Files and directories.

use std::io::{ErrorKind, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use leakfree::fs::{self, File, OpenOptions};
use leakfree::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use leakfree::runtime::Builder;
use leakfree_tests::{TempDir, parked, polled_once, ready, until};

#[leakfree::test(workers = 2)]
async fn whole_files_and_directories() {
    let dir = TempDir::new();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::write(&a, "text").await.unwrap();
    assert_eq!(fs::read(&a).await.unwrap(), b"text");
    assert_eq!(fs::copy(&a, &b).await.unwrap(), 4);
    assert_eq!(fs::read_to_string(&b).await.unwrap(), "text");
    assert_eq!(fs::metadata(&b).await.unwrap().len(), 4);
    fs::rename(&a, dir.path().join("c")).await.unwrap();
    assert!(!fs::try_exists(&a).await.unwrap());
    fs::symlink(&b, dir.path().join("link")).await.unwrap();
    assert_eq!(fs::read_link(dir.path().join("link")).await.unwrap(), b);
    assert_eq!(fs::canonicalize(dir.path().join("link")).await.unwrap(), fs::canonicalize(&b).await.unwrap());
    fs::create_dir_all(dir.path().join("x/y/z")).await.unwrap();
    fs::create_dir(dir.path().join("w")).await.unwrap();
    fs::remove_dir(dir.path().join("w")).await.unwrap();
    fs::remove_dir_all(dir.path().join("x")).await.unwrap();
    fs::remove_file(&b).await.unwrap();
    assert_eq!(fs::read(&b).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[leakfree::test(workers = 2)]
async fn a_directory_is_read_entry_by_entry() {
    let dir = TempDir::new();
    for i in 0..100 {
        fs::write(dir.path().join(format!("{i}")), "").await.unwrap();
    }
    fs::create_dir(dir.path().join("sub")).await.unwrap();
    let mut entries = fs::read_dir(dir.path()).await.unwrap();
    let mut names = Vec::new();
    loop {
        // Whether a wait is dropped on the way or not, each entry comes once.
        let entry = match polled_once(entries.next_entry()).await {
            std::task::Poll::Ready(entry) => entry,
            std::task::Poll::Pending => entries.next_entry().await,
        };
        let Some(entry) = entry.unwrap() else { break };
        assert_eq!(entry.file_type().await.unwrap().is_dir(), entry.file_name() == "sub");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 101);
    assert_eq!(fs::read_dir(dir.path().join("none")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[leakfree::test(workers = 2)]
async fn a_file_is_read_written_and_sought() {
    let dir = TempDir::new();
    let path = dir.path().join("file");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).await.unwrap();
    file.write_all(b"0123456789").await.unwrap();
    assert_eq!(file.seek(SeekFrom::Start(2)).await.unwrap(), 2);
    let mut buf = [0; 3];
    file.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"234");
    // What was read ahead does not count: the position is where the reader is.
    assert_eq!(file.stream_position().await.unwrap(), 5);
    file.read_exact(&mut buf[..1]).await.unwrap();
    file.write_all(b"X").await.unwrap();
    file.sync_all().await.unwrap();
    assert_eq!(fs::read(&path).await.unwrap(), b"012345X789");
    assert_eq!(file.seek(SeekFrom::End(-1)).await.unwrap(), 9);
    let mut rest = String::new();
    file.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "9");
    assert_eq!(file.read(&mut buf).await.unwrap(), 0, "the end");
    file.set_len(3).await.unwrap();
    assert_eq!(file.metadata().await.unwrap().len(), 3);
    assert_eq!(file.seek(SeekFrom::Current(-100)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let error = File::create_new(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let mut appending = OpenOptions::new().append(true).open(&path).await.unwrap();
    appending.write_all(b"!").await.unwrap();
    appending.flush().await.unwrap();
    assert_eq!(fs::read(&path).await.unwrap(), b"012!");
}

/// Polls a future that makes a call once, and drops it. The pool has one thread, which is kept busy meanwhile.
async fn drop_half_way<F: Future>(future: F) {
    let (go, come) = std::sync::mpsc::channel::<()>();
    let busy = leakfree::spawn_blocking(move || come.recv());
    assert!(polled_once(future).await.is_pending());
    go.send(()).unwrap();
    busy.await.unwrap().unwrap();
}

#[test]
fn what_is_dropped_half_way_has_lost_nothing() {
    let runtime = leakfree::runtime::Builder::new().workers(2).blocking_threads_max(1).build().unwrap();
    runtime.block_on(dropped_half_way());
    assert!(runtime.shutdown().is_clean());
}

async fn dropped_half_way() {
    let dir = TempDir::new();
    let path = dir.path().join("file");
    fs::write(&path, "abcdef").await.unwrap();
    let mut file = File::options().read(true).write(true).open(&path).await.unwrap();
    let mut buf = [0; 2];
    drop_half_way(file.read(&mut buf)).await;
    file.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"ab", "what the first read fetched comes next");
    drop_half_way(file.seek(SeekFrom::Start(1))).await;
    assert_eq!(file.seek(SeekFrom::Start(4)).await.unwrap(), 4, "the later one is answered");
    file.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"ef");
    drop_half_way(file.seek(SeekFrom::Start(0))).await;
    assert_eq!(file.read(&mut buf).await.unwrap(), 2, "and moves it, though nobody waited");
    assert_eq!(file.seek(SeekFrom::Start(0)).await.unwrap(), 0);
    file.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"ab");
    // A call that was begun is made to its end, and its scope waits for it.
    let new = dir.path().join("new");
    leakfree::scope(async |_| {
        drop_half_way(fs::write(&new, "done")).await;
        drop(fs::write(dir.path().join("never"), "x"));
    })
    .await;
    assert_eq!(std::fs::read_to_string(&new).unwrap(), "done");
    assert!(!dir.path().join("never").exists(), "what was never polled is not done");
    // So is a write whose file is dropped.
    leakfree::scope(async |_| {
        let mut file = File::create(&new).await.unwrap();
        file.write_all(b"behind").await.unwrap();
    })
    .await;
    assert_eq!(std::fs::read_to_string(&new).unwrap(), "behind");
}

#[leakfree::test(workers = 2)]
async fn a_failed_write_is_told_at_the_next_step() {
    for step in 0..3 {
        let mut full = OpenOptions::new().write(true).open("/dev/full").await.unwrap();
        full.write_all(b"taken").await.unwrap();
        let error = match step {
            0 => full.flush().await.unwrap_err(),
            1 => full.sync_all().await.unwrap_err(),
            _ => full.write_all(b"next").await.unwrap_err(),
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        full.flush().await.unwrap();
    }
}

#[leakfree::test(workers = 2)]
async fn tokios_traits_on_a_file() {
    let dir = TempDir::new();
    let mut file = File::create_new(dir.path().join("file")).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut file, b"0123456789").await.unwrap();
    tokio::io::AsyncWriteExt::flush(&mut file).await.unwrap();
    assert_eq!(tokio::io::AsyncSeekExt::seek(&mut file, SeekFrom::Start(3)).await.unwrap(), 3);
    let mut buf = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut file, &mut buf).await.unwrap();
    assert_eq!(&buf, b"3456");
    assert_eq!(tokio::io::AsyncSeekExt::seek(&mut file, SeekFrom::Current(1)).await.unwrap(), 8);
    tokio::io::AsyncReadExt::read_exact(&mut file, &mut buf[..2]).await.unwrap();
    assert_eq!(&buf[..2], b"89");
}

#[leakfree::test(workers = 2)]
async fn files_can_be_used_under_a_shield_and_in_a_cleanup() {
    let dir = TempDir::new();
    let fifo = dir.fifo("fifo");
    let (shielded, cleaned) = (dir.path().join("shielded"), dir.path().join("cleaned"));
    let (on_cancel, after, wait) = (cleaned.clone(), shielded.clone(), fifo.clone());
    let scope = leakfree::scope::current();
    let task = scope.task().name("shielded").spawn(async move {
        let _cleanup = leakfree::defer_async(async move { fs::write(on_cancel, "c").await.unwrap() });
        leakfree::shield(async {
            fs::read(wait).await.unwrap();
            fs::write(after, "s").await.unwrap();
        })
        .await;
        std::future::pending::<()>().await;
    });
    parked("shielded").await;
    task.abort();
    std::fs::write(&fifo, "go").unwrap();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(std::fs::read_to_string(shielded).unwrap(), "s");
    until(|| std::fs::read_to_string(&cleaned).is_ok_and(|text| text == "c")).await;
}

#[leakfree::test(paused)]
async fn a_paused_clock_stands_still_while_a_call_is_made() {
    let dir = TempDir::new();
    let begun = leakfree::time::Instant::now();
    let long = std::time::Duration::from_secs(3600);
    let write = async { fs::write(dir.path().join("x"), vec![0; 1 << 20]).await.unwrap() };
    leakfree::time::timeout(long, write).await.unwrap();
    assert_eq!(begun.elapsed(), std::time::Duration::ZERO);
}

#[leakfree::test(workers = 2)]
async fn options_of_files_and_directories_are_those_of_the_system() {
    let dir = TempDir::new();
    let secret = dir.path().join("secret");
    let mut file =
        OpenOptions::default().write(true).create_new(true).mode(0o600).open(&secret).await.unwrap();
    file.write_all(b"text").await.unwrap();
    file.flush().await.unwrap();
    let mode = async |path: &Path| fs::metadata(path).await.unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&secret).await, 0o600);
    let read_only = OpenOptions::new().read(true).write(true).create_new(true).open(&secret).await;
    assert_eq!(read_only.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let directory = rustix::fs::OFlags::DIRECTORY.bits() as i32;
    let no_directory = OpenOptions::new().read(true).custom_flags(directory).open(&secret).await;
    assert_eq!(no_directory.unwrap_err().kind(), ErrorKind::NotADirectory);
    let mut theirs = std::fs::OpenOptions::new();
    theirs.read(true);
    let mut file = OpenOptions::from(theirs).open(&secret).await.unwrap();
    let refused = file.write_all(b"x").await.and(file.flush().await).unwrap_err();
    assert_eq!(
        refused.raw_os_error(),
        Some(rustix::io::Errno::BADF.raw_os_error()),
        "it is open for reading only"
    );
    let mut file = File::from(std::fs::File::open(&secret).unwrap());
    assert_eq!(file.read(&mut []).await.unwrap(), 0, "no room, nothing read");
    let mut text = String::new();
    file.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "text");

    let deep = dir.path().join("a/b/c");
    assert_eq!(fs::DirBuilder::new().create(&deep).await.unwrap_err().kind(), ErrorKind::NotFound);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&deep).await.unwrap();
    fs::DirBuilder::new().recursive(true).create(&deep).await.unwrap();
    assert_eq!(mode(&deep).await, 0o700);
    let entry = fs::read_dir(dir.path().join("a/b")).await.unwrap().next_entry().await.unwrap().unwrap();
    assert_eq!(entry.path(), deep);
    assert!(entry.metadata().await.unwrap().is_dir());
    // A directory cannot be read as a file; told as an error, and again.
    let mut file = File::open(&deep).await.unwrap();
    for _ in 0..2 {
        assert_eq!(file.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::IsADirectory);
    }
}

/// A call that waits for a write which is queued behind it: on the only thread, and in a simulation, where all calls have one.
#[test]
fn no_call_on_a_file_waits_for_one_that_is_queued_behind_it() {
    let write_and_sync = async || {
        let dir = TempDir::new();
        let path = dir.path().join("f");
        let mut file = File::create(&path).await.unwrap();
        for _ in 0..20 {
            let sync = file.sync_all();
            let (synced, wrote) = leakfree::join!(sync, file.write_all(b"x"));
            assert!(synced.is_ok() && wrote.is_ok());
        }
        assert_eq!(file.metadata().await.unwrap().len(), 20, "it waits for what was written before");
        let mut text = String::new();
        file.rewind().await.unwrap();
        assert!(file.read_to_string(&mut text).await.is_err(), "it is not open for reading");
        file.seek(SeekFrom::End(-1)).await.unwrap();
        file.write_all(b"yz").await.unwrap();
        file.set_len(20).await.unwrap();
        assert!(fs::read_to_string(&path).await.unwrap().ends_with("xy"));
    };
    let runtime = Builder::new().workers(1).blocking_threads_max(1).build().unwrap();
    runtime.block_on(write_and_sync());
    assert!(runtime.shutdown().is_clean());
    for seed in 0..20 {
        let runtime = Builder::new().workers(2).seed(seed).build().unwrap();
        runtime.block_on(write_and_sync());
        assert!(runtime.shutdown().is_clean(), "{seed}");
    }
}

#[test]
fn a_file_outside_a_runtime_is_an_error() {
    let error = ready(fs::read("/etc/hostname")).unwrap_err();
    assert!(error.to_string().contains("outside a running leakfree runtime"), "{error}");
}
