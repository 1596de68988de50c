//! Files and directories, on the blocking pool.
//!
//! Names, arguments and errors are those of `std::fs`. Each call is a task of the blocking pool, which a report shows with the line
//! that asked for it, and so is the wait for it. A call cannot be stopped: if the future is dropped after its first poll, the call
//! still runs to its end, and the scope around it does not end before.

mod dir;
mod file;

use std::path::{Path, PathBuf};

pub use std::fs::{FileType, Metadata, Permissions};

pub use self::dir::{DirBuilder, DirEntry, ReadDir, read_dir};
pub use self::file::{File, OpenOptions};
pub use crate::blocking::BlockingIo;
use crate::task::wait::WaitReason;

/// Functions of a path, or of two, that do what the function of that name in `std::fs` does.
macro_rules! calls {
    ($($(#[$doc:meta])+ $name:ident($($path:ident),+ $(; $arg:ident: $type:ty)?) -> $out:ty;)+) => {
        $($(#[$doc])+
        ///
        /// # Errors
        #[doc = concat!("As [`std::fs::", stringify!($name), "`].")]
        ///
        /// # Cancel safety
        /// Dropped after its first poll, it is still done.
        #[track_caller]
        pub fn $name($($path: impl AsRef<Path>,)+ $($arg: $type)?) -> BlockingIo<$out> {
            $(let $path: PathBuf = $path.as_ref().to_owned();)+
            BlockingIo::new(WaitReason::BlockingCall, move || std::fs::$name($($path,)+ $($arg)?))
        })+
    };
}

calls! {
    /// The whole content of a file.
    ///
    /// ```
    /// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
    /// let manifest = leakfree::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).await?;
    /// assert!(manifest.starts_with(b"[package]"));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    read(path) -> Vec<u8>;
    /// The whole content of a file, which must be UTF-8.
    read_to_string(path) -> String;
    /// Makes a directory; the one around it must be there.
    create_dir(path) -> ();
    /// Makes a directory and those around it, as far as they are missing.
    create_dir_all(path) -> ();
    /// Removes an empty directory.
    remove_dir(path) -> ();
    /// Removes a directory and all that is in it.
    remove_dir_all(path) -> ();
    /// Removes a file.
    remove_file(path) -> ();
    /// Gives a file or a directory another name, in place of what has that name.
    rename(from, to) -> ();
    /// Copies a file and its permissions. Returns its length.
    copy(from, to) -> u64;
    /// Gives a file a second name.
    hard_link(original, link) -> ();
    /// What is known of a file; follows links.
    metadata(path) -> Metadata;
    /// What is known of a file or of the link itself.
    symlink_metadata(path) -> Metadata;
    /// The absolute path without links.
    canonicalize(path) -> PathBuf;
    /// Where a link points to.
    read_link(path) -> PathBuf;
    /// Changes a file's permissions.
    set_permissions(path; permissions: Permissions) -> ();
}

/// Makes `contents` the whole content of a file, which is made if it is missing.
///
/// # Errors
/// As [`std::fs::write`].
///
/// # Cancel safety
/// Dropped after its first poll, it is still done.
#[track_caller]
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> BlockingIo<()> {
    let (path, contents) = (path.as_ref().to_owned(), contents.as_ref().to_owned());
    BlockingIo::new(WaitReason::BlockingCall, move || std::fs::write(path, contents))
}

/// Whether there is something at `path`.
///
/// # Errors
/// If that cannot be told, for instance for want of permission.
///
/// # Cancel safety
/// Cancel safe.
#[track_caller]
pub fn try_exists(path: impl AsRef<Path>) -> BlockingIo<bool> {
    let path = path.as_ref().to_owned();
    BlockingIo::new(WaitReason::BlockingCall, move || path.try_exists())
}

/// Makes a symbolic link at `link` that points to `original`.
///
/// # Errors
/// As [`std::os::unix::fs::symlink`].
///
/// # Cancel safety
/// Dropped after its first poll, it is still done.
#[track_caller]
pub fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> BlockingIo<()> {
    let (original, link) = (original.as_ref().to_owned(), link.as_ref().to_owned());
    BlockingIo::new(WaitReason::BlockingCall, move || std::os::unix::fs::symlink(original, link))
}
