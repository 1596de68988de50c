//! WebSockets over our streams, through `futures_io`'s traits.

use std::net::SocketAddr;

use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketStream, accept_async, client_async};
use futures::StreamExt;
use leakfree::net::{TcpListener, TcpStream};
use leakfree::scope;
use leakfree::sync::mpsc;

/// How a connection of the server ended.
type End = Result<(), Error>;

/// Sends messages back until the client closes or an error comes.
async fn echo(stream: TcpStream) -> End {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

/// An echo server for as long as the body runs, which is told how connections end.
async fn serving(body: impl AsyncFnOnce(SocketAddr, &mut mpsc::Receiver<End>)) {
    scope(async |s| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (ends, mut ended) = mpsc::channel(8);
        let connections = s.clone();
        s.spawn_daemon(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let ends = ends.clone();
                connections.spawn(async move { ends.send(echo(stream).await).await.unwrap() });
            }
        });
        body(addr, &mut ended).await;
    })
    .await;
}

async fn connect(addr: SocketAddr) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(addr).await.unwrap();
    client_async(format!("ws://{addr}/"), stream).await.unwrap().0
}

/// The client's half of the close handshake, to the end of the stream.
async fn close(mut socket: WebSocketStream<TcpStream>, ended: &mut mpsc::Receiver<End>) {
    let frame = CloseFrame { code: CloseCode::Normal, reason: "enough".into() };
    socket.close(Some(frame.clone())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(Some(frame)));
    assert!(socket.next().await.is_none());
    ended.recv().await.unwrap().unwrap();
}

#[leakfree::test]
async fn text_and_binary_messages_come_back() {
    serving(async |addr, ended| {
        let mut socket = connect(addr).await;
        let bytes: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        for message in [Message::text("hello"), Message::text(""), Message::binary(bytes)] {
            socket.send(message.clone()).await.unwrap();
            assert!(socket.next().await.unwrap().unwrap() == message);
        }
        close(socket, ended).await;
    })
    .await;
}

#[leakfree::test]
async fn a_ping_is_answered() {
    serving(async |addr, ended| {
        let mut socket = connect(addr).await;
        socket.send(Message::Ping("are you there".into())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("are you there".into()));
        close(socket, ended).await;
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn many_clients_at_once() {
    serving(async |addr, ended| {
        scope(async |s| {
            for client in 0..8 {
                s.spawn(async move {
                    let mut socket = connect(addr).await;
                    for i in 0..50 {
                        let message = Message::text(format!("{client}: {i}"));
                        socket.send(message.clone()).await.unwrap();
                        assert_eq!(socket.next().await.unwrap().unwrap(), message);
                    }
                    socket.close(None).await.unwrap();
                    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(None));
                });
            }
        })
        .await;
        for _ in 0..8 {
            ended.recv().await.unwrap().unwrap();
        }
    })
    .await;
}

#[leakfree::test]
async fn a_client_that_vanishes_ends_its_connection_only() {
    serving(async |addr, ended| {
        let mut other = connect(addr).await;
        let mut socket = connect(addr).await;
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
        // No close frame: the stream's end is all the server sees.
        drop(socket);
        let end = ended.recv().await.unwrap();
        assert!(matches!(end, Err(Error::Protocol(_) | Error::Io(_))), "{end:?}");

        other.send(Message::text("still there")).await.unwrap();
        assert_eq!(other.next().await.unwrap().unwrap(), Message::text("still there"));
        close(other, ended).await;
    })
    .await;
}

#[leakfree::test]
async fn a_server_that_vanishes_is_an_error_of_the_client() {
    scope(async |s| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        s.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            drop(accept_async(stream).await.unwrap());
        });
        let mut socket = connect(addr).await;
        let end = socket.next().await.unwrap();
        assert!(matches!(end, Err(Error::Protocol(_) | Error::Io(_))), "{end:?}");
    })
    .await;
}
