//! `File`: reading and writing through the blocking pool.
//!
//! One call is under way at a time for the poll functions. A read fetches a buffer full and hands it out piece by piece; a write takes
//! the bytes at once and puts them into the file behind the caller's back, and the next operation waits for it. So whoever
//! is dropped at a suspension has lost nothing: what a write took will be written, what a read fetched comes next.

use std::fmt;
use std::fs::{Metadata, Permissions};
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;
use std::panic::Location;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use crate::blocking::BlockingIo;
use crate::io::traits::{PollRead, PollWrite, impl_async_read, impl_async_write};
use crate::task::frame;
use crate::task::wait::WaitReason;

/// Bytes read or written in one call at most.
const BUF_MAX: usize = 2 * 1024 * 1024;

/// The least that is fetched in one read.
const READ_MIN: usize = 8 * 1024;

/// An open file. Read and write it with [`AsyncReadExt`](crate::io::AsyncReadExt), [`AsyncWriteExt`](crate::io::AsyncWriteExt) and
/// [`AsyncSeekExt`](crate::io::AsyncSeekExt).
///
/// A write is over when the bytes have been taken, not when they are in the file: `flush` waits for that and tells its error, and so
/// does [`sync_all`](File::sync_all). A file that is dropped is still written to its end, and the scope in which the write was
/// made waits for it.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// use leakfree::fs::File;
/// use leakfree::io::{AsyncReadExt, AsyncWriteExt};
///
/// # let path = std::env::temp_dir().join(format!("leakfree-doc-{}", std::process::id()));
/// let mut file = File::create(&path).await?;
/// file.write_all(b"hello").await?;
/// file.flush().await?;
///
/// let mut text = String::new();
/// File::open(&path).await?.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # leakfree::fs::remove_file(&path).await?;
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct File {
    inner: Arc<Inner>,
    /// What has been read: from `at` on it has not been handed out yet.
    buf: Vec<u8>,
    at: usize,
    busy: Option<BlockingIo<Done>>,
    /// The outcome of a read that nobody has asked for yet.
    read: Option<io::Result<()>>,
    /// The same of a seek, with what it was asked for.
    sought: Option<io::Result<u64>>,
    seeking: Option<SeekFrom>,
    /// What tokio's `start_seek` has asked for.
    #[cfg(feature = "tokio-io")]
    asked: Option<SeekFrom>,
}

/// What a call has done.
#[derive(Debug)]
enum Done {
    Read(io::Result<Vec<u8>>),
    /// An error is kept in `Inner`.
    Wrote,
    Sought(io::Result<u64>),
}

/// What calls share.
struct Inner {
    file: std::fs::File,
    /// What a poll function has begun, until its outcome is taken.
    step: Mutex<Step>,
    /// What went wrong in a write that nobody was told of.
    write_error: Mutex<Option<io::Error>>,
}

#[derive(Default)]
enum Step {
    #[default]
    None,
    Begun(Box<dyn FnOnce(&Inner) -> Done + Send>),
    Done(Done),
}

