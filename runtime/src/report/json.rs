//! A report as JSON; the only place that knows its shape.
//!
//! Schema `leakfree-report/1`. Times are milliseconds, sizes bytes; a *site* is `"file:line:column"`; what was
//! not recorded is `null`. New fields may be added under the same number; a change of meaning raises it.
//!
//! | field | what |
//! |---|---|
//! | `schema` | `"leakfree-report/1"` |
//! | `occasion` | `"live"`, `"shutdown"`, `"test_end"` or `"quiescent"` |
//! | `uptime_ms`, `finished`, `newborn` | of the runtime, when the snapshot was taken |
//! | `first_polls` | `[{ "worker", "task", "spawned_at", "since_ms" }]`: those of `newborn` (spawned, never parked) that a worker polls, be it not for the first time, for so long at most |
//! | `leaked`, `suspects` | number of leaked tasks, and of suspects, which are not counted among them |
//! | `coverage` | `{ "complete", "parked" }`: parked tasks with a complete wait set, and all |
//! | `tokio_tasks` | tasks alive in the runtime of tokio's behind `tokio-compat`: counted, and not judged; without the feature 0 |
//! | `findings` | as below, the strongest verdict first |
//! | `incidents` | `[{ "kind", "site", "message" }]`: `"spare_panic"`, `"scope_forgotten"`, `"cleanup_cut"` |
//!
//! A finding:
//!
//! | field | what |
//! |---|---|
//! | `leak_id` | the same for the same leak in every run |
//! | `verdict` | `"proven_unwakeable"`, `"proven_stuck"`, `"deadlocked"`, `"held_open"`, `"outlived"`, `"unresponsive"` or `"suspect"` |
//! | `count`, `ids`, `bytes` | tasks alike: how many, which, their allocations together |
//! | `name`, `kind`, `spawned_at`, `phase` | of the oldest: name, `"async"`, `"main"` or `"blocking"`, site, `"parked"` and so on |
//! | `lived_ms`, `parked_ms`, `polls` | of the oldest |
//! | `own_wakers`, `foreign_wakers` | of the oldest: wakers in our own queues, and elsewhere |
//! | `waits` | `[{ "reason", "site", "created_at", "task", "scope", "label", "held_by", "holders", "waiters", "channel" }]` |
//! | its `held_by` | `null`, or `{ "task", "site", "owned" }`: of a lock with one holder, if it is known who took it; `owned`: by a guard that may have been handed on |
//! | its `holders`, `waiters` | `null`, or of a lock: such objects, `task` and `site` `null` for who could not be told; how many are queued |
//! | its `channel` | `null`, or `{ "senders", "receivers", "last_sender", "last_receiver" }`: live handles; `null` or `{ "task", "site" }` |
//! | `last_waker` | `null`, or `{ "how", "task", "spawned_at", "last_wait" }` |
//! | `cancelled` | `null`, or `{ "reason", "site", "since_ms" }` |
//! | `knots`, `knot` | how many knots alike, and the other tasks of the first: id, name, sites, times, waits, scopes |
//! | `waits_for` | of a task that waits for stuck ones: the way to the one to blame, that one last |
//! | `suspicion` | of a suspect: `{ "why": "quiescent" }`, `{ "why": "behind" }` (see `waits_for`), `{ "why": "long_park", "usual_p99_ms", "usual_longest_ms", "samples" }` or `{ "why": "channel_user", "handles", "task", "site", "ended" }` (1 if the task has ended) |
//! | `running` | `null`, or `{ "worker", "since_ms" }`: of the oldest |
//! | `shields` | `[{ "site", "since_ms" }]`: pending shields of the oldest |
//! | `stacks` | with `LEAKFREE_BACKTRACE=1`: where the oldest left wakers behind, each a row of `"function at file:line:column"`, the innermost first |
//! | `deadline_ms` | time until a deadline cancels it |
//! | `scopes` | the path, innermost first: `[{ "id", "name", "opened_at", "owner" }]` |
//! | `scopes_cut` | scopes left out of a long path, behind the third |

