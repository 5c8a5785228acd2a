//! The parameter whose value is a layer of settings, and what is known when it is read.

use std::error::Error;

use super::{
    InstanceConfig,
    error::{At, ConfigError},
    parameter_name::ParameterName,
};

/// A parameter to be read, and what the layers below it say about how to reach it.
#[derive(Debug, Clone)]
pub struct ParameterReference {
    /// Which.
    pub name: ParameterName,
    /// `store.region`.
    pub region: Option<String>,
    /// The last source to ask for a region.
    pub instance: InstanceConfig,
    pub(super) at: At,
}

impl ParameterReference {
    /// It cannot be read; `fault` says why, and what to do.
    pub fn unreadable(&self, fault: impl Error + Send + Sync + 'static) -> ConfigError {
        ConfigError::Parameter { at: self.at.clone(), name: self.name.clone(), fault: fault.into() }
    }
}
