//! Sleeps, timeouts and intervals.
