//! The tables and the JSON.

use std::fmt::Write;
use std::time::Duration;

use leakfree_benches::catalogue::Workload;
use leakfree_benches::machine::{Usage, load_average};
use leakfree_benches::measure::{FIGURES, Measured};
use leakfree_benches::stats::{Spread, ratios, spread};
use leakfree_benches::{ALLOCATOR_NAME, peers};

use crate::options::Options;

/// One workload on all contenders.
pub(crate) struct Row {
    workload: &'static Workload,
    pub(crate) results: Vec<Results>,
}

/// `None` where the peer has no such workload, an error where it failed.
type Single = Option<Result<Measured, ()>>;

/// One workload on one contender.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) timed: Vec<Single>,
    pub(crate) counted: Single,
}

impl Results {
    /// One value for each repetition; from the run that counts where that has it.
    fn values(&self, figure: &str) -> Vec<Option<f64>> {
        let get = |single: &Single| single.as_ref()?.as_ref().ok()?.get(figure);
        if is_counted(figure) { vec![get(&self.counted)] } else { self.timed.iter().map(get).collect() }
    }

    fn spread(&self, figure: &str) -> Option<Spread> {
        spread(&self.values(figure).into_iter().flatten().collect::<Vec<_>>())
    }

    fn failed(&self) -> bool {
        self.timed.iter().chain([&self.counted]).any(|single| matches!(single, Some(Err(()))))
    }
}

/// The figure of the first table.
const FIRST: &str = "wall";

/// Whether it comes from the run with the counting allocator, whose times are worth nothing.
fn is_counted(figure: &str) -> bool {
    matches!(figure, "heap" | "resident" | "retained" | "allocs" | "bytes")
}

impl Row {
    pub(crate) fn new(workload: &'static Workload, contenders: usize) -> Row {
        Row { workload, results: (0..contenders).map(|_| Results::default()).collect() }
    }

    pub(crate) fn failed(&self) -> bool {
        self.results.iter().any(Results::failed)
    }

    /// What the one who waits is told.
    pub(crate) fn progress(&self, names: &[&str]) -> String {
        let mut text = format!("{:<18}", self.workload.name);
        for (name, results) in names.iter().zip(&self.results) {
            let figure = ["wall", "p50", "heap"].into_iter().find_map(|figure| results.spread(figure));
            let _ =
                write!(text, " {name} {}", figure.map_or("-".to_string(), |figure| number(figure.median)));
        }
        text
    }

    fn spreads(&self, figure: &str) -> Vec<Option<Spread>> {
        self.results.iter().map(|results| results.spread(figure)).collect()
    }

    /// The line of a table; `None` if nobody has such a figure. That of the first table says all that one should know at first.
    fn line(&self, figure: &str, names: &[&str]) -> Option<String> {
        let spreads = self.spreads(figure);
        spreads.iter().flatten().next()?;
        let mut line = format!("| {}", self.workload.name);
        if figure == FIRST {
            let _ = write!(line, ": {}", self.workload.op);
        }
        for (spread, results) in spreads.iter().zip(&self.results) {
            let text = match spread {
                Some(spread) => number(spread.median),
                None if results.failed() => "failed".to_string(),
                None => "-".to_string(),
            };
            let _ = write!(line, " | {text}");
        }
        let _ = write!(line, " | {}", self.to_best(figure, &spreads).unwrap_or_default());
        if names.iter().any(|name| !distributes(name)) {
            let mut spreads = spreads;
            for (spread, name) in spreads.iter_mut().zip(names) {
                *spread = spread.filter(|_| distributes(name));
            }
            let _ = write!(line, " | {}", self.to_best(figure, &spreads).unwrap_or_default());
        }
        if figure == FIRST {
            let cpu = self.to_best("cpu", &self.spreads("cpu")).unwrap_or_default();
            let _ = write!(line, " | {cpu}");
        }
        line.push_str(" |\n");
        Some(line)
    }

    /// The first contender's ratio to the best of the others.
    fn to_best(&self, figure: &str, spreads: &[Option<Spread>]) -> Option<String> {
        let others = (1..spreads.len()).filter_map(|n| Some((n, spreads[n]?.median)));
        let (best, _) = others.min_by(|a, b| a.1.total_cmp(&b.1))?;
        let ratio = ratios(&self.results[0].values(figure), &self.results[best].values(figure))?;
        if is_counted(figure) {
            return Some(format!("{:.2}", ratio.median));
        }
        Some(format!("{:.2} ({:.2} .. {:.2})", ratio.median, ratio.min, ratio.max))
    }
}

/// As the peer says; a contender that is no peer is one of ours.
fn distributes(name: &str) -> bool {
    peers::find(name).is_none_or(|peer| peer.distributes)
}

