//! One link: the attachment of a program to an interface, pinned, so that it outlives the process.
//! Not here: which interfaces have which links (`attach`).
//! Invariant: an attachment without a link is undone (`a_second_start_adopts_maps_link_names_and_counters`).

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use aya::programs::{
    Xdp, XdpMode,
    links::{FdLink, LinkInfo, PinnedLink},
    xdp::{XdpLink, XdpLinkId},
};
use nix::errno::Errno;

use super::{
    error::{GuardError, errno},
    interface::Interface,
    pins::Removal,
};
use crate::{clock, config::Attach};

/// Attaches by a new link, which is pinned.
pub(super) fn create_pinned(
    program: &mut Xdp,
    interface: &Interface,
    mode: Attach,
    path: &Path,
    removal: Removal,
) -> Result<(), GuardError> {
    let deadline = clock::now() + if removal == Removal::Underway { REMOVAL } else { Duration::ZERO };
    let link = create_by(deadline, program, interface, mode)?;
    link.pin(path).map(drop).map_err(|error| pin_failed(path, &error))
}

/// What the kernel says of a pinned link; none when there is no such pin.
pub(super) fn link_info(path: &Path) -> Option<LinkInfo> {
    FdLink::from(PinnedLink::from_pin(path).ok()?).info().ok()
}

/// Makes a pinned link run `program`.
pub(super) fn replace(program: &mut Xdp, interface: &Interface, path: &Path) -> Result<(), GuardError> {
    let link = PinnedLink::from_pin(path)
        .and_then(|pinned| XdpLink::try_from(FdLink::from(pinned)))
        .map_err(|error| pin_failed(path, &error))?;
    program.attach_to_link(link).map(drop).map_err(|error| refused(interface, &error))
}

/// Attaches, waiting until `deadline` for a link of ours that the kernel is removing.
fn create_by(
    deadline: Instant,
    program: &mut Xdp,
    interface: &Interface,
    mode: Attach,
) -> Result<FdLink, GuardError> {
    loop {
        match create(program, interface, mode) {
            Err(GuardError::Occupied { .. }) if clock::now() < deadline => thread::park_timeout(PAUSE),
            done => return done,
        }
    }
}

fn create(program: &mut Xdp, interface: &Interface, mode: Attach) -> Result<FdLink, GuardError> {
    let mode = match mode {
        Attach::Native => XdpMode::Driver,
        Attach::Generic => XdpMode::Skb,
    };
    let attach = |program: &mut Xdp| {
        program.attach_to_if_index(interface.index, mode).map_err(|error| refused(interface, &error))
    };
    let id = attach(program)?;
    if let Some(link) = take(program, id) {
        return Ok(link);
    }
    // aya falls back to netlink without a word when the kernel answers EINVAL to a link. Such an attachment can be neither
    // pinned nor updated, and taking it has left it behind: the same again is one that can be undone.
    let id = attach(program)?;
    program.detach(id).map_err(|error| refused(interface, &error))?;
    Err(GuardError::NoLink { interface: interface.name.clone() })
}

fn take(program: &mut Xdp, id: XdpLinkId) -> Option<FdLink> {
    program.take_link(id).ok()?.try_into().ok()
}

fn refused(interface: &Interface, error: &(dyn std::error::Error + 'static)) -> GuardError {
    interface.refusal(errno(error).unwrap_or(Errno::UnknownErrno))
}

pub(super) fn pin_failed(path: &Path, error: &(dyn std::error::Error + 'static)) -> GuardError {
    GuardError::PinPath { path: path.to_owned(), source: into_io(error) }
}

fn into_io(error: &(dyn std::error::Error + 'static)) -> std::io::Error {
    errno(error).map_or_else(|| std::io::Error::other(error.to_string()), std::io::Error::from)
}

/// How long the kernel may take to remove a link whose pin is gone.
const REMOVAL: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);
