//! Directories: reading and making them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{FileType, Metadata};
use std::future::Future;
use std::io;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::blocking::BlockingIo;
use crate::task::wait::WaitReason;

/// How many entries are read in one call.
const BATCH: usize = 32;

/// Reads a directory: see [`ReadDir::next_entry`].
///
/// # Errors
/// As [`std::fs::read_dir`].
///
/// # Cancel safety
/// Cancel safe.
#[track_caller]
pub fn read_dir(path: impl AsRef<Path>) -> BlockingIo<ReadDir> {
    let path = path.as_ref().to_owned();
    BlockingIo::new(WaitReason::BlockingCall, move || Ok(ReadDir::from(batch(std::fs::read_dir(path)?))))
}

/// The entries of a directory, in the order in which the system has them, but for `.` and `..`.
#[derive(Debug)]
pub struct ReadDir {
    entries: VecDeque<io::Result<DirEntry>>,
    /// `None` at the end, or while a call has it.
    rest: Option<std::fs::ReadDir>,
    reading: Option<BlockingIo<Batch>>,
}

type Batch = (VecDeque<io::Result<DirEntry>>, Option<std::fs::ReadDir>);

fn batch(mut from: std::fs::ReadDir) -> Batch {
    let entries: VecDeque<_> =
        from.by_ref().take(BATCH).map(|entry| Ok(DirEntry(Arc::new(entry?)))).collect();
    let rest = (entries.len() == BATCH).then_some(from);
    (entries, rest)
}

impl From<Batch> for ReadDir {
    fn from((entries, rest): Batch) -> ReadDir {
        ReadDir { entries, rest, reading: None }
    }
}

impl ReadDir {
    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe: an entry that was not returned comes next.
    #[track_caller]
    pub fn next_entry(&mut self) -> impl Future<Output = io::Result<Option<DirEntry>>> + Send + '_ {
        let site = Location::caller();
        std::future::poll_fn(move |cx| self.poll_at(cx, site))
    }

    fn poll_at(
        &mut self,
        cx: &mut Context<'_>,
        site: &'static Location<'static>,
    ) -> Poll<io::Result<Option<DirEntry>>> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Poll::Ready(entry.map(Some));
            }
            if let Some(reading) = &mut self.reading {
                reading.set_location(site);
                let read = ready!(Pin::new(reading).poll(cx));
                self.reading = None;
                (self.entries, self.rest) = read?;
            } else if let Some(rest) = self.rest.take() {
                self.reading = Some(BlockingIo::at(WaitReason::BlockingCall, site, move || Ok(batch(rest))));
            } else {
                return Poll::Ready(Ok(None));
            }
        }
    }
}

/// What is in a directory.
#[derive(Clone, Debug)]
pub struct DirEntry(Arc<std::fs::DirEntry>);

impl DirEntry {
    /// The directory's path and the entry's name.
    pub fn path(&self) -> PathBuf {
        self.0.path()
    }

    /// The entry's name.
    pub fn file_name(&self) -> OsString {
        self.0.file_name()
    }

    /// What is known of it; does not follow links.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[track_caller]
    pub fn metadata(&self) -> BlockingIo<Metadata> {
        let entry = Arc::clone(&self.0);
        BlockingIo::new(WaitReason::BlockingCall, move || entry.metadata())
    }

    /// Whether it is a file, a directory or a link.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[track_caller]
    pub fn file_type(&self) -> BlockingIo<FileType> {
        let entry = Arc::clone(&self.0);
        BlockingIo::new(WaitReason::BlockingCall, move || entry.file_type())
    }
}

/// Makes directories, with options.
#[derive(Clone, Debug, Default)]
pub struct DirBuilder {
    recursive: bool,
    mode: Option<u32>,
}

impl DirBuilder {
    /// No options.
    pub fn new() -> DirBuilder {
        DirBuilder::default()
    }

    /// Makes missing directories on the way, too; then one that is there already is no error.
    pub fn recursive(&mut self, recursive: bool) -> &mut DirBuilder {
        self.recursive = recursive;
        self
    }

    /// The permissions of what is made.
    pub fn mode(&mut self, mode: u32) -> &mut DirBuilder {
        self.mode = Some(mode);
        self
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// As [`std::fs::DirBuilder::create`].
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it is still done.
    #[track_caller]
    pub fn create(&self, path: impl AsRef<Path>) -> BlockingIo<()> {
        use std::os::unix::fs::DirBuilderExt;

        let path = path.as_ref().to_owned();
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(self.recursive);
        if let Some(mode) = self.mode {
            builder.mode(mode);
        }
        BlockingIo::new(WaitReason::BlockingCall, move || builder.create(path))
    }
}
