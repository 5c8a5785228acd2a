//! Caddy's files into a table that stumbles, and out again.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    caddy::{Mode, Outcome, Transfer, export, import},
    *,
};
use crate::certificates::keyed_chain::tests::pems;

const FOLDER: &str = "certificates/ca.example-dir";
const DAY: Duration = Duration::from_hours(24);

/// Puts a certificate for `pattern` among the files of `root`.
fn put(root: &Path, pattern: &str, begins: SystemTime) {
    let (chain, key) = pems(&[pattern], begins, DAY * 30);
    let name = pattern.replace('*', "wildcard_");
    fs::create_dir_all(root.join(FOLDER).join(&name)).unwrap();
    let metadata = format!("{{\n\t\"sans\": [\n\t\t\"{pattern}\"\n\t],\n\t\"issuer_data\": null\n}}");
    for (kind, contents) in [("crt", chain), ("key", key), ("json", metadata)] {
        fs::write(root.join(FOLDER).join(&name).join(format!("{name}.{kind}")), contents).unwrap();
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| {
        if path.is_dir() {
            return files(&path);
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        BTreeMap::from([(name, fs::read(path).unwrap())])
    };
    entries.flat_map(below).collect()
}

fn outcomes(transfer: &Transfer) -> Vec<(&str, Outcome)> {
    transfer.items.iter().map(|item| (item.folder.rsplit('/').next().unwrap(), item.outcome)).collect()
}

#[tokio::test]
async fn files_come_back_as_they_were_and_a_newer_one_stays_on_either_side() {
    let fleet = Fleet::new(Some("seed=3,stale=2s,throttle=10,conflict=10,unprocessed=50")).await;
    let (store, config, now) = (fleet.store(), fleet.config.certificates.clone(), SystemTime::now());
    let [ours, theirs] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let names: Vec<_> = (10..30).map(|n| format!("n{n}.example")).collect();
    for pattern in names.iter().map(String::as_str).chain(["*.wide.example"]) {
        put(ours.path(), pattern, now - DAY);
    }
    let dry = import(&store, &config, ours.path(), Mode::DryRun).await.unwrap();
    let done = import(&store, &config, ours.path(), Mode::Write).await.unwrap();
    assert_eq!((outcomes(&dry), dry.count(Outcome::Copied)), (outcomes(&done), 21));
    let in_order: Vec<_> = done.items.iter().map(|item| &item.folder).collect();
    assert!(in_order.is_sorted(), "{in_order:?}");
    assert!(done.warnings[0].contains("`ca.example-dir` are not presented"), "{:?}", done.warnings);

    let exported = export(&store, theirs.path(), Mode::DryRun).await.unwrap();
    assert!(exported.count(Outcome::Copied) == 21 && fs::read_dir(theirs.path()).unwrap().count() == 0);
    export(&store, theirs.path(), Mode::Write).await.unwrap();
    assert_eq!(files(theirs.path()), files(ours.path()));

    put(theirs.path(), "n11.example", now);
    put(ours.path(), "n12.example", now - DAY * 2);
    let newer = files(theirs.path());
    let exported = export(&store, theirs.path(), Mode::Write).await.unwrap();
    assert_eq!(exported.count(Outcome::Unchanged), 20);
    assert!(outcomes(&exported).contains(&("n11.example", Outcome::Kept)), "{exported:?}");
    assert_eq!(files(theirs.path()), newer);
    let imported = import(&store, &config, ours.path(), Mode::Write).await.unwrap();
    assert!(outcomes(&imported).contains(&("n12.example", Outcome::Kept)), "{imported:?}");
    let imported = import(&store, &config, theirs.path(), Mode::Write).await.unwrap();
    assert_eq!(imported.count(Outcome::Unchanged), 20);
    assert!(outcomes(&imported).contains(&("n11.example", Outcome::Copied)), "{imported:?}");
}