impl Inner {
    fn step(&self) -> MutexGuard<'_, Step> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step, taken if it was begun. By whoever comes first: its own call may be queued behind the one that waits for it.
    fn stepped(&self) -> MutexGuard<'_, Step> {
        let mut step = self.step();
        *step = match mem::take(&mut *step) {
            Step::Begun(take) => Step::Done(take(self)),
            step => step,
        };
        step
    }

    /// Sees to what was begun so far, on this thread; then tells what went wrong in a write.
    fn settle(&self) -> io::Result<()> {
        drop(self.stepped());
        self.take_write_error()
    }

    fn take_write_error(&self) -> io::Result<()> {
        let mut error = self.write_error.lock().unwrap_or_else(PoisonError::into_inner);
        error.take().map_or(Ok(()), Err)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

/// A step's own call. The step goes with it, also if it is never made.
struct Turn(Arc<Inner>);

impl Turn {
    fn take(self) -> io::Result<Done> {
        match mem::take(&mut *self.0.stepped()) {
            Step::Done(done) => Ok(done),
            _ => Err(io::Error::other("an operation on the file panicked")),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let step = mem::take(&mut *self.0.step());
        drop(step);
    }
}

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// As [`std::fs::File::open`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[track_caller]
    pub fn open(path: impl AsRef<Path>) -> BlockingIo<File> {
        OpenOptions::new().read(true).open(path)
    }

    /// Opens a file for writing; it is made, or emptied.
    ///
    /// # Errors
    /// As [`std::fs::File::create`].
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it is still done.
    #[track_caller]
    pub fn create(path: impl AsRef<Path>) -> BlockingIo<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    /// Makes a file that is not there yet, for reading and writing.
    ///
    /// # Errors
    /// As [`std::fs::File::create_new`].
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it is still done.
    #[track_caller]
    pub fn create_new(path: impl AsRef<Path>) -> BlockingIo<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// Options for opening a file: none yet.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Takes over a file of the standard library.
    pub fn from_std(file: std::fs::File) -> File {
        let inner = Arc::new(Inner { file, step: Mutex::default(), write_error: Mutex::default() });
        File {
            inner,
            buf: Vec::new(),
            at: 0,
            busy: None,
            read: None,
            sought: None,
            seeking: None,
            #[cfg(feature = "tokio-io")]
            asked: None,
        }
    }

    /// The file as the standard library has it. What was read ahead is not put back; seek if that matters.
    ///
    /// # Errors
    /// Of a write that nobody was told of; else what the operating system says.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the file is closed.
    #[track_caller]
    pub fn into_std(self) -> BlockingIo<std::fs::File> {
        self.call(|file| file.try_clone())
    }

    /// Waits for what is being written, then until all of the file is on its disk.
    ///
    /// # Errors
    /// Of a write that nobody was told of; else what the operating system says.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it is still done.
    #[track_caller]
    pub fn sync_all(&self) -> BlockingIo<()> {
        self.call(std::fs::File::sync_all)
    }

    /// As [`sync_all`](File::sync_all), but for the part of the metadata that is not needed to read the content.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    #[track_caller]
    pub fn sync_data(&self) -> BlockingIo<()> {
        self.call(std::fs::File::sync_data)
    }

    /// Cuts the file to `len` bytes, or fills it up with zeros.
    ///
    /// # Errors
    /// Of a write that nobody was told of; else what the operating system says.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it is still done.
    #[track_caller]
    pub fn set_len(&self, len: u64) -> BlockingIo<()> {
        self.call(move |file| file.set_len(len))
    }

    /// What is known of the file.
    ///
    /// # Errors
    /// Of a write that nobody was told of; else what the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[track_caller]
    pub fn metadata(&self) -> BlockingIo<Metadata> {
        self.call(std::fs::File::metadata)
    }

    /// Changes the file's permissions.
    ///
    /// # Errors
    /// Of a write that nobody was told of; else what the operating system says.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it is still done.
    #[track_caller]
    pub fn set_permissions(&self, permissions: Permissions) -> BlockingIo<()> {
        self.call(move |file| file.set_permissions(permissions))
    }

    /// A second handle of the same file, with the same position in it.
    ///
    /// # Errors
    /// Of a write that nobody was told of; else what the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[track_caller]
    pub fn try_clone(&self) -> BlockingIo<File> {
        self.call(|file| Ok(File::from_std(file.try_clone()?)))
    }

    /// A call that comes after those that are under way.
    #[track_caller]
    fn call<T, F>(&self, call: F) -> BlockingIo<T>
    where
        F: FnOnce(&std::fs::File) -> io::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        BlockingIo::new(WaitReason::BlockingCall, move || {
            inner.settle()?;
            call(&inner.file)
        })
    }

    /// Begins a call of the poll functions. None is under way.
    fn begin(
        &mut self,
        site: &'static Location<'static>,
        call: impl FnOnce(&Inner) -> Done + Send + 'static,
    ) {
        debug_assert!(self.busy.is_none());
        // A seek that was given up is no answer to one that comes after this.
        (self.sought, self.seeking) = (None, None);
        *self.inner.step() = Step::Begun(Box::new(call));
        let turn = Turn(Arc::clone(&self.inner));
        self.busy = Some(BlockingIo::at(WaitReason::BlockingCall, site, move || turn.take()));
    }

    /// Waits until no call is under way.
    fn poll_idle(&mut self, cx: &mut Context<'_>, site: &'static Location<'static>) -> Poll<io::Result<()>> {
        let Some(busy) = &mut self.busy else { return Poll::Ready(Ok(())) };
        busy.set_location(site);
        let done = ready!(Pin::new(busy).poll(cx));
        self.busy = None;
        match done? {
            Done::Read(Ok(buf)) => {
                (self.buf, self.at) = (buf, 0);
                self.read = Some(Ok(()));
            }
            Done::Read(Err(error)) => self.read = Some(Err(error)),
            Done::Wrote => {}
            Done::Sought(sought) => self.sought = Some(sought),
        }
        Poll::Ready(Ok(()))
    }

    fn take_write_error(&self) -> io::Result<()> {
        self.inner.take_write_error()
    }

    /// Forgets what was read ahead, and says how far the file's position is before where it should be, for a call to put right.
    fn forget_unread(&mut self) -> i64 {
        let unread = (self.buf.len() - self.at) as i64;
        (self.buf, self.at, self.read) = (Vec::new(), 0, None);
        unread
    }

    #[track_caller]
    fn poll_seek_to(&mut self, cx: &mut Context<'_>, to: SeekFrom) -> Poll<io::Result<u64>> {
        let site = frame::poll_site();
        loop {
            ready!(self.poll_idle(cx, site))?;
            if let Some(sought) = self.sought.take() {
                // One that somebody else has given up is no answer to this one.
                if self.seeking.take() == Some(to) {
                    return Poll::Ready(sought);
                }
            }
            self.take_write_error()?;
            let unread = self.forget_unread();
            let real = match to {
                SeekFrom::Current(by) => SeekFrom::Current(by.saturating_sub(unread)),
                to => to,
            };
            self.begin(site, move |inner| Done::Sought((&inner.file).seek(real)));
            self.seeking = Some(to);
        }
    }
}

