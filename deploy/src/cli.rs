//! The commands, and what they print. Exit codes: 0 done or healthy, 1 failed, refused or unhealthy, 2 wrong usage.

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::{
    aws::{Aws, Signed, error_chain},
    execute::Execution,
    found::Found,
    look,
    plan::{self, Plan, Purpose, Refusal, Removal},
    status::Status,
    wanted::{Region, Stage, Wanted, WantedError},
};

/// Reads the program's arguments and does what they say.
pub async fn command() -> ExitCode {
    match Arguments::parse().command.run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", error_chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<ExitCode, Box<dyn Error>>;

#[derive(Parser)]
#[command(
    name = "gatehouse-deploy",
    version,
    about = "Deploys, updates and removes a fleet of Gatehouse on AWS"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what `deploy` would do; changes nothing
    Plan {
        #[command(flatten)]
        fleet: Fleet,
        /// Without an account: as from nothing
        #[arg(long)]
        offline: bool,
    },
    /// Make what is missing, change what differs; harmless to repeat
    Deploy {
        #[command(flatten)]
        rollout: Rollout,
        /// The stage's name once more: what customers' domains point to will be lost, as a refusal has said
        #[arg(long, value_name = "STAGE")]
        confirm: Option<String>,
    },
    /// Change the fleets that are there, one region after the other; stops where one turns back
    Update {
        #[command(flatten)]
        rollout: Rollout,
        /// The image that bears this version in each region, whatever the fleet's file says; refused where a region has none, or several
        #[arg(long, value_name = "VERSION")]
        image_version: Option<String>,
    },
    /// Remove regions, or the whole stage
    Remove {
        #[command(flatten)]
        fleet: Fleet,
        /// Everything but the tables, in all regions
        #[arg(long, conflicts_with = "region", required_unless_present_any = ["region", "failed"])]
        all: bool,
        /// Stacks whose creation failed, with the tables and the key that they left; nothing that ever worked
        #[arg(long, conflicts_with_all = ["region", "all", "with_data"])]
        failed: bool,
        /// The tables, too, with all domains and certificates
        #[arg(long, conflicts_with = "region")]
        with_data: bool,
        /// The stage's name once more: static addresses, or tables with their data, will be lost
        #[arg(long, value_name = "STAGE")]
        confirm: Option<String>,
        /// Print the steps, change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Write manual pages, one per command, into a folder
    #[command(hide = true)]
    Man {
        /// It has to be there
        #[arg(value_name = "PATH")]
        folder: PathBuf,
    },
    /// Print how the fleet is; exit code 1 unless all is known and well
    Status {
        #[command(flatten)]
        fleet: Fleet,
        /// How long a region may take to say what there is; one that does not counts as a fault, and holds up no other
        #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
        within: u64,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Rollout {
    #[command(flatten)]
    fleet: Fleet,
    /// Print the steps, change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Which fleet.
#[derive(Args)]
struct Fleet {
    /// Its name: a letter, then letters and digits
    #[arg(long)]
    stage: String,
    /// Its description [default: fleet-<stage>.toml]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// These regions of it alone
    #[arg(long, value_delimiter = ',')]
    region: Vec<String>,
    /// An API in the place of AWS's
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL", hide = true)]
    endpoint_url: Option<String>,
    /// Milliseconds between two looks
    #[arg(long, default_value_t = 5_000, hide = true)]
    pause: u64,
}

impl Fleet {
    /// What is wanted, and the regions that were named.
    fn read(&self) -> Result<(Wanted, Vec<Region>), Box<dyn Error>> {
        let stage = Stage::parse(&self.stage)?;
        let regions = self.region.iter().map(|name| Region::parse(name)).collect::<Result<Vec<_>, _>>()?;
        Ok((Wanted::read(stage, &self.path())?, regions))
    }

    fn path(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| PathBuf::from(format!("fleet-{}.toml", self.stage)))
    }

    fn endpoint(&self) -> Result<Option<String>, WantedError> {
        let Some(url) = self.endpoint_url.as_deref().filter(|url| !url.is_empty()) else { return Ok(None) };
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let has_host = rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_alphanumeric()));
        if has_host { Ok(Some(url.to_owned())) } else { Err(WantedError::Endpoint(url.to_owned())) }
    }

    async fn aws(&self, wanted: &Wanted) -> Result<Aws, Box<dyn Error>> {
        let aws = self.connect().await?;
        tell_account(&aws.account(&wanted.home).await?, wanted);
        Ok(aws)
    }

    async fn connect(&self) -> Result<Aws, Box<dyn Error>> {
        let signed = Signed::from_environment(self.endpoint()?).await?;
        Ok(Aws::new(signed, Duration::from_millis(self.pause)))
    }

    async fn roll_out(&self, purpose: Purpose, confirmed: Option<&str>, dry_run: bool) -> Outcome {
        let (wanted, regions) = self.read()?;
        self.roll_out_as(&wanted.only(&regions)?.confirmed(confirmed), purpose, dry_run).await
    }

    /// Updates to the image of `version`, and says what the file has to say then.
    async fn update_to(&self, version: &str, dry_run: bool) -> Outcome {
        let (wanted, regions) = self.read()?;
        let wanted = wanted.only(&regions)?;
        let edits = wanted.edits_for(version);
        let code = self.roll_out_as(&wanted.with_image_version(version)?, Purpose::Update, dry_run).await?;
        if code == ExitCode::SUCCESS && !dry_run {
            for edit in edits {
                eprintln!("{}: {edit}", self.path().display());
            }
        }
        Ok(code)
    }

    async fn roll_out_as(&self, wanted: &Wanted, purpose: Purpose, dry_run: bool) -> Outcome {
        let aws = self.aws(wanted).await?;
        let found = look::for_rollout(&aws, wanted, purpose).await?;
        match plan::deploy(wanted, &found, purpose) {
            Ok(plan) => carry_out(aws, wanted, &found, plan, dry_run).await,
            Err(refused) => Ok(refuse(&refused)),
        }
    }

    fn offline(&self) -> Outcome {
        let (wanted, regions) = self.read()?;
        let wanted = wanted.only(&regions)?;
        match plan::deploy(&wanted, &Found::default(), Purpose::Deploy) {
            Ok(plan) => print(&plan, &wanted),
            Err(refused) => return Ok(refuse(&refused)),
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn remove(&self, removal: impl FnOnce(Vec<Region>) -> Removal, dry_run: bool) -> Outcome {
        let (wanted, regions) = self.read()?;
        let aws = self.aws(&wanted).await?;
        let found = look::for_stacks(&aws, &wanted, &regions).await?;
        tell_denied(found.denied.iter());
        let removal = removal(regions);
        let plan = match plan::remove(&wanted, &found, &removal) {
            Ok(plan) => plan,
            Err(refused) => return Ok(refuse(&refused)),
        };
        let code = carry_out(aws.clone(), &wanted, &found, plan, dry_run).await?;
        if !dry_run {
            left(&aws, &wanted).await?;
        }
        Ok(code)
    }

    async fn status(&self, within: Duration, json: bool) -> Outcome {
        let (wanted, regions) = self.read()?;
        let wanted = wanted.only(&regions)?;
        let aws = self.connect().await?;
        let account = tokio::time::timeout(within, aws.account(&wanted.home));
        let status = Status::look(&aws, &wanted, !regions.is_empty(), within);
        let (account, status) = tokio::join!(account, status);
        match account {
            Ok(Ok(account)) => tell_account(&account, &wanted),
            // Wrong credentials, for instance.
            Ok(Err(fault)) if !fault.passes => return Err(fault.into()),
            // The home region is in trouble, of which the status tells.
            Ok(Err(_)) | Err(_) => tell_account("not known", &wanted),
        }
        tell_denied(status.denied());
        if json {
            println!("{:#}", status.json());
        } else {
            print!("{}", status.table());
        }
        Ok(if status.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Command {
    async fn run(self) -> Outcome {
        match self {
            Self::Plan { fleet, offline: true } => fleet.offline(),
            Self::Plan { fleet, offline: false } => fleet.roll_out(Purpose::Deploy, None, true).await,
            Self::Deploy { rollout: Rollout { fleet, dry_run }, confirm } => {
                fleet.roll_out(Purpose::Deploy, confirm.as_deref(), dry_run).await
            }
            Self::Update { rollout: Rollout { fleet, dry_run }, image_version } => match image_version {
                Some(version) => fleet.update_to(&version, dry_run).await,
                None => fleet.roll_out(Purpose::Update, None, dry_run).await,
            },
            Self::Remove { fleet, all, failed, with_data, confirm: confirmed, dry_run } => {
                let removal = |regions| match (all, failed) {
                    (true, _) => Removal::All { with_data, confirmed },
                    (false, true) => Removal::Failed { confirmed },
                    (false, false) => Removal::Regions(regions),
                };
                fleet.remove(removal, dry_run).await
            }
            Self::Man { folder } => {
                clap_mangen::generate_to(Arguments::command(), folder)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Status { fleet, within, json } => fleet.status(Duration::from_secs(within), json).await,
        }
    }
}

async fn carry_out(aws: Aws, wanted: &Wanted, found: &Found, plan: Plan, dry_run: bool) -> Outcome {
    print(&plan, wanted);
    if !dry_run && !plan.is_empty() {
        Execution::new(aws, wanted, found).run(plan).await?;
        println!("done");
    }
    Ok(ExitCode::SUCCESS)
}

fn print(plan: &Plan, wanted: &Wanted) {
    if plan.is_empty() {
        println!("nothing to do: everything is as wanted");
    }
    for (number, wave) in (1..).zip(&plan.waves) {
        for step in wave {
            println!("{number}. {}: {}", step.region(), step.sentence(&wanted.stage));
        }
    }
}

fn tell_account(account: &str, wanted: &Wanted) {
    eprintln!("account {account}, stage {}", wanted.stage);
}

/// Says where nobody looked: what there is, a removal leaves, and a status does not tell.
fn tell_denied<'a>(regions: impl Iterator<Item = &'a Region>) {
    let denied: Vec<_> = regions.map(Region::as_str).collect();
    if !denied.is_empty() {
        eprintln!("not looked at, since access is denied: {}", denied.join(" "));
    }
}

fn refuse(refused: &[Refusal]) -> ExitCode {
    for refusal in refused {
        eprintln!("refused: {refusal}");
    }
    eprintln!("nothing was changed");
    ExitCode::FAILURE
}

/// Counts what there still is of the stage, since it may cost something.
async fn left(aws: &Aws, wanted: &Wanted) -> Result<(), Box<dyn Error>> {
    let found = look::for_stacks(aws, wanted, &[]).await?;
    let mut left: Vec<_> = found.stacks.keys().map(ToString::to_string).collect();
    for kind in ["certificates", "domains", "state"] {
        let name = format!("gatehouse-{}-{kind}", wanted.stage);
        if aws.has_table(&wanted.home, &name).await? {
            left.push(format!("table {name} in {}", wanted.home));
        }
    }
    let keys = aws.keys(&wanted.home, &wanted.stage).await?;
    left.extend(keys.iter().map(|key| format!("key {key}")));
    let name = format!("gatehouse-{}", wanted.stage);
    let accelerators = aws.accelerator_names().await?;
    left.extend(accelerators.into_iter().filter(|one| *one == name).map(|one| format!("accelerator {one}")));
    for one in &left {
        println!("left: {one}");
    }
    println!("{} left", left.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn each_command_of_an_operators_has_a_manual_page() {
        let folder = tempfile::tempdir().unwrap();
        let words = ["gatehouse-deploy".as_ref(), "man".as_ref(), folder.path().as_os_str()];
        assert_eq!(Arguments::parse_from(words).command.run().await.unwrap(), ExitCode::SUCCESS);
        let pages = std::fs::read_dir(folder.path()).unwrap();
        let pages: BTreeSet<_> = pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
        let commands = ["plan", "deploy", "update", "remove", "status"];
        let wanted = commands.iter().map(|command| format!("gatehouse-deploy-{command}.1"));
        assert_eq!(pages, wanted.chain(["gatehouse-deploy.1".to_owned()]).collect());
    }
}