use std::fmt::Write;
use std::time::Duration;

use super::snapshot::{
    HolderInfo, Incident, IncidentKind, LastWaker, NewbornPoll, Phase, Site, TaskKind, UserInfo, WaitInfo,
    WaitObject,
};
use super::suspect::Suspicion;
use super::verdict::{Finding, Member, Occasion, PathScope, Report, Verdict};

impl Report {
    /// The report as JSON; see [`json`](crate::report::json) for the schema.
    pub fn to_json(&self) -> String {
        let mut json = Json::default();
        json.object(|o| {
            o.text("schema", "leakfree-report/1");
            o.text(
                "occasion",
                match self.occasion {
                    Occasion::Live => "live",
                    Occasion::Shutdown => "shutdown",
                    Occasion::TestEnd => "test_end",
                    Occasion::Quiescent => "quiescent",
                },
            );
            o.millis("uptime_ms", Some(self.uptime));
            o.number("finished", self.finished);
            o.number("newborn", self.newborn);
            o.field("first_polls").array(&self.snapshot.newborn_polls, newborn_poll);
            o.number("leaked", self.leaked());
            o.number("suspects", self.suspects());
            o.field("coverage").object(|o| {
                o.number("complete", self.coverage.0);
                o.number("parked", self.coverage.1);
            });
            o.number("tokio_tasks", self.snapshot.tokio_tasks);
            o.field("findings").array(&self.findings, finding);
            o.field("incidents").array(&self.incidents, incident);
        });
        json.0.push('\n');
        json.0
    }
}

fn newborn_poll(json: &mut Json, poll: &NewbornPoll) {
    json.object(|o| {
        o.number("worker", poll.worker as u64);
        o.number("task", poll.task);
        o.site("spawned_at", Some(poll.spawned_at));
        o.millis("since_ms", Some(poll.since));
    });
}

fn incident(json: &mut Json, incident: &Incident) {
    json.object(|o| {
        o.text(
            "kind",
            match incident.kind {
                IncidentKind::SparePanic => "spare_panic",
                IncidentKind::ScopeForgotten => "scope_forgotten",
                IncidentKind::CleanupCut => "cleanup_cut",
            },
        );
        o.site("site", incident.site);
        o.text("message", &incident.message);
    });
}

