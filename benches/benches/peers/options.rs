//! What can be asked for.

use leakfree_benches::catalogue::{self, WORKLOADS};
use leakfree_benches::measure::Extent;
use leakfree_benches::peers::{self, Peer};

const HELP: &str = "options:
  --reps N            repetitions of each workload on each peer (7)
  --only WORKLOAD     may be repeated
  --peers A,B         in place of the usual ones; the first is compared with the others
  --workers N         worker threads of each runtime (2)
  --quick             3 short repetitions, to see that everything runs
  --json PATH         every single measurement, for machines
  --norecord PROGRAM  this bench, built without the recorder, as one more peer: see recording.sh
  --list              names of peers and workloads";

#[derive(Debug)]
pub(crate) struct Options {
    reps: Option<usize>,
    only: Vec<String>,
    peers: Vec<String>,
    pub(crate) workers: usize,
    pub(crate) quick: bool,
    pub(crate) json: Option<String>,
    pub(crate) norecord: Option<String>,
    /// `cargo bench` says `--bench`, `cargo test --benches` does not.
    pub(crate) bench: bool,
}

impl Options {
    /// The error is a text for the user; so is the help.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            reps: None,
            only: Vec::new(),
            peers: Vec::new(),
            workers: 2,
            quick: false,
            json: None,
            norecord: None,
            bench: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match &*arg {
                "--bench" => options.bench = true,
                "--quick" => options.quick = true,
                "--reps" => options.reps = Some(above_zero(&arg, &value()?)?),
                "--workers" => options.workers = above_zero(&arg, &value()?)?,
                "--only" => {
                    let name = value()?;
                    catalogue::find(&name).ok_or(format!("no workload {name}\n{}", names()))?;
                    options.only.push(name);
                }
                "--peers" => {
                    for name in value()?.split(',') {
                        peers::find(name).ok_or(format!("no peer {name} in this build\n{}", names()))?;
                        options.peers.push(name.to_string());
                    }
                }
                "--json" => options.json = Some(value()?),
                "--norecord" => options.norecord = Some(value()?),
                "--list" => return Err(names()),
                _ => return Err(format!("{arg}?\n{HELP}")),
            }
        }
        Ok(options)
    }

    pub(crate) fn chosen(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == workload)
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = &'static Peer> {
        peers::ALL.iter().filter(|peer| match self.peers.is_empty() {
            true => peer.default,
            false => self.peers.iter().any(|name| name == peer.name),
        })
    }

    pub(crate) fn reps(&self) -> usize {
        self.reps.unwrap_or(if self.quick { 3 } else { 7 })
    }

    pub(crate) fn extent(&self) -> Extent {
        crate::extent(self.quick)
    }
}

fn above_zero(name: &str, value: &str) -> Result<usize, String> {
    value.parse().ok().filter(|n| *n > 0).ok_or(format!("{name} needs a number above 0"))
}

fn names() -> String {
    let peers: Vec<_> = peers::ALL.iter().map(|peer| peer.name).collect();
    let mut text = format!("peers: {}\nworkloads:\n", peers.join(" "));
    for workload in WORKLOADS {
        text += &format!("  {:<18} {}\n", workload.name, workload.op);
    }
    text
}
