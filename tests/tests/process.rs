//! Child processes: their ends, their pipes, and that none is left behind.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use leakfree::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use leakfree::process::{Child, Command, Stdio};
use leakfree_tests::{parked, polled_once, until};

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Where the kernel shows the process, zombie or not.
fn proc_of(child: &Child) -> PathBuf {
    format!("/proc/{}", child.id().expect("it has not been reaped")).into()
}

#[leakfree::test(workers = 2)]
async fn status_and_output() {
    assert_eq!(sh("exit 7").status().await.unwrap().code(), Some(7));
    let output = sh("echo out; echo err >&2; exit 1").output().await.unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(output.status.code(), Some(1));
    let large = sh("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2").output().await.unwrap();
    assert_eq!((large.stdout.len(), large.stderr.len()), (1_000_000, 1_000_000));
    let error = Command::new("/no/such/program").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let output = sh("echo $A; pwd").env_clear().env("A", "b").current_dir("/").output().await.unwrap();
    assert_eq!(output.stdout, b"b\n/\n");
}

#[leakfree::test(workers = 2)]
async fn a_conversation_through_pipes() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = BufReader::new(stdout).lines();
    for line in ["one", "two"] {
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(line));
    }
    assert!(polled_once(lines.next_line()).await.is_pending());
    assert_eq!(child.try_wait().unwrap(), None);
    stdin.shutdown().await.unwrap();
    assert_eq!(stdin.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(lines.next_line().await.unwrap(), None);
    assert!(child.wait().await.unwrap().success());
    assert_eq!(child.id(), None);
    assert!(child.wait().await.unwrap().success(), "told again");
    assert_eq!(child.kill().await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[leakfree::test(workers = 2)]
async fn waiting_closes_the_input_and_may_be_given_up() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    assert!(polled_once(child.wait()).await.is_pending());
    stdin.write_all(b"still there").await.unwrap();
    child.stdin = Some(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.stdout, b"still there");
}

#[leakfree::test(workers = 2)]
async fn one_process_feeds_another() {
    let mut first = sh("echo hello").stdout(Stdio::piped()).spawn().unwrap();
    let pipe: Stdio = first.stdout.take().unwrap().try_into().unwrap();
    let output = Command::new("cat").stdin(pipe).output().await.unwrap();
    assert_eq!(output.stdout, b"hello\n");
    assert!(first.wait().await.unwrap().success());
}

#[leakfree::test(workers = 2)]
async fn a_killed_child_says_so() {
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let proc = proc_of(&child);
    child.kill().await.unwrap();
    assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    assert!(!proc.exists());
}

#[leakfree::test(workers = 2)]
async fn who_has_ended_and_was_not_waited_for_may_be_killed() {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let mut child = Command::new("true").spawn().unwrap();
    let pid = Pid::from_raw(child.id().unwrap() as i32).unwrap();
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    child.kill().await.unwrap();
    assert!(child.wait().await.unwrap().success());
}

#[leakfree::test(workers = 2)]
async fn a_dropped_child_is_reaped() {
    // With `kill_on_drop` at once, when it is dropped with the task that has it, too.
    let scope = leakfree::scope::current();
    let (tell, told) = leakfree::sync::oneshot::channel();
    let task = scope.task().name("owner").spawn(async move {
        let mut child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn().unwrap();
        tell.send(proc_of(&child)).unwrap();
        child.wait().await
    });
    let proc = told.await.unwrap();
    parked("owner").await;
    assert!(proc.exists());
    task.abort();
    until(|| !proc.exists()).await;
    // Without, when it ends by itself.
    let mut child = sh("read line").stdin(Stdio::piped()).spawn().unwrap();
    let (stdin, proc) = (child.stdin.take(), proc_of(&child));
    drop(child);
    assert!(proc.exists());
    drop(stdin);
    until(|| !proc.exists()).await;
    // One that has ended before.
    let mut child = sh("exit 0").stdout(Stdio::piped()).spawn().unwrap();
    let proc = proc_of(&child);
    child.stdout.take().unwrap().read_to_end(&mut Vec::new()).await.unwrap();
    drop(child);
    until(|| !proc.exists()).await;
}

#[test]
fn a_child_that_outlives_its_runtime_is_reaped_later() {
    let runtime = leakfree_tests::runtime(1);
    let (stdin, proc, child) = runtime.block_on(async {
        let mut child = sh("read line").stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap().into_owned_fd().unwrap();
        (stdin, proc_of(&child), child)
    });
    assert!(runtime.shutdown().is_clean());
    drop(child);
    assert!(proc.exists());
    drop(stdin);
    // The next one that is started looks after it.
    leakfree_tests::runtime(1).block_on(async {
        while proc.exists() {
            assert!(sh("exit 0").status().await.unwrap().success());
        }
    });
}

#[leakfree::test(workers = 2)]
async fn a_commands_options_reach_the_child() {
    let mut command = sh("echo $A$B$C; id -u; id -g; echo err >&2; ps -o pgid= -p $$ | tr -d ' '; echo $$");
    command.envs([("A", "a"), ("B", "b"), ("C", "c")]).env_remove("B").process_group(0);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_533);
    }
    assert_eq!(command.as_std().get_program(), "sh");
    command.as_std_mut().arg("ignored");
    assert_eq!(command.as_std().get_args().count(), 3);
    assert!(format!("{command:?}").contains("ignored"), "{command:?}");
    let output = command.output().await.unwrap();
    let lines: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    let [vars, uid, gid, group, id] = lines[..] else { panic!("{lines:?}") };
    assert_eq!((vars, group), ("ac", id), "it leads its own group");
    if rustix::process::geteuid().is_root() {
        assert_eq!((uid, gid), ("65534", "65533"));
    }
    assert_eq!(output.stderr, b"err\n");
    let mut std = command.into_std();
    assert!(std.status().unwrap().success(), "it is one of the standard library's again");
}

#[leakfree::test(workers = 2)]
async fn pipes_take_several_buffers_and_can_be_handed_to_another_child() {
    let mut first = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = first.stdout.take().unwrap();
    // The second reads what the first writes.
    let mut second =
        Command::new("cat").stdin(Stdio::try_from(stdout).unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = first.stdin.take().unwrap();
    assert_eq!(stdin.write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b"two")]).await.unwrap(), 7);
    let mut out = second.stdout.take().unwrap();
    let (mut a, mut b) = ([0; 4], [0; 8]);
    let mut n = out.read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)]).await.unwrap();
    while n < 7 {
        n += out.read(&mut b[n - 4..]).await.unwrap();
    }
    assert_eq!((&a, &b[..3]), (b"one ", &b"two"[..]));
    // The third writes into the first's input.
    let third = Command::new("true").stdout(Stdio::try_from(stdin).unwrap()).status().await.unwrap();
    assert!(third.success());
    assert!(first.wait().await.unwrap().success() && second.wait().await.unwrap().success());
}
