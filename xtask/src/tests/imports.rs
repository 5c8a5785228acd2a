//! Who imports whom in `proxy/src`: modules depend downwards in the order of ARCHITECTURE.md's code map, and siblings in no circle.
//!
//! And which clock they read. Reads `use` declarations and paths as text; what a parent defines itself and what tests import is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::workspace;

/// Modules by their path, `forward::upstream::pool`.
struct Modules {
    /// What each names, as written.
    paths: BTreeMap<String, Vec<Named>>,
    /// What each re-exports: name, and the module that has it.
    exports: BTreeMap<String, BTreeMap<String, String>>,
}

/// A path in a module's text.
struct Named {
    path: Vec<String>,
    is_export: bool,
}

type Graph = BTreeMap<String, BTreeSet<String>>;

impl Modules {
    fn read(root: &Path) -> Self {
        let mut modules = Self { paths: BTreeMap::new(), exports: BTreeMap::new() };
        for file in files(root) {
            let relative = file.strip_prefix(root).unwrap().with_extension("");
            let name: Vec<_> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            let is_test = name.iter().any(|part| part == "tests");
            if !is_test && !matches!(name.join("::").as_str(), "lib" | "main") {
                let text = fs::read_to_string(&file).unwrap();
                modules.paths.insert(name.join("::"), named(&text));
            }
        }
        modules.exports = modules.paths.keys().map(|name| (name.clone(), modules.exports_of(name))).collect();
        modules
    }

    fn exports_of(&self, module: &str) -> BTreeMap<String, String> {
        let exports = self.paths.get(module).into_iter().flatten().filter(|named| named.is_export);
        exports
            .filter_map(|named| self.resolve(module, &named.path))
            .filter_map(|(of, item)| Some((item?, of)))
            .collect()
    }

    /// The module that `path` leads into, and the item it names there.
    fn resolve(&self, from: &str, path: &[String]) -> Option<(String, Option<String>)> {
        let mut base: Vec<&str> = from.split("::").collect();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), path.get(1..)?),
            "self" => rest = path.get(1..)?,
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    (_, rest) = (base.pop(), rest.get(1..)?);
                }
            }
            first if self.paths.contains_key(&format!("{from}::{first}")) => {}
            _ => return None,
        }
        while let Some(part) = rest.first() {
            let deeper = base.iter().copied().chain([part.as_str()]).collect::<Vec<_>>().join("::");
            if !self.paths.contains_key(&deeper) {
                break;
            }
            base.push(part);
            rest = rest.get(1..)?;
        }
        Some((base.join("::"), rest.first().cloned())).filter(|(module, _)| !module.is_empty())
    }

    /// Each module with those it imports from, re-exports followed to where the item is.
    fn imports(&self) -> Graph {
        let of = |module: &String, named: &Named| {
            let (mut target, item) = self.resolve(module, &named.path)?;
            while let Some(further) = item.as_ref().and_then(|item| self.exports.get(&target)?.get(item)) {
                target.clone_from(further);
            }
            let is_own_child = named.is_export && target.starts_with(&format!("{module}::"));
            (target != *module && !is_own_child).then_some(target)
        };
        let imports = |(module, named): (&String, &Vec<Named>)| {
            (module.clone(), named.iter().filter_map(|named| of(module, named)).collect())
        };
        self.paths.iter().map(imports).collect()
    }
}

/// The imports between the children of `parent`, whatever is below them.
fn among_children(imports: &Graph, parent: &str) -> Graph {
    let child = |module: &str| {
        let below =
            if parent.is_empty() { Some(module) } else { module.strip_prefix(parent)?.strip_prefix("::") };
        below?.split("::").next().map(str::to_owned)
    };
    let mut graph = Graph::new();
    for (from, to) in imports {
        let Some(from) = child(from) else { continue };
        let to = to.iter().filter_map(|to| child(to)).filter(|to| *to != from);
        graph.entry(from.clone()).or_default().extend(to);
    }
    graph
}

/// What is left when all that imports nothing else was taken away, again and again: circles, and what leads to them.
fn circles(mut graph: Graph) -> BTreeSet<String> {
    loop {
        let left: BTreeSet<_> = graph.keys().cloned().collect();
        graph.retain(|_, to| to.iter().any(|to| left.contains(to)));
        if graph.len() == left.len() {
            return left;
        }
    }
}

/// The paths that `text` names in declarations and expressions, without its tests.
fn named(text: &str) -> Vec<Named> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = lines.join("\n");
    let mut all = Vec::new();
    for statement in code.split(';') {
        let Some(start) = statement.rfind("use ").filter(|start| is_declaration(statement, *start)) else {
            continue;
        };
        let is_export = statement
            .get(..start)
            .is_some_and(|before| before.lines().last().is_some_and(|line| line.contains("pub")));
        let tree: String =
            statement.get(start + 4..).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        all.extend(expand(&tree).into_iter().map(|path| Named { path, is_export }));
    }
    for prefix in ["crate::", "super::"] {
        for (at, _) in code.match_indices(prefix) {
            let path: String = code
                .get(at..)
                .unwrap_or_default()
                .chars()
                .take_while(|c| c.is_alphanumeric() || "_:".contains(*c))
                .collect();
            let path = path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            all.push(Named { path, is_export: false });
        }
    }
    all
}

