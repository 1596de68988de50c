//! Channels and locks.
