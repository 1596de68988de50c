//! A report as a profile in pprof's format, for `go tool pprof` and the many viewers that read it.
//!
//! The format is the protocol buffer `perftools.profiles.Profile` (<https://github.com/google/pprof/blob/main/proto/profile.proto>), not
//! compressed. One sample for all tasks with the same stack and labels; its values are how many they are, and their ages added up.
//!
//! | what | is |
//! |---|---|
//! | sample types | `tasks` (count), `age` (nanoseconds) |
//! | stack | the wait, the spawn, the scope, the task that this lives in, and so on |
//! | labels | `verdict`, `scope` (the innermost one's name), `name` (the task's) |

use std::collections::{BTreeMap, HashMap};

use super::graph::{Frame, Stacks, verdicts};
use super::snapshot::TaskInfo;
use super::verdict::Report;

impl Report {
    /// Every live task as a profile that `go tool pprof` opens; see [`pprof`](crate::report::pprof).
    pub fn to_pprof(&self) -> Vec<u8> {
        let stacks = Stacks::new(&self.snapshot);
        let verdicts = verdicts(self);
        let scope_names: HashMap<u64, &str> = self
            .snapshot
            .scopes
            .iter()
            .filter_map(|scope| Some((scope.id, scope.name.as_deref()?)))
            .collect();
        let mut samples: BTreeMap<Kind<'_>, (u64, u64)> = BTreeMap::new();
        for task in &self.snapshot.tasks {
            let verdict = verdicts.get(&task.id).map(|verdict| ("verdict", verdict.name().to_owned()));
            let scope = scope_names.get(&task.scope).map(|name| ("scope", (*name).to_owned()));
            let name = task.name.as_deref().map(|name| ("name", name.to_owned()));
            let labels = [verdict, scope, name].into_iter().flatten().collect();
            let sample = samples.entry((stacks.frames(task), labels)).or_default();
            sample.0 += 1;
            sample.1 = sample.1.saturating_add(age_ns(task));
        }

        let mut profile = Profile::default();
        for (name, unit) in [("tasks", "count"), ("age", "nanoseconds")] {
            let (name, unit) = (profile.text(name), profile.text(unit));
            profile.out.message(1, |value_type| {
                value_type.number(1, name);
                value_type.number(2, unit);
            });
        }
        for ((frames, labels), (tasks, age)) in samples {
            let locations: Vec<u64> = frames.into_iter().map(|frame| profile.location(frame)).collect();
            let labels: Vec<(u64, u64)> =
                labels.iter().map(|(key, value)| (profile.text(key), profile.text(value))).collect();
            profile.out.message(2, |sample| {
                sample.packed(1, &locations);
                sample.packed(2, &[tasks, age]);
                for (key, value) in labels {
                    sample.message(3, |label| {
                        label.number(1, key);
                        label.number(2, value);
                    });
                }
            });
        }
        let age = self.snapshot.uptime.as_nanos() as u64;
        profile.out.number(10, age);
        let tasks = profile.text("tasks");
        profile.out.number(14, tasks);
        profile.finish()
    }
}

/// Stack and labels.
type Kind<'a> = (Vec<Frame>, Vec<(&'a str, String)>);

fn age_ns(task: &TaskInfo) -> u64 {
    u64::try_from(task.lived.as_nanos()).unwrap_or(u64::MAX)
}

/// A profile in the making, with its tables.
struct Profile {
    out: Message,
    strings: Vec<String>,
    string_ids: HashMap<String, u64>,
    /// Each frame is a location with one line of one function; the three have the same id, from 1.
    frames: HashMap<Frame, u64>,
    tables: Message,
}

impl Default for Profile {
    fn default() -> Profile {
        // The format wants the empty string first.
        let string_ids = HashMap::from([(String::new(), 0)]);
        let strings = vec![String::new()];
        Profile {
            out: Message::default(),
            strings,
            string_ids,
            frames: HashMap::new(),
            tables: Message::default(),
        }
    }
}

impl Profile {
    /// The index of a text in the string table.
    fn text(&mut self, text: &str) -> u64 {
        if let Some(&id) = self.string_ids.get(text) {
            return id;
        }
        let id = self.strings.len() as u64;
        self.strings.push(text.to_owned());
        self.string_ids.insert(text.to_owned(), id);
        id
    }

    fn location(&mut self, frame: Frame) -> u64 {
        if let Some(&id) = self.frames.get(&frame) {
            return id;
        }
        let id = self.frames.len() as u64 + 1;
        // Place and all: viewers show functions by their name, and two spawns in one file are two.
        let name = self.text(&frame.text());
        let file = self.text(frame.site.map_or("", |site| site.file));
        let line = frame.site.map_or(0, |site| u64::from(site.line));
        self.tables.message(4, |location| {
            location.number(1, id);
            location.message(4, |of| {
                of.number(1, id);
                of.number(2, line);
            });
        });
        self.tables.message(5, |function| {
            function.number(1, id);
            function.number(2, name);
            function.number(3, name);
            function.number(4, file);
            function.number(5, line);
        });
        self.frames.insert(frame, id);
        id
    }

    fn finish(self) -> Vec<u8> {
        let mut out = self.out;
        out.0.extend(self.tables.0);
        for text in &self.strings {
            out.bytes(6, text.as_bytes());
        }
        out.0
    }
}

/// A protocol buffer message in the making (<https://protobuf.dev/programming-guides/encoding/>).
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn number(&mut self, field: u64, n: u64) {
        self.varint(field << 3);
        self.varint(n);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn packed(&mut self, field: u64, numbers: &[u64]) {
        let mut inner = Message::default();
        numbers.iter().for_each(|&n| inner.varint(n));
        self.bytes(field, &inner.0);
    }

    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }
}