/// Whether `use ` at `start` begins a line, visibility apart.
fn is_declaration(statement: &str, start: usize) -> bool {
    let line = statement.get(..start).unwrap_or_default().lines().last().unwrap_or_default().trim();
    line.is_empty() || line.starts_with("pub")
}

/// `a::{b, c::{d}}` as `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let parts = |text: &str| -> Vec<String> {
        text.split("::")
            .map(|part| part.split(" as ").next().unwrap_or_default().trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect()
    };
    let Some((before, inside)) = tree.split_once('{') else { return vec![parts(tree)] };
    let inside = inside.rsplit_once('}').map_or(inside, |(inside, _)| inside);
    let (mut depth, mut branches) = (0, vec![String::new()]);
    for letter in inside.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match branches.last_mut() {
            Some(_) if letter == ',' && depth == 0 => branches.push(String::new()),
            Some(branch) => branch.push(letter),
            None => {}
        }
    }
    let branches = branches.iter().filter(|branch| !branch.trim().is_empty());
    branches
        .flat_map(|branch| expand(branch.trim()))
        .map(|path| parts(before).into_iter().chain(path).collect())
        .collect()
}

/// The modules in the order of the code map.
fn order(architecture: &str) -> Vec<String> {
    let map = architecture.lines().skip_while(|line| !line.starts_with("    proxy  ")).skip(1);
    let map = map.take_while(|line| line.starts_with("      "));
    let names = map.filter_map(|line| line.trim_start().split("  ").next());
    names.flat_map(|names| names.split(',')).map(|name| name.trim().to_owned()).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries
        .flat_map(below)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[test]
fn modules_import_downwards_in_the_order_of_the_code_map() {
    let imports = Modules::read(&workspace().join("proxy/src")).imports();
    let order = order(&fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap());
    let place = |module: &String| order.iter().position(|listed| listed == module);
    for (from, to) in among_children(&imports, "") {
        let own = place(&from)
            .unwrap_or_else(|| panic!("`{from}` is not in ARCHITECTURE.md's code map: {order:?}"));
        let upwards: Vec<_> = to.iter().filter(|to| place(to).is_none_or(|place| place < own)).collect();
        assert!(upwards.is_empty(), "`{from}` imports from modules above it: {upwards:?}");
    }
}

#[test]
fn no_modules_import_each_other() {
    let imports = Modules::read(&workspace().join("proxy/src")).imports();
    let parents = imports.keys().filter_map(|module| module.rsplit_once("::")).map(|(parent, _)| parent);
    for parent in parents.chain([""]).collect::<BTreeSet<_>>() {
        let graph = among_children(&imports, parent);
        let found = circles(graph.clone());
        let edges: Vec<_> = found.iter().map(|module| (module, graph.get(module))).collect();
        assert!(found.is_empty(), "modules of `{parent}` import each other: {edges:?}");
    }
}

/// Clippy's list of methods knows no difference between tests, which may read any clock, and what they test.
#[test]
fn no_clock_is_read_but_in_its_module() {
    let root = workspace().join("proxy/src");
    for file in files(&root) {
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let is_test = ["tests", "clock.rs"].iter().any(|part| name.contains(part));
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code = code.split("#[cfg(test)]\npub(super) mod tests {").next().unwrap();
        let reads = ["Instant::now()", "SystemTime::now()", "now_utc()"]
            .into_iter()
            .filter(|read| code.contains(read));
        let reads: Vec<_> = reads.filter(|_| !is_test).collect();
        assert!(
            reads.is_empty(),
            "proxy/src/{name} reads {reads:?}; take `now` as an argument, or ask `clock`"
        );
    }
}

#[test]
fn declarations_and_circles_are_found() {
    let text =
        "use std::fmt;\npub use self::{a::A, b::{B as C, D}};\nfn f() -> super::x::Y { crate::z::g() }\n";
    let paths: Vec<_> = named(text).iter().map(|named| (named.path.join("::"), named.is_export)).collect();
    let expected = [("std::fmt", false), ("self::a::A", true), ("self::b::B", true), ("self::b::D", true)];
    let expected = expected.into_iter().chain([("crate::z::g", false), ("super::x::Y", false)]);
    assert_eq!(paths, expected.map(|(path, is_export)| (path.to_owned(), is_export)).collect::<Vec<_>>());
    let graph = |edges: &[(&str, &str)]| -> Graph {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            graph.entry((*to).to_owned()).or_default();
        }
        graph
    };
    assert!(circles(graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    assert_eq!(
        circles(graph(&[("a", "b"), ("b", "a"), ("b", "c")])),
        BTreeSet::from(["a".to_owned(), "b".to_owned()])
    );
}
