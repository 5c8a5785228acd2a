//! What has to be done so that the endpoint group equals the instances in service: a value computed from what is seen.
//! Not here: seeing and doing (`look`); the appliance's own drain, which an instance begins when its metadata says so.
//! Invariants: whatever is lost, doubled or comes late, the next looks make good (`properties`); nothing that serves is put out, as long as
//! endpoints are read before instances (`endpoints_are_read_first`); what leaves waits until its endpoint is out, and then long enough
//! (`nobody_is_terminated_with_an_endpoint`); an answer that lacks all instances puts nobody out.

use std::collections::{BTreeMap, BTreeSet};

/// Like `i-0123456789abcdef0`.
pub(crate) type InstanceId = String;

/// What is seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Read first.
    pub(crate) endpoints: BTreeMap<String, Health>,
    /// None where there is no such group: it is not there yet, or not any more.
    pub(crate) group: Option<Group>,
}

/// The Auto Scaling group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) desired: usize,
    pub(crate) instances: BTreeMap<InstanceId, Lifecycle>,
}

/// What the accelerator finds of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Not checked yet.
    Initial,
    Healthy,
    Unhealthy,
}

/// Where an instance is in its life ("Amazon EC2 Auto Scaling instance lifecycle"), as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// `Pending`: EC2 starts it.
    Starting,
    /// `Pending:Wait`: its hook waits for us.
    Joining,
    /// `Pending:Proceed`, `InService`.
    Serving,
    /// `Terminating:Wait`: its hook waits until it ends by itself.
    Leaving,
    /// On its way out, out, in standby, or in a warm pool.
    Away,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Begin the time of each one's leave hook anew, and put those out of the endpoint group for which that was done.
    Leave(BTreeSet<InstanceId>),
    /// Put these out of the endpoint group.
    Remove(BTreeSet<String>),
    /// Add these to the endpoint group.
    Add(BTreeSet<InstanceId>),
    /// Tell the stack's update that it is well, and then let it be in service: it is not looked at again, and would never be signalled.
    Join(InstanceId),
}

/// What to do, in order, and whether to look again soon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// Instances that join, and are not healthy yet.
    pub(crate) awaited: usize,
    /// Instances that should have an endpoint, and find no room.
    pub(crate) without_room: usize,
    /// Instances in service that the accelerator finds unhealthy. Nothing replaces them, since the group goes by EC2's checks alone.
    pub(crate) unhealthy: Vec<InstanceId>,
}

/// Of an endpoint group ("AWS Global Accelerator endpoints and quotas"). Adjustable, but the stack's limit of instances goes by it.
pub(crate) const MOST_ENDPOINTS: usize = 10;

impl Lifecycle {
    /// Of what the API names it. A state that is not known is none to serve in.
    pub(crate) fn of(state: &str) -> Self {
        match state {
            "Pending" => Self::Starting,
            "Pending:Wait" => Self::Joining,
            "Pending:Proceed" | "InService" => Self::Serving,
            "Terminating:Wait" => Self::Leaving,
            _ => Self::Away,
        }
    }

    fn wants_endpoint(self) -> bool {
        match self {
            Self::Joining | Self::Serving => true,
            Self::Starting | Self::Leaving | Self::Away => false,
        }
    }
}

impl Health {
    /// Of what the API names it.
    pub(crate) fn of(state: Option<&str>) -> Self {
        match state {
            Some("HEALTHY") => Self::Healthy,
            Some("UNHEALTHY") => Self::Unhealthy,
            _ => Self::Initial,
        }
    }
}

impl Plan {
    /// From what is seen.
    pub(crate) fn of(seen: &Seen) -> Self {
        let Some(group) = &seen.group else { return Self::default() };
        let removed = removed(seen, group);
        let room = MOST_ENDPOINTS.saturating_sub(seen.endpoints.len().saturating_sub(removed.len()));
        let missing = missing(seen, group);
        let without_room = missing.len().saturating_sub(room);
        let added: BTreeSet<_> = missing.into_iter().take(room).collect();
        let is_leaving = |id: &String| group.instances.get(id) == Some(&Lifecycle::Leaving);
        let (leaving, gone): (BTreeSet<_>, BTreeSet<_>) = removed.into_iter().partition(is_leaving);
        // What goes makes room.
        let of_endpoints = [Action::Leave(leaving), Action::Remove(gone), Action::Add(added)];
        let mut actions: Vec<_> = of_endpoints.into_iter().filter(|action| !action.is_empty()).collect();
        let joining = group.instances.iter().filter(|(_, state)| **state == Lifecycle::Joining);
        let (well, awaited): (Vec<_>, Vec<_>) =
            joining.map(|(id, _)| id).partition(|id| seen.endpoints.get(*id) == Some(&Health::Healthy));
        actions.extend(well.into_iter().cloned().map(Action::Join));
        let is_unhealthy = |(id, state): &(&InstanceId, &Lifecycle)| {
            **state == Lifecycle::Serving && seen.endpoints.get(*id) == Some(&Health::Unhealthy)
        };
        let unhealthy = group.instances.iter().filter(is_unhealthy).map(|(id, _)| id.clone()).collect();
        Self { actions, awaited: awaited.len(), without_room, unhealthy }
    }

    /// Whether a further look within seconds would find something to do.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.actions.is_empty() || self.awaited > 0 || self.without_room > 0
    }
}

impl Action {
    fn is_empty(&self) -> bool {
        match self {
            Self::Leave(ids) | Self::Remove(ids) | Self::Add(ids) => ids.is_empty(),
            Self::Join(_) => false,
        }
    }
}

/// Endpoints whose instances are to have none. What is no instance is somebody else's, and stays.
fn removed(seen: &Seen, group: &Group) -> BTreeSet<String> {
    if group.instances.is_empty() && group.desired > 0 {
        return BTreeSet::new();
    }
    let ours = seen.endpoints.keys().filter(|id| id.starts_with("i-"));
    let to_go = |id: &&String| group.instances.get(*id).is_none_or(|state| !state.wants_endpoint());
    ours.filter(to_go).cloned().collect()
}

/// Instances that lack an endpoint, those in service first.
fn missing(seen: &Seen, group: &Group) -> Vec<InstanceId> {
    let lacks = |id: &String| !seen.endpoints.contains_key(id);
    let of = |wanted: Lifecycle| {
        let ids = group.instances.iter().filter(move |(id, state)| **state == wanted && lacks(id));
        ids.map(|(id, _)| id.clone())
    };
    of(Lifecycle::Serving).chain(of(Lifecycle::Joining)).collect()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
