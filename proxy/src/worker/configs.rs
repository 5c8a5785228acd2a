//! The certificates that this worker has presented, with their TLS configurations.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use rustls::ServerConfig;

use crate::{
    certificates::{Certificate, Slot},
    config::TlsVersion,
    name::ServerName,
    tls::ServerConfigs,
};

/// A bounded cache, first in first out: a dropped entry costs one look-up in the process's cache.
#[derive(Default)]
pub(super) struct Configs(RefCell<Entries>);

#[derive(Default)]
struct Entries {
    by_name: HashMap<ServerName, ConfigEntry>,
    order: VecDeque<ServerName>,
}

struct ConfigEntry {
    slot: Arc<Slot>,
    certificate: Arc<Certificate>,
    minimum: TlsVersion,
    config: Arc<ServerConfig>,
}

impl Configs {
    /// The configuration for `name` from version `minimum` on, unless its certificate was replaced, withdrawn, or has expired.
    pub(super) fn get(
        &self,
        name: &ServerName,
        minimum: TlsVersion,
        now: SystemTime,
    ) -> Option<Arc<ServerConfig>> {
        let entries = self.0.borrow();
        let entry = entries.by_name.get(name).filter(|entry| entry.minimum == minimum)?;
        let current = entry.slot.current(now)?;
        Arc::ptr_eq(&current, &entry.certificate).then(|| Arc::clone(&entry.config))
    }

    /// Makes and keeps the configuration for what `slot` holds; `None` when that is nothing, or cannot be presented.
    pub(super) fn insert(
        &self,
        name: &ServerName,
        minimum: TlsVersion,
        slot: Arc<Slot>,
        now: SystemTime,
        configs: &ServerConfigs,
    ) -> Option<Arc<ServerConfig>> {
        let certificate = slot.current(now)?;
        let config = configs.serving(name, Arc::clone(&certificate.key), minimum).ok()?;
        let entry = ConfigEntry { slot, certificate, minimum, config: Arc::clone(&config) };
        self.0.borrow_mut().keep(name, entry);
        Some(config)
    }
}

impl Entries {
    fn keep(&mut self, name: &ServerName, entry: ConfigEntry) {
        if self.by_name.insert(name.clone(), entry).is_none() {
            self.order.push_back(name.clone());
        }
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_name.remove(&oldest);
        }
    }
}

/// Names a worker keeps configurations of; about 2 KiB each.
const CAPACITY: usize = 10_000;
