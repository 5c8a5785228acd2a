//! An instance at work on what is due: claims it name by name, and does it, some names at once.
//! Not here: what is due and what is done with it, which is the same for renewals and for questions to CAs; in which order (`queue`).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::task::{self, JoinSet};

use super::queue::{Lane, Next, Queue};
use crate::{
    certificates::{failure, metrics::Claimed},
    clock, random,
    store::{
        StoreError,
        state_table::{Due, DuePage, DueStart},
    },
};

/// How many names the issuers' budgets allow to be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    /// So many, of this issuer; they are paid for.
    Paid { issuer: usize, count: u64 },
    /// One, or as many as the issuer likes: each asks for itself.
    Unpaid { count: u64 },
    /// None before this.
    Until(SystemTime),
}

/// What is done with names that are due; how instances share them, and the order of the work, are the same for all.
pub(super) trait DueWork: Send + Sync + 'static {
    /// What a claim gives.
    type Claim: Send + 'static;

    /// A part of what is due in `shard` until `now`.
    fn due(
        &self,
        shard: u8,
        now: SystemTime,
        start: Option<&DueStart>,
    ) -> impl Future<Output = Result<DuePage, StoreError>> + Send;
    /// Claims it until `until`; with how often the work on it has failed before.
    fn claim(
        &self,
        due: &Due,
        until: SystemTime,
    ) -> impl Future<Output = Result<Option<(Self::Claim, u32)>, StoreError>> + Send;
    /// How long a name is claimed.
    fn claim_life(&self) -> Duration;
    fn allow(
        &self,
        count: u64,
        now: SystemTime,
    ) -> impl Future<Output = Result<Allowance, StoreError>> + Send;
    fn give_back(&self, issuer: usize, count: u64) -> impl Future<Output = ()> + Send;
    fn count(&self, claimed: Claimed);
    /// Does what is to be done with what was claimed; `paid` is the issuer whose budget was charged.
    fn carry_out(self: Arc<Self>, claim: Self::Claim, paid: Option<usize>)
    -> impl Future<Output = ()> + Send;
}

/// An instance at work on what is due.
pub(super) struct Round<W> {
    work: Arc<W>,
    queue: Queue,
    under_way: JoinSet<()>,
    /// Whose room each of them takes: one that panics says nothing.
    lanes: HashMap<task::Id, Lane>,
    paid: Option<usize>,
    /// No budget and no issuer allows anything before this, or it is asked again then.
    resume_at: SystemTime,
}

impl<W: DueWork> Round<W> {
    pub(super) fn new(work: Arc<W>) -> Self {
        Self {
            work,
            queue: Queue::default(),
            under_way: JoinSet::new(),
            lanes: HashMap::new(),
            paid: None,
            resume_at: SystemTime::UNIX_EPOCH,
        }
    }

    /// Works until nothing is due that could be claimed. Renewals may be under way still.
    ///
    /// # Cancel safety
    /// What was claimed is due again when its claim ends.
    pub(super) async fn work_off(&mut self) -> Result<(), StoreError> {
        // A date that a wrong clock has made holds nothing up for long.
        while !failure::is_ahead(self.resume_at, clock::wall()) {
            self.pass().await?;
            if self.queue.claimed() == 0 {
                break;
            }
        }
        Ok(())
    }

    pub(super) async fn pass(&mut self) -> Result<(), StoreError> {
        self.queue.begin(clock::wall(), random::fraction);
        let ended = loop {
            self.reap();
            let step = self.queue.next();
            match step {
                Next::End => break Ok(()),
                Next::Await => self.await_one().await,
                step => {
                    if let Err(error) = self.take(step).await {
                        break Err(error);
                    }
                }
            }
        };
        let unused = self.queue.take_unused();
        if let Some(issuer) = self.paid.filter(|_| unused > 0) {
            self.work.give_back(issuer, unused).await;
        }
        ended
    }

    async fn take(&mut self, step: Next) -> Result<(), StoreError> {
        let now = clock::wall();
        match step {
            Next::Read { shard, start } => {
                let page = self.work.due(shard, now, start.as_ref()).await?;
                self.queue.read(page, random::fraction());
            }
            Next::Ask(count) => {
                let (paid, count) = match self.work.allow(count, now).await? {
                    Allowance::Paid { issuer, count } => (Some(issuer), count),
                    Allowance::Unpaid { count } => (None, count),
                    Allowance::Until(until) => {
                        // Of a budget or a pause that ends earlier nobody tells.
                        self.resume_at = until.min(now + ASKED_AGAIN);
                        (None, 0)
                    }
                };
                self.paid = paid;
                self.queue.allow(count);
            }
            Next::Claim(due) => self.claim(&due, now).await?,
            Next::Await | Next::End => {}
        }
        Ok(())
    }

    async fn claim(&mut self, due: &Due, now: SystemTime) -> Result<(), StoreError> {
        let until = now + self.work.claim_life();
        let Some((claim, failures)) = self.work.claim(due, until).await? else {
            self.work.count(Claimed::Lose);
            self.queue.lose();
            return Ok(());
        };
        self.work.count(Claimed::Take);
        if let Some(lane) = self.queue.claim(due, until.min(now + SHOWN), failures) {
            let (work, paid) = (Arc::clone(&self.work), self.paid);
            let begun = self.under_way.spawn(async move { work.carry_out(claim, paid).await });
            self.lanes.insert(begun.id(), lane);
        }
        Ok(())
    }

    fn reap(&mut self) {
        while let Some(ended) = self.under_way.try_join_next_with_id() {
            self.ended(ended);
        }
    }

    async fn await_one(&mut self) {
        if let Some(ended) = self.under_way.join_next_with_id().await {
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Result<(task::Id, ()), task::JoinError>) {
        let id = ended.map_or_else(|panicked| panicked.id(), |(id, ())| id);
        if let Some(lane) = self.lanes.remove(&id) {
            self.queue.end(lane);
        }
    }

    /// Waits until all renewals under way have ended.
    #[cfg(test)]
    pub(super) async fn settle(&mut self) {
        while !self.under_way.is_empty() {
            self.await_one().await;
        }
    }
}

/// After how long it is asked again whether anything is allowed.
const ASKED_AGAIN: Duration = Duration::from_mins(10);
/// Much longer than the index may show what was claimed as it was before.
const SHOWN: Duration = Duration::from_mins(10);
