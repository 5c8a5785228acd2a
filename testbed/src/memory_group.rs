//! A cgroup that bounds the memory of what is put into it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// A group of its own at the top of the hierarchy; dropped once its processes have ended.
#[derive(Debug)]
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Makes the group `name`, whose processes are killed beyond `bytes`.
    pub fn create(name: &str, bytes: u64) -> anyhow::Result<Self> {
        // cgroups(7): the memory controller has a hierarchy of its own in version 1, where there is one.
        let (root, limit) =
            if Path::new(V1).exists() { (V1, "memory.limit_in_bytes") } else { (V2, "memory.max") };
        let group = Self(Path::new(root).join(format!("{name}-{}", std::process::id())));
        fs::create_dir(&group.0)
            .with_context(|| format!("no cgroup {}: root is needed", group.0.display()))?;
        let limit = group.0.join(limit);
        fs::write(&limit, bytes.to_string())
            .with_context(|| format!("{}: is the memory controller enabled?", limit.display()))?;
        Ok(group)
    }

    /// Puts a process into it, with what it allocates from now on.
    pub fn add(&self, process: u32) -> anyhow::Result<()> {
        let processes = self.0.join("cgroup.procs");
        fs::write(&processes, process.to_string()).with_context(|| processes.display().to_string())
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";
