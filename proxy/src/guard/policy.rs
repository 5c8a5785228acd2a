//! What the kernel does with names it does not know: by the configuration, and by how complete its names are.

use aya::maps::{Array, MapData, MapError};
use proxy_common::maps::{GuardSettings, Mode, map_names};

use super::{
    error::GuardError,
    maps::failed,
    names_state::{Names, NamesCell},
};
use crate::config::{self, GuardMode};

/// The map `SETTINGS`, kept in step with the configuration and the state of the names.
pub(super) struct Policy {
    map: Array<MapData, GuardSettings>,
    configured: GuardSettings,
    names: NamesCell,
    written: Option<GuardSettings>,
}

impl Policy {
    pub(super) fn new(
        map: Array<MapData, GuardSettings>,
        config: &config::GuardConfig,
        names: NamesCell,
    ) -> Self {
        Self { map, configured: settings(config), names, written: None }
    }

    /// Follows the settings from the next packet on.
    pub(super) fn configure(&mut self, config: &config::GuardConfig) -> Result<(), GuardError> {
        self.configured = settings(config);
        self.write(self.names.get()).map_err(failed(map_names::SETTINGS, "writing"))
    }

    /// Has the next change be written whatever the map holds: somebody else may have written.
    pub(super) fn compare_next(&mut self) {
        self.written = None;
    }

    /// Follows how far the kernel's names are from the domain set.
    pub(super) fn fit(&mut self, names: Names) -> Result<(), MapError> {
        self.write(names)?;
        self.names.set(names);
        Ok(())
    }

    /// What the kernel was told last.
    pub(super) fn in_force(&self) -> GuardSettings {
        self.written.unwrap_or(self.configured)
    }

    /// Whether the mode in force rejects names at all.
    pub(super) fn rejects(&self) -> bool {
        Mode::enforcing(self.in_force().mode).is_some()
    }

    fn write(&mut self, names: Names) -> Result<(), MapError> {
        let settings = in_force(self.configured, names);
        if self.written != Some(settings) {
            self.map.set(0, settings, 0)?;
            self.written = Some(settings);
        }
        Ok(())
    }
}

/// The names of a predecessor may lack some that were added since. Those pass within the budget of unknown
/// names until the lists were read, also where the settings are strict.
fn in_force(configured: GuardSettings, names: Names) -> GuardSettings {
    match names {
        Names::Inherited if configured.mode == Mode::Strict as u32 => {
            GuardSettings { mode: Mode::Adaptive as u32, ..configured }
        }
        Names::Unread | Names::Inherited | Names::Held | Names::Full | Names::Failed => configured,
    }
}

impl From<GuardMode> for Mode {
    fn from(mode: GuardMode) -> Self {
        match mode {
            GuardMode::Observe => Self::Observe,
            GuardMode::Adaptive => Self::Adaptive,
            GuardMode::Strict => Self::Strict,
        }
    }
}

pub(super) fn settings(config: &config::GuardConfig) -> GuardSettings {
    GuardSettings {
        mode: Mode::from(config.mode) as u32,
        unknown_per_second: config.unknown_per_second,
        unknown_burst: config.unknown_burst,
        unknown_per_source_per_second: config.unknown_per_source_per_second,
        unknown_per_source_burst: config.unknown_per_source_burst,
        resets_per_second: config.resets_per_second,
        syns_per_source_per_second: config.syns_per_source_per_second.unwrap_or(0),
        syns_per_source_burst: config.syns_per_source_burst,
        sampled_rejections_per_second: config.sampled_rejections,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_predecessor_are_enforced_as_adaptive_at_most() {
        for (mode, names, expected) in [
            (GuardMode::Strict, Names::Inherited, Mode::Adaptive),
            (GuardMode::Strict, Names::Held, Mode::Strict),
            (GuardMode::Adaptive, Names::Inherited, Mode::Adaptive),
            (GuardMode::Observe, Names::Inherited, Mode::Observe),
        ] {
            let configured = settings(&config::GuardConfig { mode, ..config::GuardConfig::default() });
            let expected = GuardSettings { mode: expected as u32, ..configured };
            assert_eq!(in_force(configured, names), expected, "{mode:?} {names:?}");
        }
    }
}
