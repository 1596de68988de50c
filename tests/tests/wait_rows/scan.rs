//! Reads the sources of the crate, and finds what a user can wait on. It knows no more of Rust than that takes: lines as rustfmt
//! leaves them, and macros that are given their arguments by place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One public function that returns a future or a `Poll`, or a public type that is awaited itself.
pub(crate) struct Item {
    /// Where it stands, for messages.
    pub(crate) place: String,
    pub(crate) docs: String,
    /// It returns a `Poll`: there is no future that could be dropped.
    pub(crate) polls: bool,
}

/// One arm of a macro that makes public functions.
struct Arm {
    /// What it is called with: `@ read half $stream:ident` and so on. None if it repeats something.
    pattern: Option<Vec<String>>,
    body: Vec<String>,
}

/// What was found.
pub(crate) struct Crate {
    /// By module, type and name, as in `net::tcp_stream::TcpStream::read`.
    pub(crate) items: BTreeMap<String, Item>,
    /// Of `WaitReason`.
    pub(crate) reasons: BTreeSet<String>,
}

/// All source files below `directory`.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Files whose public functions are no part of the API.
const PRIVATE: &[&str] = &["macros.rs", "model.rs"];

pub(crate) fn read_crate(src: &Path, handles: &[&str]) -> Crate {
    let mut sources = Vec::new();
    for path in files(src) {
        let name = path.strip_prefix(src).unwrap().to_str().unwrap().to_owned();
        if !PRIVATE.contains(&name.as_str()) {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<String> = text
                .lines()
                .take_while(|line| !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test"))
                .map(str::to_owned)
                .collect();
            sources.push((name, lines));
        }
    }
    let mut scan = Scan {
        handles,
        macros: BTreeMap::new(),
        futures: BTreeMap::new(),
        types: BTreeMap::new(),
        items: BTreeMap::new(),
    };
    for (_, lines) in &mut sources {
        scan.take_macros(lines);
    }
    // Which types are futures is known once all has been read, so all is read twice.
    for _ in 0..2 {
        scan.items.clear();
        for (name, lines) in &sources {
            let module = name.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
            scan.read(name, &module, "", lines);
        }
    }
    let wait = fs::read_to_string(src.join("task/wait.rs")).unwrap();
    let list = wait.split_once("\nreasons! {\n").unwrap().1.split_once("\n}").unwrap().0;
    let names = list.lines().filter_map(|line| line.split_once(" = \"").map(|(name, _)| name.trim()));
    Crate { items: scan.items, reasons: names.map(str::to_owned).collect() }
}

struct Scan<'a> {
    handles: &'a [&'a str],
    macros: BTreeMap<String, Vec<Arm>>,
    /// Names of types that are futures, by module: names are not unique.
    futures: BTreeMap<String, BTreeSet<String>>,
    /// Docs of public types, by module and name.
    types: BTreeMap<(String, String), String>,
    items: BTreeMap<String, Item>,
}