impl PollRead for File {
    #[track_caller]
    fn poll_read_slice(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let site = frame::poll_site();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            if self.at < self.buf.len() {
                let n = buf.len().min(self.buf.len() - self.at);
                buf[..n].copy_from_slice(&self.buf[self.at..self.at + n]);
                self.at += n;
                self.read = None;
                return Poll::Ready(Ok(n));
            }
            ready!(self.poll_idle(cx, site))?;
            if self.at < self.buf.len() {
                continue;
            }
            if let Some(read) = self.read.take() {
                // Nothing was read: the end, or an error.
                return Poll::Ready(read.map(|()| 0));
            }
            self.take_write_error()?;
            let (mut space, len) = (std::mem::take(&mut self.buf), buf.len().clamp(READ_MIN, BUF_MAX));
            self.at = 0;
            self.begin(site, move |inner| {
                space.resize(len, 0);
                Done::Read(loop {
                    match (&inner.file).read(&mut space) {
                        Ok(n) => {
                            space.truncate(n);
                            break Ok(space);
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => break Err(error),
                    }
                })
            });
        }
    }
}

impl PollWrite for File {
    #[track_caller]
    fn poll_write_slice(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let site = frame::poll_site();
        ready!(self.poll_idle(cx, site))?;
        self.take_write_error()?;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let unread = self.forget_unread();
        let bytes = buf[..buf.len().min(BUF_MAX)].to_vec();
        let n = bytes.len();
        self.begin(site, move |inner| {
            let mut file = &inner.file;
            let back = if unread > 0 { file.seek(SeekFrom::Current(-unread)).map(drop) } else { Ok(()) };
            if let Err(error) = back.and_then(|()| file.write_all(&bytes)) {
                *inner.write_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            Done::Wrote
        });
        // Nobody waits for it here.
        self.busy.as_mut().expect("begun just now").start();
        Poll::Ready(Ok(n))
    }

    #[track_caller]
    fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_idle(cx, frame::poll_site()))?;
        Poll::Ready(self.take_write_error())
    }
}

impl_async_read!(File);
impl_async_write!(File);

impl futures_io::AsyncSeek for File {
    #[track_caller]
    fn poll_seek(self: Pin<&mut Self>, cx: &mut Context<'_>, to: SeekFrom) -> Poll<io::Result<u64>> {
        self.get_mut().poll_seek_to(cx, to)
    }
}

#[cfg(feature = "tokio-io")]
impl tokio::io::AsyncSeek for File {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        // `poll_complete` does it.
        self.get_mut().asked = Some(to);
        Ok(())
    }

    #[track_caller]
    fn poll_complete(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        // Asked before `start_seek`, it is to wait for what is under way, and to say where the file stands.
        let sought = ready!(this.poll_seek_to(cx, this.asked.unwrap_or(SeekFrom::Current(0))));
        this.asked = None;
        Poll::Ready(sought)
    }
}

/// Options for opening a file; what can be said is what [`std::fs::OpenOptions`] can.
#[derive(Clone, Debug)]
pub struct OpenOptions(std::fs::OpenOptions);

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions::new()
    }
}

macro_rules! options {
    ($($(#[$doc:meta])+ $name:ident;)+) => {
        $($(#[$doc])+
        pub fn $name(&mut self, $name: bool) -> &mut OpenOptions {
            self.0.$name($name);
            self
        })+
    };
}

impl OpenOptions {
    /// None: neither for reading nor for writing.
    pub fn new() -> OpenOptions {
        OpenOptions(std::fs::OpenOptions::new())
    }

    options! {
        /// For reading.
        read;
        /// For writing.
        write;
        /// For writing, always at the end.
        append;
        /// Empties the file.
        truncate;
        /// Makes the file if it is not there.
        create;
        /// Makes the file, which must not be there.
        create_new;
    }

    /// The permissions of a file that is made.
    pub fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        std::os::unix::fs::OpenOptionsExt::mode(&mut self.0, mode);
        self
    }

    /// Flags for the system call.
    pub fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut self.0, flags);
        self
    }

    /// Opens the file.
    ///
    /// # Errors
    /// As [`std::fs::OpenOptions::open`].
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it is still done.
    #[track_caller]
    pub fn open(&self, path: impl AsRef<Path>) -> BlockingIo<File> {
        let (options, path) = (self.0.clone(), path.as_ref().to_owned());
        BlockingIo::new(WaitReason::BlockingCall, move || Ok(File::from_std(options.open(path)?)))
    }
}

impl From<std::fs::OpenOptions> for OpenOptions {
    fn from(options: std::fs::OpenOptions) -> OpenOptions {
        OpenOptions(options)
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        File::from_std(file)
    }
}
