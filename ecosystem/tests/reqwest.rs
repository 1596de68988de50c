//! reqwest, unchanged, against our own server.

use std::future::IntoFuture;
use std::time::Duration;

use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt;
use leakfree::net::TcpListener;
use leakfree::sync::oneshot;
use leakfree::{http::serve, scope};

#[leakfree::test(workers = 2)]
async fn reqwest_talks_to_our_server_from_many_tasks() {
    let app = Router::new()
        .route("/", get(async || "fine"))
        .route("/slow", get(std::future::pending::<&'static str>))
        .route("/double", post(async |Json(n): Json<u64>| Json(2 * n)));
    scope(async |s| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = serve(listener, app).with_graceful_shutdown(async move { _ = stopped.await });
        let server = s.spawn(server.grace(Duration::from_millis(100)).into_future());
        for http2 in [false, true] {
            let builder = reqwest::Client::builder().no_proxy();
            let builder = if http2 { builder.http2_prior_knowledge() } else { builder };
            let client = builder.build().unwrap();
            let mut answers = leakfree::task::JoinSet::new();
            for n in 0..50 {
                let (client, url) = (client.clone(), url.clone());
                answers.spawn(async move {
                    let answer = client.post(format!("{url}/double")).json(&n).send().await.unwrap();
                    assert_eq!(answer.json::<u64>().await.unwrap(), 2 * n);
                });
            }
            while let Some(answer) = answers.join_next().await {
                answer.unwrap();
            }
            let mut stream = client.get(&url).send().await.unwrap().bytes_stream();
            assert_eq!(&stream.next().await.unwrap().unwrap()[..], b"fine");
            let late = client.get(format!("{url}/slow")).timeout(Duration::from_millis(50)).send().await;
            assert!(late.unwrap_err().is_timeout());
        }
        drop(stop);
        server.await.unwrap().unwrap();
    })
    .await;
}