impl Scan<'_> {
    /// Moves the definitions of macros out of a file.
    fn take_macros(&mut self, lines: &mut Vec<String>) {
        let mut rest = Vec::new();
        let mut at = 0;
        while at < lines.len() {
            let Some(name) = lines[at].strip_prefix("macro_rules! ") else {
                rest.push(lines[at].clone());
                at += 1;
                continue;
            };
            let end = at + lines[at..].iter().position(|line| line == "}").unwrap();
            let name = name.trim_end_matches(" {").to_owned();
            let mut arms: Vec<Arm> = Vec::new();
            for line in &lines[at + 1..end] {
                if let Some(pattern) = line.strip_prefix("    (").and_then(|line| line.strip_suffix(") => {"))
                {
                    let parts = || pattern.split(", ").map(str::to_owned).collect();
                    arms.push(Arm { pattern: (!pattern.contains("$(")).then(parts), body: Vec::new() });
                } else if let Some(arm) = arms.last_mut() {
                    arm.body.push(line.clone());
                }
            }
            self.macros.insert(name, arms);
            at = end + 1;
        }
        *lines = rest;
    }

    fn read(&mut self, file: &str, module: &str, around: &str, lines: &[String]) {
        // The type of the `impl` or the trait that the line is in, and how far that is indented.
        let mut owner: Option<(String, usize)> = None;
        let mut in_trait = false;
        let mut docs = String::new();
        let mut at = 0;
        while at < lines.len() {
            let line = &lines[at];
            let code = line.trim_start();
            let indent = line.len() - code.len();
            at += 1;
            if owner.as_ref().is_some_and(|(_, depth)| *depth == indent) && code.starts_with('}') {
                (owner, in_trait) = (None, false);
            }
            if let Some(doc) = code.strip_prefix("///") {
                docs.push_str(doc.trim_start());
                docs.push('\n');
                continue;
            }
            if code.starts_with("#[") || code.is_empty() {
                continue;
            }
            let docs = std::mem::take(&mut docs);
            if code.starts_with("impl") && !code.contains("!") {
                let mut head = code.to_owned();
                while !head.contains('{') && at < lines.len() {
                    head.push(' ');
                    head.push_str(lines[at].trim());
                    at += 1;
                }
                let head = head.split(" where").next().unwrap();
                if let Some((of_trait, of_type)) = head.split_once(" for ") {
                    let of_type = type_name(of_type);
                    if ["Future", "IntoFuture"].iter().any(|name| of_trait.ends_with(name)) {
                        self.futures.entry(module.to_owned()).or_default().insert(of_type.clone());
                        if self.handles.contains(&of_type.as_str()) {
                            let docs = self
                                .types
                                .get(&(module.to_owned(), of_type.clone()))
                                .cloned()
                                .unwrap_or_default();
                            self.add(file, at, format!("{module}::{of_type}"), &docs, false);
                        }
                    } else if of_trait.ends_with("Stream") {
                        self.add(file, at, format!("{module}::{of_type} as Stream"), "", true);
                    }
                    // What a trait asks for is not ours to list.
                    owner = None;
                } else if !head.ends_with("{}") {
                    owner = Some((type_name(skip_generics(head.trim_start_matches("impl"))), indent));
                }
                continue;
            }
            if let Some(rest) = code.strip_prefix("pub struct ") {
                self.types.insert((module.to_owned(), type_name(rest)), docs.clone());
            }
            if let Some(rest) = code.strip_prefix("pub trait ") {
                owner = Some((type_name(rest), indent));
                in_trait = true;
                continue;
            }
            let of = owner.as_ref().map_or(around, |(name, _)| name);
            if let Some((name, arguments)) = code.split_once('!') {
                let name = name.rsplit("::").next().unwrap();
                if let Some(arms) = self.macros.get(name) {
                    let of = of.to_owned();
                    let arguments =
                        arguments.trim_start_matches('(').trim_end_matches(';').trim_end_matches(')');
                    let given: Vec<&str> = arguments.split(", ").collect();
                    if let Some(body) = arms.iter().find_map(|arm| expand(arm, &given)) {
                        self.read(file, module, &of, &body);
                    } else if arguments.trim() == "{" {
                        at = self.read_list(file, module, name.to_owned(), lines, at);
                    }
                    continue;
                }
            }
            let public = code.starts_with("pub fn ") || code.starts_with("pub async fn ");
            if !(public || in_trait && code.starts_with("fn ")) {
                continue;
            }
            let place = at;
            let mut head = code.to_owned();
            while !head.contains(['{', ';']) {
                head.push(' ');
                head.push_str(lines[at].trim());
                at += 1;
            }
            let of = of.to_owned();
            self.function(file, module, &of, &head, &docs, place);
        }
    }

    fn function(&mut self, file: &str, module: &str, of: &str, head: &str, docs: &str, line: usize) {
        let (before, rest) = head.split_once("fn ").unwrap();
        let name = rest.split(['(', '<']).next().unwrap();
        let returns = head.split_once("-> ").map_or("", |(_, returns)| returns);
        // The arrow may be that of a closure in the arguments: the last before the `where` counts.
        let returns = if returns.contains("-> ") {
            head.split(" where").next().unwrap().rsplit("-> ").next().unwrap()
        } else {
            returns.split(" where").next().unwrap()
        };
        let polls = returns.starts_with("Poll<");
        let head_type = type_name(returns);
        let waits = polls
            || before.contains("async")
            || returns.starts_with("impl Future")
            || self.is_future(module, &head_type) && !self.handles.contains(&head_type.as_str());
        if waits && !(name.starts_with("new") && polls) {
            let of = if of.is_empty() { String::new() } else { format!("{of}::") };
            self.add(file, line, format!("{module}::{of}{name}"), docs, polls);
        }
    }

    /// Functions that a macro makes of a list, a line each: `read(path) -> Vec<u8>;`. The macro's docs are theirs.
    fn read_list(
        &mut self,
        file: &str,
        module: &str,
        name: String,
        lines: &[String],
        mut at: usize,
    ) -> usize {
        let [arm] = &self.macros[&name][..] else { return at };
        let Some(made) = arm.body.iter().find(|line| line.contains("pub fn $name(")) else { return at };
        let docs = arm.body.iter().filter_map(|line| line.trim().strip_prefix("/// "));
        let docs: String = docs.map(|line| format!("{line}\n")).collect();
        let returns = made.rsplit("-> ").next().unwrap().to_owned();
        while lines[at].trim() != "}" {
            let line = lines[at].trim();
            at += 1;
            if let (Some((name, _)), false) = (line.split_once('('), line.starts_with("//")) {
                self.function(file, module, "", &format!("pub fn {name}() -> {returns}"), &docs, at);
            }
        }
        at
    }

    fn is_future(&self, module: &str, name: &str) -> bool {
        // One's own module, or one below or beside it, or the crate's.
        let root = module.split("::").next().unwrap();
        let near =
            if module.matches("::").count() > 1 { module.rsplit_once("::").unwrap().0 } else { module };
        let any = |near: &str| {
            self.futures.iter().any(|(module, names)| module.starts_with(near) && names.contains(name))
        };
        if root == "sync" {
            any(near)
        } else {
            any(root) || any("blocking") && name == "BlockingIo" || any("io::ext") && name == "On"
        }
    }

    fn add(&mut self, file: &str, line: usize, key: String, docs: &str, polls: bool) {
        let place = format!("runtime/src/{file}, near line {line}");
        let item = Item { place, docs: docs.to_owned(), polls };
        self.items.insert(key, item);
    }
}

