//! Which instance of the fleet this is: its EC2 instance's id, or one that is made once for its state directory.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::{error::Unspecified, rand};

use crate::{ec2::InstanceIdentity, hexadecimal::hexadecimal, whole_file};

/// An instance of the fleet. A state directory has one instance at a time: the control socket lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceId(String);

/// It is not known which instance this is.
#[derive(Debug, thiserror::Error)]
pub enum NoInstanceId {
    /// The file of its id.
    #[error("`{path}` cannot be read or written; it holds the id by which this instance is listed")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No random numbers.
    #[error("no random numbers could be had for the id of this instance")]
    Random(#[from] Unspecified),
}

impl InstanceId {
    /// That of `identity`; absent, the one that is kept in `state_directory`, where it is made if it is not there.
    pub fn of(identity: Option<&InstanceIdentity>, state_directory: &Path) -> Result<Self, NoInstanceId> {
        if let Some(identity) = identity {
            return Ok(Self(identity.id.clone()));
        }
        let path = state_directory.join(FILE);
        let unusable = |source| NoInstanceId::File { path: path.clone(), source };
        if let Some(kept) = Self::kept(&path).map_err(unusable)? {
            return Ok(kept);
        }
        let mut bytes = [0; BYTES];
        rand::fill(&mut bytes)?;
        let id = hexadecimal(&bytes);
        whole_file::write(&path, format!("{id}\n").as_bytes(), 0o644).map_err(unusable)?;
        Ok(Self(id))
    }

    fn kept(path: &Path) -> io::Result<Option<Self>> {
        match whole_file::read(path, LONGEST) {
            Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().map(str::trim).and_then(Self::read)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let is_ours = text.len() == BYTES * 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ours.then(|| Self(text.to_owned()))
    }

    /// As it is listed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const FILE: &str = "instance-id";
const BYTES: usize = 8;
/// Whatever somebody wrote there.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_keeps_its_id_and_has_that_of_its_machine_where_there_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let id = || InstanceId::of(None, directory.path()).unwrap();
        let first = id();
        assert_eq!((first.as_str().len(), id()), (16, first.clone()));
        // What is no id of ours would be shown to whoever looks at the list.
        for wrong in ["", "i", "<script>alert(1)"] {
            std::fs::write(directory.path().join(FILE), wrong).unwrap();
            assert_ne!(id(), first, "{wrong}");
            assert_eq!(id(), id());
        }
        let machine = InstanceIdentity {
            id: "i-0123456789abcdef0".into(),
            availability_zone: "eu-central-1a".into(),
            region: "eu-central-1".into(),
            address: None,
        };
        let nowhere = Path::new("/nonexistent");
        assert_eq!(InstanceId::of(Some(&machine), nowhere).unwrap().as_str(), machine.id);
        let told = InstanceId::of(None, nowhere).unwrap_err().to_string();
        assert!(told.starts_with("`/nonexistent/instance-id` cannot be"), "{told}");
    }
}
