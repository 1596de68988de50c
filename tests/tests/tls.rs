//! TLS over our streams: rustls, through tokio's I/O traits.

use std::future::IntoFuture;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use leakfree::http::{Listener, serve};
use leakfree::net::{TcpListener, TcpStream};
use leakfree::scope;
use leakfree::sync::oneshot;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Of "localhost", signed by itself, valid for 100 years; `tls/README.md` says how both were made.
const CERTIFICATE: &[u8] = include_bytes!("tls/cert.der");
const KEY: &[u8] = include_bytes!("tls/key.der");

fn acceptor() -> TlsAcceptor {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(KEY));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(CERTIFICATE)], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Of a client that trusts the certificate, or nobody.
fn connector(trusts: bool) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    if trusts {
        roots.add(CertificateDer::from(CERTIFICATE)).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn connect(addr: SocketAddr, trusts: bool) -> io::Result<client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await.unwrap();
    connector(trusts).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// Sends back what comes until the client says that it has no more, and then says so too.
async fn echo(mut stream: server::TlsStream<TcpStream>) -> io::Result<()> {
    let mut buf = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buf).await? {
            0 => return stream.shutdown().await,
            n => {
                stream.write_all(&buf[..n]).await?;
                stream.flush().await?;
            }
        }
    }
}

/// An echo server for as long as the body runs; how many handshakes failed is counted.
async fn serving(failed: &Arc<AtomicUsize>, body: impl AsyncFnOnce(SocketAddr)) {
    scope(async |s| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (acceptor, failed, connections) = (acceptor(), Arc::clone(failed), s.clone());
        s.spawn_daemon(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, failed) = (acceptor.clone(), Arc::clone(&failed));
                connections.spawn(async move {
                    match acceptor.accept(stream).await {
                        Ok(stream) => echo(stream).await.unwrap(),
                        Err(_) => _ = failed.fetch_add(1, Ordering::Relaxed),
                    }
                });
            }
        });
        body(addr).await;
    })
    .await;
}

/// One message there and back, and the end of both directions.
async fn greet(addr: SocketAddr) {
    let mut stream = connect(addr, true).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
    stream.shutdown().await.unwrap();
    // A `close_notify`: without one this is an error.
    assert_eq!(stream.read(&mut answer).await.unwrap(), 0);
}

#[leakfree::test]
async fn what_is_sent_comes_back_and_both_ends_close() {
    let failed = Arc::default();
    serving(&failed, greet).await;
    assert_eq!(failed.load(Ordering::Relaxed), 0);
}

#[leakfree::test(workers = 2)]
async fn a_megabyte_goes_both_ways_at_once() {
    serving(&Arc::default(), async |addr| {
        let sent: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
        let (mut reader, mut writer) = tokio::io::split(connect(addr, true).await.unwrap());
        scope(async |s| {
            let data = sent.clone();
            s.spawn(async move {
                writer.write_all(&data).await.unwrap();
                writer.shutdown().await.unwrap();
            });
            let mut received = Vec::new();
            reader.read_to_end(&mut received).await.unwrap();
            assert!(received == sent, "{} bytes came back, or other ones", received.len());
        })
        .await;
    })
    .await;
}

#[leakfree::test]
async fn a_client_without_trust_gets_an_error_and_the_server_goes_on() {
    let failed = Arc::default();
    serving(&failed, async |addr| {
        let error = connect(addr, false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let cause = error.get_ref().unwrap().downcast_ref::<rustls::Error>();
        assert!(matches!(cause, Some(rustls::Error::InvalidCertificate(_))), "{error}");
        greet(addr).await;
    })
    .await;
    assert_eq!(failed.load(Ordering::Relaxed), 1);
}

#[leakfree::test]
async fn a_client_that_goes_in_the_handshake_ends_the_connection_only() {
    let failed = Arc::default();
    serving(&failed, async |addr| {
        drop(TcpStream::connect(addr).await.unwrap());
        greet(addr).await;
    })
    .await;
    assert_eq!(failed.load(Ordering::Relaxed), 1);
}

/// One handshake at a time, which is enough here.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TokioIo<server::TlsStream<TcpStream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> io::Result<(Self::Io, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((TokioIo::new(self.acceptor.accept(stream).await?), peer))
    }
}

#[leakfree::test]
async fn http_is_served_over_tls() {
    scope(async |s| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Router::new().route("/", get(|| async { "behind TLS" }));
        let server = serve(Tls { listener, acceptor: acceptor() }, app)
            .with_graceful_shutdown(async move { _ = stopped.await });
        let server = s.spawn(server.into_future());

        let io = TokioIo::new(connect(addr, true).await.unwrap());
        let (mut client, connection) = http1::handshake(io).await.unwrap();
        s.spawn_daemon(connection);
        let request = Request::get("/").header("host", "localhost").body(Body::empty()).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "behind TLS");

        drop(stop);
        server.await.unwrap().unwrap();
    })
    .await;
}