/// The lines that an arm makes of these arguments, if they are for it.
fn expand(arm: &Arm, given: &[&str]) -> Option<Vec<String>> {
    let pattern = arm.pattern.as_ref()?;
    if pattern.len() != given.len() {
        return None;
    }
    let mut names = Vec::new();
    for (part, given) in pattern.iter().zip(given) {
        let (words, name) = part.split_once('$')?;
        let name = name.split(':').next().unwrap();
        let value = given.strip_prefix(words)?;
        if words.is_empty() && value.starts_with('@') {
            return None;
        }
        names.push((format!("${name}"), value));
    }
    let replace = |line: String, (name, value): &(String, &str)| line.replace(name.as_str(), value);
    Some(arm.body.iter().map(|line| names.iter().fold(line.clone(), replace)).collect())
}

/// `Reserve` of `Reserve<'_, T> {`.
fn type_name(text: &str) -> String {
    let text = text.trim().rsplit_once("::<").map_or(text.trim(), |(before, _)| before);
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let path = &text[..end];
    path.trim_end_matches(':').rsplit("::").next().unwrap().to_owned()
}

/// What comes after `<...>`.
fn skip_generics(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if !text[..at].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 && !c.is_whitespace() {
            return if c == '>' { &text[at + 1..] } else { &text[at..] };
        }
    }
    text
}