fn finding(json: &mut Json, finding: &Finding) {
    let task = &finding.task;
    json.object(|o| {
        o.text("leak_id", &finding.leak_id);
        o.text(
            "verdict",
            match finding.verdict {
                Verdict::ProvenUnwakeable => "proven_unwakeable",
                Verdict::ProvenStuck => "proven_stuck",
                Verdict::Deadlocked => "deadlocked",
                Verdict::HeldOpen => "held_open",
                Verdict::Outlived => "outlived",
                Verdict::Unresponsive => "unresponsive",
                Verdict::Suspect => "suspect",
            },
        );
        o.number("count", finding.ids.len() as u64);
        o.field("ids").array(&finding.ids, |json, id| json.number(*id));
        o.number("bytes", finding.bytes as u64);
        o.optional("name", task.name.as_deref());
        o.text(
            "kind",
            match task.kind {
                TaskKind::Async => "async",
                TaskKind::Main => "main",
                TaskKind::Blocking => "blocking",
            },
        );
        o.site("spawned_at", Some(task.spawned_at));
        o.text(
            "phase",
            match task.phase {
                Phase::Scheduled => "scheduled",
                Phase::Running => "running",
                Phase::Parked => "parked",
                Phase::Ending => "ending",
            },
        );
        o.millis("lived_ms", Some(task.lived));
        o.millis("parked_ms", task.parked);
        o.number("polls", task.polls);
        o.number("own_wakers", task.own_wakers.into());
        o.number("foreign_wakers", task.foreign_wakers.into());
        o.field("waits").array(&task.waits, wait);
        match task.last_waker.as_deref() {
            None => o.field("last_waker").null(),
            Some(last) => o.field("last_waker").object(|o| last_waker(o, *last)),
        }
        match &task.cancelled {
            None => o.field("cancelled").null(),
            Some(cancel) => o.field("cancelled").object(|o| {
                o.text("reason", &cancel.reason);
                o.site("site", cancel.site);
                o.millis("since_ms", Some(cancel.since));
            }),
        }
        match &task.running {
            None => o.field("running").null(),
            Some(running) => o.field("running").object(|o| {
                o.number("worker", running.worker as u64);
                o.millis("since_ms", Some(running.since));
            }),
        }
        o.field("shields").array(&task.shields, |json, shield| {
            json.object(|o| {
                o.site("site", Some(shield.site));
                o.millis("since_ms", Some(shield.since));
            });
        });
        o.field("stacks").array(&task.stacks, |json, stack| {
            json.array(&stack.lines(), |json, line| json.text(line));
        });
        o.millis("deadline_ms", finding.deadline);
        o.number("knots", finding.knots as u64);
        o.field("knot").array(&finding.knot, member);
        o.field("waits_for").array(&finding.waits_for, |json, id| json.number(*id));
        match finding.suspicion {
            None => o.field("suspicion").null(),
            Some(suspicion) => o.field("suspicion").object(|o| match suspicion {
                Suspicion::Quiescent => o.text("why", "quiescent"),
                Suspicion::LongPark { usual } => {
                    o.text("why", "long_park");
                    o.millis("usual_p99_ms", Some(usual.p99));
                    o.millis("usual_longest_ms", Some(usual.longest));
                    o.number("samples", usual.samples);
                }
                Suspicion::Behind => o.text("why", "behind"),
                Suspicion::ChannelUser { handles, user, ended } => {
                    o.text("why", "channel_user");
                    o.number("handles", handles);
                    o.optional_number("task", user.task.map(Into::into));
                    o.site("site", Some(user.site));
                    o.number("ended", ended.into());
                }
            }),
        }
        o.field("scopes").array(&finding.path, scope);
        o.number("scopes_cut", finding.path_cut as u64);
    });
}

fn member(json: &mut Json, member: &Member) {
    json.object(|o| {
        o.number("id", member.task.id);
        o.optional("name", member.task.name.as_deref());
        o.site("spawned_at", Some(member.task.spawned_at));
        o.millis("lived_ms", Some(member.task.lived));
        o.millis("parked_ms", member.task.parked);
        o.number("polls", member.task.polls);
        o.field("waits").array(&member.task.waits, wait);
        o.field("scopes").array(&member.path, scope);
        o.number("scopes_cut", member.path_cut as u64);
    });
}

fn wait(json: &mut Json, wait: &WaitInfo) {
    json.object(|o| {
        o.text("reason", wait.reason.name());
        o.site("site", Some(wait.site));
        let (mut created, mut task, mut scope, mut label) = (None, None, None, None);
        let (mut locked, mut channel) = (None, None);
        match &wait.object {
            WaitObject::None => {}
            WaitObject::Created(site) => created = Some(*site),
            WaitObject::Task(id) => task = Some(*id),
            WaitObject::Scope(id) => scope = Some(*id),
            WaitObject::Label(text) => label = Some(*text),
            WaitObject::Lock(lock) => {
                created = Some(lock.created);
                locked = Some(lock);
            }
            WaitObject::Channel(info) => {
                created = Some(info.created);
                channel = Some(info);
            }
        }
        o.site("created_at", created);
        o.optional_number("task", task);
        o.optional_number("scope", scope);
        o.optional("label", label);
        match locked.map(|lock| lock.holders.as_slice()) {
            Some([one @ (HolderInfo::Task { .. } | HolderInfo::Owned { .. })]) => {
                holder(o.field("held_by"), one)
            }
            _ => o.field("held_by").null(),
        }
        match locked {
            Some(lock) => o.field("holders").array(&lock.holders, holder),
            None => o.field("holders").null(),
        }
        o.optional_number("waiters", locked.map(|lock| lock.waiters));
        match channel {
            Some(channel) => o.field("channel").object(|o| {
                o.number("senders", channel.senders.into());
                o.number("receivers", channel.receivers.into());
                user(o.field("last_sender"), channel.last_sender);
                user(o.field("last_receiver"), channel.last_receiver);
            }),
            None => o.field("channel").null(),
        }
    });
}

