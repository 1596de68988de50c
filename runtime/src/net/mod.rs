//! TCP: listeners, streams, and a stream's halves.

mod listener;
mod registration;
mod stream;

pub use listener::{Accept, Bind, TcpListener};
pub use stream::{
    Connect, OwnedReadHalf, OwnedWriteHalf, ReadExact, ReadHalf, ReadSome, TcpStream, WriteAll, WriteHalf,
    WriteSome,
};

fn no_address() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidInput, "the address names no socket address")
}
