//! Readers and writers, pipes in memory, copying, the standard streams, and the traits of other crates.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use leakfree::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, copy,
    copy_bidirectional, copy_buf, duplex,
};
use leakfree::net::{TcpListener, TcpStream, UnixStream};
use leakfree_tests::{again, parked, polled_once};

#[leakfree::test(workers = 2)]
async fn a_pipe_hands_over_what_fits_and_waits_for_the_rest() {
    let (mut a, mut b) = duplex(4);
    assert_eq!(a.write(b"abcdef").await.unwrap(), 4);
    assert!(polled_once(a.write(b"x")).await.is_pending());
    let mut buf = [0; 3];
    b.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"abc");
    assert_eq!(a.write(b"ef").await.unwrap(), 2, "what was dropped at its suspension has written nothing");
    b.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"def");
    assert!(polled_once(b.read(&mut buf)).await.is_pending());
    // The other way is apart.
    b.write_all(b"back").await.unwrap();
    assert_eq!(a.read(&mut buf).await.unwrap(), 3);
}

#[leakfree::test(workers = 1)]
async fn a_pipe_that_is_always_ready_lets_others_run() {
    let busy = leakfree::spawn(async {
        let other = leakfree::spawn(async {});
        let (mut a, mut b) = duplex(1);
        for _ in 0..1000 {
            a.write_all(b"x").await.unwrap();
            b.read_exact(&mut [0]).await.unwrap();
            if other.is_finished() {
                return true;
            }
        }
        false
    });
    assert!(busy.await.unwrap());
}

#[leakfree::test(workers = 2)]
async fn a_pipes_ends_hear_of_each_other() {
    let (mut a, mut b) = duplex(16);
    a.write_all(b"last").await.unwrap();
    a.shutdown().await.unwrap();
    assert_eq!(a.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut text = String::new();
    b.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "last");
    b.write_all(b"half open").await.unwrap();
    drop(b);
    let mut buf = Vec::new();
    a.read_to_end(&mut buf).await.unwrap();
    assert_eq!(buf, b"half open", "what was written before the end can be read");

    let (mut a, b) = duplex(1);
    a.write_all(b"x").await.unwrap();
    let scope = leakfree::scope::current();
    let writer = scope.task().name("writer").spawn(async move { a.write_all(b"y").await });
    parked("writer").await;
    drop(b);
    assert_eq!(writer.await.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[leakfree::test(workers = 2)]
async fn lines_are_kept_when_a_wait_for_one_is_dropped() {
    let (mut a, b) = duplex(64);
    let mut lines = BufReader::new(b).lines();
    a.write_all(b"first\r\nsec").await.unwrap();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("first"));
    assert!(polled_once(lines.next_line()).await.is_pending());
    a.write_all(b"ond\nlast").await.unwrap();
    drop(a);
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("second"));
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("last"));
    assert_eq!(lines.next_line().await.unwrap(), None);
}

#[leakfree::test(workers = 2)]
async fn buffered_reading_and_writing() {
    let (a, b) = duplex(64);
    let mut writer = BufWriter::new(a);
    writer.write_all(b"key=value;rest").await.unwrap();
    let mut reader = BufReader::new(b);
    assert!(polled_once(reader.fill_buf()).await.is_pending(), "it is in the buffer still");
    writer.flush().await.unwrap();
    assert_eq!(reader.read_u8().await.unwrap(), b'k');
    let mut field = Vec::new();
    reader.read_until(b';', &mut field).await.unwrap();
    assert_eq!(field, b"ey=value;");
    writer.shutdown().await.unwrap();
    let mut rest = String::new();
    reader.take(3).read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "res");
}

#[leakfree::test(workers = 2)]
async fn copy_takes_all_and_flushes() {
    let (mut a, mut b) = duplex(7);
    let copying = leakfree::spawn(async move {
        let mut source: &[u8] = &[9; 1000];
        copy(&mut source, &mut a).await
    });
    let mut got = Vec::new();
    b.read_to_end(&mut got).await.unwrap();
    assert_eq!((copying.await.unwrap().unwrap(), got), (1000, vec![9; 1000]));
}

#[leakfree::test(workers = 2)]
async fn copy_bidirectional_is_a_proxy() {
    let (mut client, mut near) = duplex(5);
    let (mut far, mut server) = duplex(3);
    let proxy = leakfree::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
    client.write_all(b"question").await.unwrap();
    let mut buf = [0; 8];
    server.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"question");
    // The end of one way is handed on, while the other goes on.
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut buf).await.unwrap(), 0);
    server.write_all(b"answer!").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer!");
    assert_eq!(proxy.await.unwrap().unwrap(), (8, 7));
}

