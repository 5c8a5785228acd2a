//! Clients while something happens to the instance.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::ensure;

use crate::fixture::{Place, eventually, health};

/// Clients that connect again and again, and want an answer each time.
pub(crate) struct Load {
    going: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Load {
    /// Clients that take an answer with one of `statuses`.
    pub(crate) fn start(place: &Place, statuses: &'static [u16]) -> Self {
        let (going, answered) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let client = |address| {
            let (going, answered) = (Arc::clone(&going), Arc::clone(&answered));
            thread::spawn(move || {
                let mut failed = Vec::new();
                while going.load(Ordering::Relaxed) {
                    match health(address) {
                        Ok(status) if statuses.contains(&status) => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(status) => failed.push(status.to_string()),
                        Err(error) => failed.push(error.to_string()),
                    }
                }
                failed
            })
        };
        let clients = (0..4).map(|_| client(place.http())).collect();
        Self { going, answered, clients }
    }

    /// Waits until requests that begin now have been answered.
    pub(crate) fn answered_once_more(&self) {
        let wanted = self.answered.load(Ordering::Relaxed) + 20;
        eventually(&format!("{wanted} answers"), || {
            let answered = self.answered.load(Ordering::Relaxed);
            ensure!(answered >= wanted, "{answered}");
            Ok(())
        });
    }

    pub(crate) fn end(self) -> (usize, Vec<String>) {
        self.going.store(false, Ordering::Relaxed);
        let failed = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.answered.load(Ordering::Relaxed), failed)
    }
}
