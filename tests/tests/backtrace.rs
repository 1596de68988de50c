//! `LEAKFREE_BACKTRACE=1` shows where a task waits inside futures that leakfree knows nothing of.

use std::process::Command;

use leakfree::runtime::Builder;

const CHILD: &str = "LEAKFREE_TEST_BACKTRACE_CHILD";

async fn wait_for_reply(reply: futures::channel::oneshot::Receiver<()>) {
    let _ = reply.await;
}

async fn handle_request(reply: futures::channel::oneshot::Receiver<()>) {
    wait_for_reply(reply).await;
}

/// Prints the report of a task that waits two functions deep in a foreign future.
fn child() {
    let runtime = Builder::new().workers(1).grace(std::time::Duration::ZERO).build().unwrap();
    let (keep, reply) = futures::channel::oneshot::channel();
    runtime.handle().spawn(handle_request(reply));
    eprint!("{}", runtime.shutdown());
    drop(keep);
}

fn report(variable: Option<&str>) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_stack_leads_to_the_foreign_wait", "--nocapture"]).env(CHILD, "1");
    command.env_remove("LEAKFREE_BACKTRACE");
    if let Some(value) = variable {
        command.env("LEAKFREE_BACKTRACE", value);
    }
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_stack_leads_to_the_foreign_wait() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let report = self::report(Some("1"));
    let stack: Vec<&str> = report
        .lines()
        .skip_while(|line| *line != "     left a waker behind in")
        .skip(1)
        .map(str::trim)
        .collect();
    let place = |name: &str| stack.iter().position(|line| line.starts_with(name));
    let inner = place("backtrace::wait_for_reply::{{closure}} at ./tests/backtrace.rs:10:");
    let outer = place("backtrace::handle_request::{{closure}} at ./tests/backtrace.rs:14:");
    assert!(inner.is_some() && inner < outer, "{report}");
    assert!(stack[0].contains("futures_channel::oneshot"), "the future that waits comes first: {report}");
    assert!(!report.contains("task::cell"), "{report}");

    for off in [None, Some("0"), Some("")] {
        let report = self::report(off);
        assert!(
            report.contains("1 leaked task") && !report.contains("left a waker behind"),
            "{off:?}: {report}"
        );
    }
}