#[leakfree::test(workers = 2)]
async fn copy_bidirectional_ends_with_an_error() {
    let (mut client, mut near) = duplex(5);
    let (mut far, server) = duplex(3);
    let proxy = leakfree::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
    drop(server);
    // The server's end is handed on as an end; only then does the client's writing fail.
    let mut buf = [0; 1];
    assert_eq!(client.read(&mut buf).await.unwrap(), 0);
    client.write_all(b"x").await.unwrap();
    assert_eq!(proxy.await.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[leakfree::test(workers = 2)]
async fn split_gives_halves_to_two_tasks() {
    let (a, mut b) = duplex(1);
    let (mut read, mut write) = leakfree::io::split(a);
    let writer = leakfree::spawn(async move { write.write_all(b"ping").await });
    let mut buf = [0; 4];
    b.read_exact(&mut buf).await.unwrap();
    writer.await.unwrap().unwrap();
    b.write_all(b"x").await.unwrap();
    assert_eq!(read.read(&mut buf).await.unwrap(), 1);
}

/// What a library that asks for tokio's traits does with our streams.
async fn echo_by_tokio<S>(stream: S) -> std::io::Result<u64>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    use tokio::io::AsyncWriteExt as _;
    let (mut read, mut write) = tokio::io::split(stream);
    let n = tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await?;
    Ok(n)
}

#[leakfree::test(workers = 2)]
async fn our_streams_have_tokios_traits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let echo = leakfree::spawn(echo_by_tokio(server));
    let (mut read, mut write) = client.into_split();
    tokio::io::AsyncWriteExt::write_all(&mut write, b"tcp").await.unwrap();
    drop(write);
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut read, &mut text).await.unwrap();
    assert_eq!((text.as_str(), echo.await.unwrap().unwrap()), ("tcp", 3));

    let (a, b) = UnixStream::pair().unwrap();
    let echo = leakfree::spawn(echo_by_tokio(b));
    a.write_all(b"unix").await.unwrap();
    a.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    { a }.read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), echo.await.unwrap().unwrap()), ("unix", 4));

    let (mut a, b) = duplex(2);
    let echo = leakfree::spawn(echo_by_tokio(b));
    a.write_all(b"mem").await.unwrap();
    a.shutdown().await.unwrap();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut a, &mut text).await.unwrap();
    assert_eq!((text.as_str(), echo.await.unwrap().unwrap()), ("mem", 3));
}

#[leakfree::test(workers = 2)]
async fn our_unix_streams_serve_http() {
    let (client, server) = UnixStream::pair().unwrap();
    let serve = leakfree::spawn(async move {
        let service = hyper::service::service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
            let body = http_body_util::Full::new(bytes::Bytes::from(request.uri().path().to_owned()));
            Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
        });
        hyper::server::conn::http1::Builder::new().serve_connection(server, service).await
    });
    let (mut send, connection) = hyper::client::conn::http1::handshake(client).await.unwrap();
    let connection = leakfree::spawn(connection);
    let request = hyper::Request::get("/path").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let response = send.send_request(request).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert_eq!(body, "/path");
    drop(send);
    connection.await.unwrap().unwrap();
    serve.await.unwrap().unwrap();
}

const IN_CHILD: &str = "LEAKFREE_TEST_STDIO";

