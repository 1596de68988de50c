//! redis with tokio-comp, unchanged. The server is a task of ours that speaks enough of its protocol: a fresh machine has none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use leakfree::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use leakfree::net::{TcpListener, TcpStream};
use leakfree::{Scope, scope};
use redis::AsyncCommands;

type Store = Arc<Mutex<HashMap<String, String>>>;

/// One request: an array of strings. `None` at the end of the connection.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let number = async |stream: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        let n = stream.read_line(&mut line).await.unwrap();
        (n > 0).then(|| line[1..].trim_end().parse::<usize>().unwrap())
    };
    let mut words = Vec::new();
    for _ in 0..number(stream).await? {
        let mut bytes = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes.truncate(bytes.len() - 2);
        words.push(String::from_utf8(bytes).unwrap());
    }
    Some(words)
}

async fn serve(stream: TcpStream, store: Store) {
    let mut stream = BufReader::new(stream);
    while let Some(words) = request(&mut stream).await {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let answer = match words[..] {
            ["PING"] => "+PONG\r\n".to_owned(),
            ["SET", key, value] => {
                store.lock().unwrap().insert(key.to_owned(), value.to_owned());
                "+OK\r\n".to_owned()
            }
            ["GET", key] => match store.lock().unwrap().get(key) {
                Some(value) => format!("${}\r\n{value}\r\n", value.len()),
                None => "$-1\r\n".to_owned(),
            },
            ["INCRBY", key, by] => {
                let mut store = store.lock().unwrap();
                let n = store.get(key).map_or(0, |n| n.parse::<i64>().unwrap()) + by.parse::<i64>().unwrap();
                store.insert(key.to_owned(), n.to_string());
                format!(":{n}\r\n")
            }
            ["CLIENT", ..] => "+OK\r\n".to_owned(),
            _ => "-ERR unknown\r\n".to_owned(),
        };
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    }
}

#[leakfree::test(workers = 2)]
async fn a_multiplexed_connection_of_redis_serves_many_tasks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    scope(async |s: Scope| {
        let store = Store::default();
        let accepts = s.clone();
        s.spawn_daemon(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(accepts.spawn(serve(stream, Arc::clone(&store))));
            }
        });
        let client = redis::Client::open(format!("redis://{addr}")).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        scope(async |s| {
            for n in 0..100 {
                let mut connection = connection.clone();
                s.spawn(async move {
                    let key = format!("key {n}");
                    let _: () = connection.set(&key, n).await.unwrap();
                    assert_eq!(connection.get::<_, i32>(&key).await.unwrap(), n);
                    let _: i64 = connection.incr("total", n).await.unwrap();
                });
            }
        })
        .await;
        let mut connection = connection;
        assert_eq!(connection.get::<_, i64>("total").await.unwrap(), 4950);
        assert_eq!(connection.get::<_, Option<String>>("nothing").await.unwrap(), None);
        let refused = redis::cmd("NONSENSE").query_async::<()>(&mut connection).await;
        assert!(refused.unwrap_err().to_string().contains("unknown"));
    })
    .await;
}
