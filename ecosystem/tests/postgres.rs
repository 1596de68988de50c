//! tokio-postgres, unchanged, with a real server where the machine has one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use leakfree::scope;
use tokio_postgres::{AsyncMessage, Config, NoTls};

/// A server of its own in a directory of its own, behind a Unix socket there.
struct Server {
    process: Child,
    dir: PathBuf,
}

/// Where the programs of the server are.
fn programs() -> Option<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let installed = installed.map(|version| version.unwrap().path().join("bin"));
    let on_path = std::env::var("PATH").unwrap_or_default();
    let mut all = installed.chain(std::env::split_paths(&on_path).collect::<Vec<_>>());
    all.find(|dir| dir.join("postgres").exists() && dir.join("initdb").exists())
}

/// The server refuses to run as root: then as nobody.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        use std::os::unix::process::CommandExt;
        if std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
            command.uid(65534).gid(65534).current_dir("/");
        }
    }
    command
}

impl Server {
    fn start() -> Option<Server> {
        let programs = programs()?;
        let dir = std::env::temp_dir().join(format!("leakfree-postgres-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let data = dir.join("data");
        let made = command(&programs.join("initdb"))
            .args(["--username=leakfree", "--auth=trust", "--no-sync", "-D"])
            .arg(&data)
            .status()
            .unwrap();
        assert!(made.success());
        let process = command(&programs.join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-D"])
            .arg(&data)
            .arg("-k")
            .arg(&dir)
            .spawn()
            .unwrap();
        Some(Server { process, dir })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[leakfree::test(workers = 2)]
async fn queries_transactions_and_notifications() {
    let Some(server) = Server::start() else {
        // Not by `eprintln!`, which a test that passes keeps to itself.
        let mut all = std::io::stderr();
        writeln!(all, "SKIPPED: no PostgreSQL server on this machine: tokio-postgres was not tried").unwrap();
        return;
    };
    let mut config = Config::new();
    config.host_path(&server.dir).user("leakfree").dbname("postgres");
    let (mut client, mut connection) = loop {
        match config.connect(NoTls).await {
            Ok(connected) => break connected,
            // It is still on its way.
            Err(_) => leakfree::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let (tell, mut told) = leakfree::sync::mpsc::unbounded_channel();
    scope(async |s| {
        s.spawn(async move {
            while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message.unwrap() {
                    let _ = tell.send(notification.payload().to_owned());
                }
            }
        });
        client.batch_execute("create table numbers (n bigint); listen news").await.unwrap();
        let transaction = client.transaction().await.unwrap();
        for n in 0..50_i64 {
            transaction.execute("insert into numbers values ($1)", &[&n]).await.unwrap();
        }
        transaction.commit().await.unwrap();
        // Dropped half-way: rolled back.
        let transaction = client.transaction().await.unwrap();
        transaction.execute("insert into numbers values (1000000)", &[]).await.unwrap();
        drop(transaction);
        let sum = client.query_one("select sum(n)::bigint from numbers", &[]).await.unwrap();
        assert_eq!(sum.get::<_, i64>(0), 1225);
        // Many at a time on the one connection.
        let both = (0..100_i64).map(async |n| {
            let row = client.query_one("select $1::bigint * 2", &[&n]).await.unwrap();
            row.get::<_, i64>(0)
        });
        let doubled = futures::future::join_all(both).await;
        assert!(doubled.into_iter().eq((0..100).map(|n| 2 * n)));
        client.batch_execute("notify news, 'hello'").await.unwrap();
        assert_eq!(told.recv().await.as_deref(), Some("hello"));
        // With the client its connection ends.
        drop(client);
    })
    .await;
}
