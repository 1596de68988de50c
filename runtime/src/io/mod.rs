//! Reading and writing: the traits, what is built on them, pipes in memory, and the standard streams.
//!
//! The traits are those of `futures-io`. [`AsyncReadExt`], [`AsyncWriteExt`], [`AsyncBufReadExt`] and [`AsyncSeekExt`] have the methods
//! that a tokio user knows, as thin covers of `futures-util`'s, which add one thing: the wait is recorded at the line that called the
//! method, not somewhere inside a library. With the feature `tokio-io` our streams implement tokio's traits as well, for
//! libraries that ask for those.
//!
//! ```
//! # leakfree::runtime::Runtime::new().unwrap().block_on(async {
//! use leakfree::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
//!
//! let (mut a, b) = leakfree::io::duplex(64);
//! a.write_all(b"one\ntwo\n").await?;
//! a.shutdown().await?;
//! let mut lines = BufReader::new(b).lines();
//! assert_eq!(lines.next_line().await?.as_deref(), Some("one"));
//! assert_eq!(lines.next_line().await?.as_deref(), Some("two"));
//! assert_eq!(lines.next_line().await?, None);
//! # Ok::<(), std::io::Error>(()) }).unwrap();
//! ```

mod copy;
mod duplex;
mod ext;
mod stdio;
pub(crate) mod traits;

/// Descriptors that nothing here knows: devices, `eventfd`, `inotify`, a socket of a C library.
pub mod unix {
    pub use crate::net::async_fd::{AsyncFd, AsyncFdReadyGuard, AsyncFdReadyMutGuard, TryIoError};
}

pub use futures_io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite};
pub use futures_util::io::{
    BufReader, BufWriter, Cursor, Empty, ReadHalf, Repeat, Sink, Take, WriteHalf, empty, repeat, sink,
};
pub use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result, SeekFrom};

pub use self::copy::{Copy, CopyBidirectional, CopyBuf, copy, copy_bidirectional, copy_buf};
pub use self::duplex::{DuplexStream, duplex};
pub use self::ext::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, Lines, NextLine, On, split};
pub use self::stdio::{Stderr, Stdin, Stdout, stderr, stdin, stdout};