#[test]
fn the_standard_streams_of_a_process() {
    if std::env::var_os(IN_CHILD).is_some() {
        return in_child();
    }
    use std::io::{Read, Write};
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_standard_streams_of_a_process", "--nocapture"])
        .env(IN_CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
    // It says so when a read of nothing has been given up: only then does it get something.
    let mut ready = [0; 6];
    stderr.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
    stdin.write_all(b"one\ntwo\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("got one\ngot two\n"), "{said}");
}

fn in_child() {
    let runtime = leakfree_tests::runtime(2);
    runtime.block_on(async {
        let mut lines = BufReader::new(leakfree::io::stdin()).lines();
        let reading = leakfree::scope::current().task().name("stdin").spawn(async move {
            let mut buf = [0; 1];
            leakfree::io::stdin().read(&mut buf).await
        });
        let task = parked("stdin").await;
        assert_eq!(task.waits[0].reason, leakfree::report::snapshot::WaitReason::StdinRead);
        assert_eq!(task.waits[0].reason.name(), "stdin read");
        reading.abort();
        let _ = reading.await;
        let mut stderr = leakfree::io::stderr();
        stderr.write_all(b"ready\n").await.unwrap();
        stderr.flush().await.unwrap();
        let mut stdout = leakfree::io::stdout();
        while let Some(line) = lines.next_line().await.unwrap() {
            stdout.write_all(format!("got {line}\n").as_bytes()).await.unwrap();
        }
        stdout.flush().await.unwrap();
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_read_of_standard_input_holds_no_shutdown_up() {
    if !again("a_read_of_standard_input_holds_no_shutdown_up") {
        return;
    }
    // A pipe that nobody writes to, in the place of standard input.
    let (read, _write) = std::io::pipe().unwrap();
    rustix::stdio::dup2_stdin(&read).unwrap();
    let runtime = leakfree_tests::runtime(1);
    runtime.block_on(async {
        let wait = leakfree::time::timeout(std::time::Duration::from_millis(1), async {
            leakfree::io::stdin().read(&mut [0; 1]).await
        });
        assert!(wait.await.is_err());
    });
    let report = runtime.shutdown();
    assert!(report.is_clean(), "{report}");
}

/// Takes so many bytes, and then none at all; keeps what it took until it is flushed.
struct Meagre {
    room: usize,
    kept: usize,
    flushed: usize,
}

impl AsyncWrite for Meagre {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let n = buf.len().min(self.room);
        self.room -= n;
        self.kept += n;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.flushed += std::mem::take(&mut self.kept);
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// Fails once its bytes are read.
struct Broken(&'static [u8]);

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.0.is_empty() {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

#[leakfree::test(workers = 2)]
async fn copies_flush_what_has_come_while_they_wait_and_at_the_end() {
    let (mut source, from) = duplex(64);
    let mut from = BufReader::new(from);
    let mut to = Meagre { room: 100, kept: 0, flushed: 0 };
    source.write_all(b"first").await.unwrap();
    assert!(polled_once(copy_buf(&mut from, &mut to)).await.is_pending());
    assert_eq!((to.flushed, to.kept), (5, 0), "it waits for more, and what came has arrived");
    source.write_all(b"second").await.unwrap();
    drop(source);
    assert_eq!(copy_buf(&mut from, &mut to).await.unwrap(), 6);
    assert_eq!((to.flushed, to.kept), (11, 0));
    let mut ends: &[u8] = b"whole";
    assert_eq!(copy(&mut ends, &mut to).await.unwrap(), 5);
    assert_eq!((to.flushed, to.kept), (16, 0));
}

#[leakfree::test(workers = 2)]
async fn copies_end_with_the_error_of_either_side() {
    let full = || Meagre { room: 3, kept: 0, flushed: 0 };
    let source: &[u8] = b"four";
    assert_eq!(copy(&mut { source }, &mut full()).await.unwrap_err().kind(), ErrorKind::WriteZero);
    assert_eq!(copy_buf(&mut { source }, &mut full()).await.unwrap_err().kind(), ErrorKind::WriteZero);
    let mut sink = Meagre { room: 100, kept: 0, flushed: 0 };
    assert_eq!(copy(&mut Broken(b"ab"), &mut sink).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(sink.kept, 2, "what came before it was written");
    let mut broken = BufReader::new(Broken(b"ab"));
    assert_eq!(copy_buf(&mut broken, &mut sink).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[leakfree::test(workers = 2)]
async fn readers_one_after_the_other_and_what_is_too_short() {
    let mut both = AsyncReadExt::chain(&b"one "[..], &b"two"[..]);
    let mut text = String::new();
    both.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "one two");
    assert_eq!(both.read_u8().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let mut lines = &b"skip\nline\n"[..];
    AsyncBufReadExt::consume(&mut lines, 5);
    text.clear();
    assert_eq!(lines.read_line(&mut text).await.unwrap(), 5);
    assert_eq!(text, "line\n");
    let (mut near, mut far) = duplex(8);
    assert_eq!(far.read(&mut []).await.unwrap(), 0, "no room, nothing read, no wait");
    // No buffer with room, either.
    assert_eq!(far.read_vectored(&mut []).await.unwrap(), 0);
    near.write_all(b"x").await.unwrap();
    let mut byte = [0];
    assert_eq!(
        far.read_vectored(&mut [IoSliceMut::new(&mut []), IoSliceMut::new(&mut byte)]).await.unwrap(),
        1
    );
    assert_eq!(&byte, b"x");
}

/// What hyper and tokio hand over may hold nothing yet: what was read is there, in its place, and no more counts as filled.
async fn reads_ping_and_pong(mut from: impl Unpin + tokio::io::AsyncRead + hyper::rt::Read) {
    let mut memory = [const { MaybeUninit::uninit() }; 6];
    let mut buf = tokio::io::ReadBuf::uninit(&mut memory);
    buf.put_slice(b"> ");
    while buf.remaining() > 0 {
        let before = buf.remaining();
        poll_fn(|cx| tokio::io::AsyncRead::poll_read(Pin::new(&mut from), cx, &mut buf)).await.unwrap();
        assert!(buf.remaining() < before, "the end came early: {:?}", buf.filled());
    }
    assert_eq!(buf.filled(), b"> ping");

    let mut memory = [const { MaybeUninit::uninit() }; 64];
    let mut buf = hyper::rt::ReadBuf::uninit(&mut memory);
    loop {
        let before = buf.filled().len();
        poll_fn(|cx| hyper::rt::Read::poll_read(Pin::new(&mut from), cx, buf.unfilled())).await.unwrap();
        if buf.filled().len() == before {
            break;
        }
    }
    assert_eq!(buf.filled(), b"pong", "up to the end, which fills nothing");
}

#[leakfree::test]
async fn memory_that_holds_nothing_is_read_into() {
    let (ours, mut theirs) = duplex(64);
    theirs.write_all(b"pingpong").await.unwrap();
    drop(theirs);
    reads_ping_and_pong(ours).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    let read = leakfree::spawn(reads_ping_and_pong(ours));
    theirs.write_all(b"pingpong").await.unwrap();
    drop(theirs);
    read.await.unwrap();

    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"pingpong").await.unwrap();
    drop(theirs);
    reads_ping_and_pong(ours).await;
}
