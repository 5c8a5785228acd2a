//! Keeps the keys of session tickets in step with the state table, and makes the process's own.
//! Not here: which key is due and which one seals (`tls::tickets`), the item (`store::state_table::ticket_keys`).
//! Invariants: a table that does not answer changes nothing that is known; of instances that replace the keys at once one does, and the
//! others read what it wrote (`instances_that_start_together_share_one_key`).

use std::time::Duration;

use tracing::{info, warn};

use crate::{
    clock, config, random,
    store::{Store, StoreError, state_table::ticket_keys::StoredKeys},
    telemetry::{admit_line, error_chain},
    tls::tickets::{Rotation, RotationStep, TicketKey, TicketKeys, TicketKeysError},
};

/// The keys of this process, and the table in which some are shared.
pub(super) struct SessionTickets {
    keys: TicketKeys,
    rotation: Rotation,
    shared_in: Option<Store>,
}

/// Why the keys that are known stay.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Keys(#[from] TicketKeysError),
}

impl SessionTickets {
    /// Reads the keys once, so that sessions of before the start resume; where that takes longer than a call to the table may, the
    /// start goes on without.
    pub(super) async fn start(config: &config::TlsConfig, store: &Store, keys: TicketKeys) -> Self {
        let period = *config.ticket_key_period;
        let shared_in = config.share_tickets.then(|| store.clone());
        let tickets = Self { keys, rotation: Rotation::shared(period), shared_in };
        let _ = tokio::time::timeout(START_PATIENCE, tickets.refresh()).await;
        tickets
    }

    /// Goes on for ever.
    pub(super) async fn follow(self) {
        loop {
            tokio::time::sleep(self.pause()).await;
            self.refresh().await;
        }
    }

    fn pause(&self) -> Duration {
        let known = self.keys.shared();
        match self.shared_in {
            Some(_) => self.rotation.pause(&known, clock::wall(), random::fraction()),
            None => self.rotation.pause_of_local(),
        }
    }

    async fn refresh(&self) {
        self.keys.drop_expired();
        let local = self.keys.rotate_local().map_err(RefreshError::from);
        let shared = match &self.shared_in {
            Some(store) => self.refresh_shared(store).await,
            None => Ok(()),
        };
        for error in [local.err(), shared.err()].into_iter().flatten() {
            tell(&error);
        }
    }

    /// Reads the keys, and replaces them if that is due; whoever loses reads again.
    async fn refresh_shared(&self, store: &Store) -> Result<(), RefreshError> {
        for _ in 0..MOST_TRIES {
            let found = StoredKeys::find(store).await?;
            // They are in force even if they cannot be replaced.
            self.keys.share(found.keys.clone());
            let now = clock::wall();
            let RotationStep::Publish { seals_from, seals_until, opens_until } =
                self.rotation.step(&found.keys, now)
            else {
                return Ok(());
            };
            let key = TicketKey::random(seals_from, seals_until, opens_until);
            let next = found.keys.followed_by(key.map_err(|_| TicketKeysError::Random)?, now);
            if found.replace(store, &next).await? {
                info!("published a key for the session tickets of the fleet");
                self.keys.share(next);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A table that does not answer is warned of by whoever reads it more often, and costs nothing here but resumption elsewhere.
fn tell(error: &RefreshError) {
    let Some(left_out) = admit_line("ticket_keys", "") else { return };
    let cause = error_chain(error);
    match error {
        RefreshError::Store(_) => {
            info!(
                error = cause,
                left_out, "the fleet's keys of session tickets could not be read or replaced"
            );
        }
        RefreshError::Keys(_) => {
            warn!(
                error = cause,
                left_out, "no key for session tickets could be made; sessions do not resume"
            );
        }
    }
}

/// Others may win as often as this; then what they wrote is read at the next turn.
const MOST_TRIES: usize = 3;
const START_PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use prometheus::Registry;

    use super::*;
    use crate::{
        store::{Engine, tables},
        tls::tickets::KeySet,
    };

    async fn fleet(config: &config::TlsConfig) -> (SessionTickets, SessionTickets) {
        let engine = Engine::in_memory().unwrap();
        let store = || Store::on(engine.clone(), &config::StoreConfig::default());
        tables::create(&store()).await.unwrap();
        let keys = || TicketKeys::new(*config.ticket_key_period, &Registry::new()).unwrap();
        let (one, other) = (store(), store());
        tokio::join!(
            SessionTickets::start(config, &one, keys()),
            SessionTickets::start(config, &other, keys())
        )
    }

    #[tokio::test]
    async fn instances_that_start_together_share_one_key() {
        let (one, other) = fleet(&config::TlsConfig::default()).await;
        one.refresh().await;
        other.refresh().await;
        let known = one.keys.shared();
        assert_eq!((known.iter().count(), &known), (1, &other.keys.shared()));
        let soon = SystemTime::now() + Duration::from_mins(2);
        assert!(known.sealing(SystemTime::now()).is_none(), "it seals before the other can know it");
        assert!(known.sealing(soon).is_some());
    }

    #[tokio::test]
    async fn nothing_is_shared_where_that_is_off() {
        let config = config::TlsConfig { share_tickets: false, ..Default::default() };
        let (one, other) = fleet(&config).await;
        assert_eq!((&*one.keys.shared(), &*other.keys.shared()), (&KeySet::default(), &KeySet::default()));
    }

    #[tokio::test]
    async fn a_table_that_does_not_answer_takes_no_key_away() {
        let (one, _) = fleet(&config::TlsConfig::default()).await;
        let config = config::StoreConfig {
            endpoint: config::Endpoint::Url("http://127.0.0.1:9".to_owned()),
            ..Default::default()
        };
        let source = crate::ec2::IdentitySource::Off;
        let down = Store::connect(&config, &source, std::path::Path::new("unused")).await.unwrap();
        let known = one.keys.shared();
        let one = SessionTickets { shared_in: Some(down), ..one };
        assert!(one.refresh_shared(one.shared_in.as_ref().unwrap()).await.is_err());
        assert_eq!(known, one.keys.shared());
    }
}
