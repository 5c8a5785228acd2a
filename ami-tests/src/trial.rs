//! The run: which machines, in which order which cases, and what came of them.

use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use testbed::gatehouse::Place;

use crate::{
    Arguments,
    cases::{self, Case, Start},
    guest::Guest,
    world::World,
};

/// Boots, runs every case that is asked for, and says what came of each.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut world = World::start(arguments)?;
    if arguments.keep {
        println!("files: {}", world.edge.keep().display());
    }
    let mut record = Record::default();
    let filter = &arguments.filter;
    let wanted =
        |case: &&Case| filter.is_empty() || filter.iter().any(|part| case.name.contains(part.as_str()));
    let began = Instant::now();
    let mut guest = world.boot(Place::A, &world.fleet_settings())?;
    let healthy = world.await_health(Place::A, 200).map_err(|error| error.context(guest.console()));
    let figure = format!("{} MiB of memory, by {}", arguments.memory, arguments.accelerator);
    record.note("a_first_boot_ends_healthy", healthy.map(|()| figure), began.elapsed());
    if record.failed > 0 {
        return record.end();
    }
    guest.await_shell()?;
    guest.run("cloud-init status --wait")?;
    guest.save(SAVED)?;
    for case in cases::ALL.iter().filter(wanted) {
        let began = Instant::now();
        let outcome = perform(case, &world, &mut guest);
        record.note(case.name, outcome, began.elapsed());
    }
    drop(guest);
    record.end()
}

fn perform(case: &Case, world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    if case.start == Start::Saved {
        guest.restore(SAVED)?;
        world.await_health(guest.place, 200)?;
    }
    (case.run)(world, guest).map_err(|error| anyhow!("{error:#}\n{}", guest.testimony()))
}

/// Outcomes of the cases so far.
#[derive(Default)]
struct Record {
    held: usize,
    failed: usize,
}

impl Record {
    fn note(&mut self, name: &str, outcome: anyhow::Result<String>, took: Duration) {
        let (word, detail) = match outcome {
            Ok(detail) => {
                self.held += 1;
                ("ok", detail)
            }
            Err(error) => {
                self.failed += 1;
                ("FAILED", format!("{error:#}"))
            }
        };
        println!("{word:6}  {name} ({} s): {detail}", took.as_secs());
    }

    fn end(self) -> anyhow::Result<()> {
        println!("image: {} passed, {} failed", self.held, self.failed);
        ensure!(self.failed == 0, "{} of {} failed", self.failed, self.held + self.failed);
        Ok(())
    }
}

const SAVED: &str = "healthy";