fn number(value: f64) -> String {
    if value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// What else used the machine while children ran.
#[derive(Default)]
pub(crate) struct Machine {
    wall: Duration,
    /// Of everybody, us included.
    busy: Duration,
    /// Of the children and of this process.
    own: Duration,
    stolen: Duration,
}

impl Machine {
    /// Adds one repetition: what the machine did, and our own part of it.
    pub(crate) fn add(&mut self, usage: Usage, own: Duration, wall: Duration) {
        self.wall += wall;
        // Subtracted at the end only: ticks are coarse, and in a single repetition the others may
        // seem to have used less than nothing.
        self.busy += usage.busy;
        self.own += own;
        self.stolen += usage.stolen;
    }

    /// The load generator counts among the others.
    fn others(&self) -> f64 {
        self.share(self.busy.saturating_sub(self.own))
    }

    fn share(&self, time: Duration) -> f64 {
        100.0 * time.as_secs_f64() / self.wall.as_secs_f64().max(1e-9)
    }
}

pub(crate) struct Report<'a> {
    pub(crate) options: &'a Options,
    pub(crate) names: &'a [&'a str],
    pub(crate) rows: &'a [Row],
    pub(crate) machine: &'a Machine,
}

impl Report<'_> {
    /// A table for each figure, and what must be known to read them.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (figure, heading) in FIGURES {
            let lines: Vec<String> =
                self.rows.iter().filter_map(|row| row.line(figure, self.names)).collect();
            if lines.is_empty() {
                continue;
            }
            let columns = self.names.join(" | ");
            let mut ratios = vec![format!("{} / best other", self.names[0])];
            if self.names.iter().any(|name| !distributes(name)) {
                ratios.push("/ best that wakes siblings".to_string());
            }
            if *figure == FIRST {
                ratios.push("CPU time / best other".to_string());
            }
            let _ = writeln!(text, "### {heading}\n\n| workload | {columns} | {} |", ratios.join(" | "));
            let _ = writeln!(text, "|---|{}", "---|".repeat(self.names.len() + ratios.len()));
            let _ = writeln!(text, "{}", lines.concat());
        }
        text + &self.notes()
    }

    fn notes(&self) -> String {
        let Options { workers, .. } = self.options;
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let mut text = format!(
            "{} with `{}`: {} repetitions, {workers} workers, {ALLOCATOR_NAME}, {cores} cores; medians, and ratios within a \
             repetition (least .. most). Load average at the end {}; meanwhile others used {:.0} % of one core, the hypervisor took {:.0} %.\n\n",
            date(),
            command(),
            self.options.reps(),
            load_average(),
            self.machine.others(),
            self.machine.share(self.machine.stolen),
        );
        for row in self.rows {
            let _ = writeln!(text, "- {}: {}", row.workload.name, row.workload.op);
        }
        text.push('\n');
        for peer in peers::ALL.iter().filter(|peer| self.names.contains(&peer.name)) {
            let _ = writeln!(text, "- {}: {}", peer.name, peer.note);
        }
        text
    }

    /// Every measurement. Names are ours and need no escapes.
    pub(crate) fn json(&self) -> String {
        let mut results = Vec::new();
        for row in self.rows {
            for (name, result) in self.names.iter().zip(&row.results) {
                let mut figures = String::new();
                for (figure, _) in FIGURES {
                    let values = result.values(figure);
                    if values.iter().any(Option::is_some) {
                        let values: Vec<_> = values
                            .iter()
                            .map(|v| v.map_or("null".to_string(), |v| format!("{v:.3}")))
                            .collect();
                        let _ = write!(figures, ", \"{figure}\": [{}]", values.join(", "));
                    }
                }
                let workload = row.workload.name;
                results.push(format!("    {{\"workload\": \"{workload}\", \"peer\": \"{name}\"{figures}}}"));
            }
        }
        format!(
            "{{\n  \"version\": 2,\n  \"date\": \"{}\",\n  \"workers\": {},\n  \"allocator\": \"{ALLOCATOR_NAME}\",\n  \
             \"others_percent_of_one_core\": {:.1},\n  \"stolen_percent_of_one_core\": {:.1},\n  \"results\": [\n{}\n  ]\n}}\n",
            date(),
            self.options.workers,
            self.machine.others(),
            self.machine.share(self.machine.stolen),
            results.join(",\n")
        )
    }
}

/// Today, as `date` prints it.
fn date() -> String {
    let output = std::process::Command::new("date").arg("+%F").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default()
}

fn command() -> String {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let mut command = "cargo bench -p leakfree-benches --bench peers".to_string();
    if cfg!(feature = "mimalloc") {
        command += " --features mimalloc";
    }
    if !args.is_empty() {
        command = format!("{command} -- {}", args.join(" "));
    }
    command
}
