//! The table and the JSON.

use std::fmt::Write;
use std::time::Duration;

use leakfree_benches::machine::Usage;
use leakfree_benches::stats::{Spread, ratios, spread};

use crate::measure::Measured;
use crate::peers;

/// One workload on all peers.
pub(crate) struct Row {
    workload: &'static str,
    what: &'static str,
    /// For each peer its repetitions; `None` for one that failed.
    pub(crate) results: Vec<Vec<Option<Measured>>>,
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

pub(crate) fn header(reps: usize) -> String {
    let first = peers::ALL[0].name;
    let mut text = format!(
        "{reps} repetitions each, {} workers, medians; ratios are {first} / peer within a repetition\n",
        peers::WORKERS
    );
    let _ = write!(
        text,
        "{:<18} {:<10} {:>9} {:>19} {:>9}   {:<24} {:<24}",
        "workload", "peer", "wall ns", "min .. max", "cpu ns", "wall ratio", "cpu ratio"
    );
    text
}

impl Row {
    pub(crate) fn new(workload: &'static str, what: &'static str) -> Row {
        Row { workload, what, results: vec![Vec::new(); peers::ALL.len()] }
    }

    fn values(&self, peer: usize, get: fn(&Measured) -> f64) -> Vec<Option<f64>> {
        self.results[peer].iter().map(|measured| measured.as_ref().map(get)).collect()
    }

    fn spread(&self, peer: usize, get: fn(&Measured) -> f64) -> Option<Spread> {
        let values: Vec<f64> = self.values(peer, get).into_iter().flatten().collect();
        spread(&values)
    }

    fn ratio(&self, peer: usize, get: fn(&Measured) -> f64) -> Option<Spread> {
        ratios(&self.values(0, get), &self.values(peer, get))
    }

    /// One line for each peer.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (n, peer) in peers::ALL.iter().enumerate() {
            let name = self.workload;
            let wall = self.spread(n, Measured::wall_per_op);
            let cpu = self.spread(n, Measured::cpu_per_op);
            let (Some(wall), Some(cpu)) = (wall, cpu) else {
                let _ = writeln!(text, "{name:<18} {:<10} failed", peer.name);
                continue;
            };
            let range = format!("{:.1} .. {:.1}", wall.min, wall.max);
            let _ = write!(
                text,
                "{name:<18} {:<10} {:>9.1} {range:>19} {:>9.1}",
                peer.name, wall.median, cpu.median
            );
            if n > 0 {
                for get in [Measured::wall_per_op, Measured::cpu_per_op] {
                    let ratio = self
                        .ratio(n, get)
                        .map(|ratio| format!("{:.2} ({:.2} .. {:.2})", ratio.median, ratio.min, ratio.max));
                    let _ = write!(text, "   {:<22}", ratio.unwrap_or_default());
                }
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }
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

    fn others(&self) -> Duration {
        self.busy.saturating_sub(self.own)
    }

    fn share(&self, time: Duration) -> f64 {
        100.0 * time.as_secs_f64() / self.wall.as_secs_f64().max(1e-9)
    }

    pub(crate) fn text(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "machine: {cores} cores; meanwhile others used {:.0} % of one core, the hypervisor took {:.0} %",
            self.share(self.others()),
            self.share(self.stolen)
        )
    }
}

/// Every measurement. Names are ours and need no escapes.
pub(crate) fn json(rows: &[Row], machine: &Machine) -> String {
    let mut rows_text = Vec::new();
    for row in rows {
        for (n, peer) in peers::ALL.iter().enumerate() {
            let list = |get: fn(&Measured) -> f64| {
                let values = row.values(n, get).into_iter();
                let values: Vec<_> =
                    values.map(|v| v.map_or("null".to_string(), |v| format!("{v:.3}"))).collect();
                format!("[{}]", values.join(", "))
            };
            rows_text.push(format!(
                "    {{\"workload\": \"{}\", \"op\": \"{}\", \"peer\": \"{}\", \"wall_ns_per_op\": {}, \"cpu_ns_per_op\": {}}}",
                row.workload,
                row.what,
                peer.name,
                list(Measured::wall_per_op),
                list(Measured::cpu_per_op)
            ));
        }
    }
    format!(
        "{{\n  \"version\": 1,\n  \"workers\": {},\n  \"others_percent_of_one_core\": {:.1},\n  \"stolen_percent_of_one_core\": {:.1},\n  \"results\": [\n{}\n  ]\n}}\n",
        peers::WORKERS,
        machine.share(machine.others()),
        machine.share(machine.stolen),
        rows_text.join(",\n")
    )
}
