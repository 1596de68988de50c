//! The load generator of the HTTP workload, in a process of its own: keep-alive connections that ask again as soon as they have their
//! answer. One thread and one epoll instance, so that it disturbs a small machine little, and all servers alike.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use rustix::event::epoll;

use crate::measure::Latencies;

const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n";

/// A load generator that was started.
#[derive(Debug)]
pub struct Generator {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Generator {
    /// Starts this program again as a load generator with so many connections.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(address: SocketAddr, connections: usize) -> io::Result<Generator> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--load", &address.to_string(), &connections.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (Some(to), Some(from)) = (to, from) else { return Err(io::ErrorKind::BrokenPipe.into()) };
        Ok(Generator { child, to, from: BufReader::new(from) })
    }

    fn ask(&mut self, question: &str) -> io::Result<String> {
        writeln!(self.to, "{question}")?;
        let mut answer = String::new();
        self.from.read_line(&mut answer)?;
        Ok(answer.trim().to_string())
    }

    /// Waits until so many more requests were answered.
    ///
    /// # Errors
    /// If the generator or the server has failed.
    pub fn requests(&mut self, n: usize) -> io::Result<()> {
        let answer = self.ask(&n.to_string())?;
        if answer == "ok" {
            Ok(())
        } else {
            Err(io::Error::other(format!("the load generator said {answer:?}")))
        }
    }

    /// Forgets the latencies seen so far.
    ///
    /// # Errors
    /// If the generator has failed.
    pub fn reset(&mut self) -> io::Result<()> {
        self.ask("reset").map(drop)
    }

    /// Ends it, and returns median and 99th percentile in nanoseconds.
    ///
    /// # Errors
    /// If the generator has failed.
    pub fn end(mut self) -> io::Result<(f64, f64)> {
        let answer = self.ask("end")?;
        self.child.wait()?;
        let mut words = answer.split_whitespace().map_while(|word| word.parse().ok());
        let quantiles = (words.next(), words.next());
        let (Some(p50), Some(p99)) = quantiles else { return Err(io::Error::other(answer)) };
        Ok((p50, p99))
    }
}

/// Runs as load generator, and returns true, if this process was started as one.
pub fn ran() -> bool {
    let args: Vec<String> = std::env::args().collect();
    let [_, load, address, connections] = &args[..] else { return false };
    if load != "--load" {
        return false;
    }
    let (Ok(address), Ok(connections)) = (address.parse(), connections.parse()) else { return false };
    if let Err(error) = serve(address, connections) {
        println!("{error}");
    }
    true
}

struct Connection {
    stream: TcpStream,
    asked: Instant,
    received: usize,
}

fn serve(address: SocketAddr, connections: usize) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut all = Vec::new();
    let mut length = 0;
    for n in 0..connections {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // The answers are all of one length.
        length = first_answer(&mut stream)?;
        stream.set_nonblocking(true)?;
        epoll::add(&epoll, &stream, epoll::EventData::new_u64(n as u64), epoll::EventFlags::IN)?;
        all.push(Connection { stream, asked: Instant::now(), received: 0 });
    }
    let latencies = Latencies::new();
    for line in io::stdin().lines() {
        match &*line? {
            "reset" => {
                latencies.reset();
                println!("ok");
            }
            "end" => {
                let (p50, p99) = latencies.quantiles();
                println!("{p50} {p99}");
                return Ok(());
            }
            requests => {
                let requests = requests.parse().map_err(io::Error::other)?;
                round(&epoll, &mut all, requests, length, &latencies)?;
                println!("ok");
            }
        }
    }
    Ok(())
}

/// The length of the answer to one request.
fn first_answer(stream: &mut TcpStream) -> io::Result<usize> {
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&answer);
        if n == 0 || !text.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(format!("not an answer: {text:?}")));
        }
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if length == Some(body.len()) {
                return Ok(answer.len());
            }
        }
    }
}

fn round(
    epoll: &impl std::os::fd::AsFd,
    all: &mut [Connection],
    requests: usize,
    length: usize,
    latencies: &Latencies,
) -> io::Result<()> {
    let mut idle: VecDeque<usize> = (0..all.len()).collect();
    let (mut asked, mut answered) = (0, 0);
    let mut events = Vec::with_capacity(all.len());
    let mut buffer = [0; 4096];
    let mut seen = Vec::with_capacity(requests);
    while answered < requests {
        while let Some(n) = if asked < requests { idle.pop_front() } else { None } {
            all[n].asked = Instant::now();
            all[n].received = 0;
            all[n].stream.write_all(REQUEST)?;
            asked += 1;
        }
        events.clear();
        epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let n = event.data.u64() as usize;
            let received = all[n].stream.read(&mut buffer)?;
            all[n].received += received;
            if received == 0 || all[n].received > length {
                return Err(io::Error::other("the server ended the connection or said too much"));
            }
            if all[n].received == length {
                seen.push(all[n].asked.elapsed());
                answered += 1;
                idle.push_back(n);
            }
        }
    }
    latencies.add(&seen);
    Ok(())
}
