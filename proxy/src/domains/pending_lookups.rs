//! One look-up at a time for a name; who comes meanwhile waits for its answer.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

use super::Permission;
use crate::name::ServerName;

/// Look-ups in the air. Bounded by the budget that admits leaders and the time a look-up may take.
#[derive(Default)]
pub(super) struct PendingLookups(Mutex<HashMap<ServerName, watch::Receiver<Option<Permission>>>>);

/// What is expected of who asks.
pub(super) enum Role<'a> {
    Lead(PendingLookup<'a>),
    Follow(watch::Receiver<Option<Permission>>),
}

/// A look-up under way; dropped without an answer, its followers learn that there is none.
pub(super) struct PendingLookup<'a> {
    flights: &'a PendingLookups,
    name: ServerName,
    answer: watch::Sender<Option<Permission>>,
}

impl PendingLookups {
    /// Follows the look-up of `name` that is under way, or leads one if `admit` lets.
    pub(super) fn join<R>(
        &self,
        name: &ServerName,
        admit: impl FnOnce() -> Result<(), R>,
    ) -> Result<Role<'_>, R> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match flights.entry(name.clone()) {
            Entry::Occupied(flight) => Ok(Role::Follow(flight.get().clone())),
            Entry::Vacant(place) => {
                admit()?;
                let (answer, follow) = watch::channel(None);
                place.insert(follow);
                Ok(Role::Lead(PendingLookup { flights: self, name: name.clone(), answer }))
            }
        }
    }
}

impl PendingLookup<'_> {
    /// Tells all followers.
    pub(super) fn land(self, permission: Permission) {
        self.answer.send_replace(Some(permission));
    }
}

impl Drop for PendingLookup<'_> {
    fn drop(&mut self) {
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::domains::Denial;

    #[tokio::test]
    async fn who_comes_meanwhile_follows_and_a_lost_leader_is_noticed() {
        let (flights, name) = (PendingLookups::default(), ServerName::parse("a.example").unwrap());
        let admit = || Ok::<(), Infallible>(());
        for lands in [true, false] {
            let Ok(Role::Lead(flight)) = flights.join(&name, admit) else { panic!("the first leads") };
            let Ok(Role::Follow(mut follow)) = flights.join(&name, admit) else {
                panic!("the second follows")
            };
            if lands {
                flight.land(Permission::Deny(Denial::Foreign));
            } else {
                drop(flight);
            }
            assert_eq!(follow.wait_for(Option::is_some).await.is_ok(), lands);
        }
        assert!(flights.join(&name, || Err(())).is_err(), "a leader needs admission");
    }
}