fn holder(json: &mut Json, holder: &HolderInfo) {
    let known = match holder {
        HolderInfo::Unknown => None,
        HolderInfo::Task { id, site } | HolderInfo::Owned { id, site } => Some((*id, *site)),
    };
    json.object(|o| {
        o.optional_number("task", known.map(|(id, _)| id));
        o.site("site", known.map(|(_, site)| site));
        o.field("owned").bool(matches!(holder, HolderInfo::Owned { .. }));
    });
}

fn user(json: &mut Json, user: Option<UserInfo>) {
    match user {
        None => json.null(),
        Some(user) => json.object(|o| {
            o.optional_number("task", user.task.map(Into::into));
            o.site("site", Some(user.site));
        }),
    }
}

fn last_waker(o: &mut Object<'_>, last: LastWaker) {
    match last {
        LastWaker::NeverRegistered => o.text("how", "never_registered"),
        LastWaker::DroppedByThread => o.text("how", "dropped_by_thread"),
        LastWaker::DroppedByTask { id, spawned_at, last_wait } => {
            o.text("how", "dropped_by_task");
            o.number("task", id);
            o.site("spawned_at", Some(spawned_at));
            o.site("last_wait", last_wait);
        }
    }
}

fn scope(json: &mut Json, scope: &PathScope) {
    json.object(|o| {
        o.number("id", scope.id);
        o.optional("name", scope.name.as_deref());
        o.site("opened_at", scope.opened_at);
        o.optional_number("owner", scope.owner);
    });
}

/// JSON text in the making (RFC 8259).
#[derive(Default)]
struct Json(String);

impl Json {
    fn null(&mut self) {
        self.0.push_str("null");
    }

    fn number(&mut self, n: u64) {
        let _ = write!(self.0, "{n}");
    }

    fn bool(&mut self, yes: bool) {
        self.0.push_str(if yes { "true" } else { "false" });
    }

    fn text(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                c if c < ' ' => {
                    let _ = write!(self.0, "\\u{:04x}", c as u32);
                }
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    fn object(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        self.0.push('{');
        fill(&mut Object { json: self, first: true });
        self.0.push('}');
    }

    fn array<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Json, &T)) {
        self.0.push('[');
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.0.push(',');
            }
            each(self, item);
        }
        self.0.push(']');
    }
}

struct Object<'a> {
    json: &'a mut Json,
    first: bool,
}

impl Object<'_> {
    fn field(&mut self, name: &str) -> &mut Json {
        if !std::mem::take(&mut self.first) {
            self.json.0.push(',');
        }
        self.json.text(name);
        self.json.0.push(':');
        self.json
    }

    fn text(&mut self, name: &str, text: &str) {
        self.field(name).text(text);
    }

    fn number(&mut self, name: &str, n: u64) {
        self.field(name).number(n);
    }

    fn optional(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.field(name).null(),
        }
    }

    fn optional_number(&mut self, name: &str, n: Option<u64>) {
        match n {
            Some(n) => self.number(name, n),
            None => self.field(name).null(),
        }
    }

    fn site(&mut self, name: &str, site: Option<Site>) {
        self.optional(name, site.map(|site| site.to_string()).as_deref());
    }

    fn millis(&mut self, name: &str, duration: Option<Duration>) {
        self.optional_number(name, duration.map(|duration| duration.as_millis() as u64));
    }
}
