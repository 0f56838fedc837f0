//! What the client tells the server of its WANs: the user's wishes, and links that the operating system saw go.
//!
//! A status goes over its own path. That a link is gone is told over the others, at once: the server would find out by
//! itself, but only when answers are overdue.

use super::path::{Carried, Path};
use super::{Session, Side};
use crate::ids::PathId;
use crate::settings::{Mode, WanSettings};
use crate::time::Instant;
use crate::wire::frame::{self, WanStatus};

/// Departures that are remembered until the server knows; it finds others out by itself.
const MOST_DEPARTED: usize = 16;
/// Bytes that a status may take.
const STATUS_ROOM: usize = 16;

/// A path that the client gave up.
#[derive(Debug)]
pub(super) struct Departed {
    status: WanStatus,
    /// It waits to be sent, for the first time or again.
    wanted: bool,
}

impl Path {
    fn wan_status(&self, mode: Mode) -> WanStatus {
        WanStatus {
            path: self.id,
            sequence: self.status_number,
            priority: self.settings.priority,
            limit_down: self.settings.limit_down,
            metered: self.settings.metered,
            gone: self.link_gone,
            mode,
        }
    }
}

impl Session {
    /// A path is removed: to the server it is as if its link were gone.
    pub(super) fn note_departure(&mut self, path: &Path) {
        if self.side == Side::Server {
            return;
        }
        if self.departed.len() == MOST_DEPARTED {
            self.departed.remove(0);
        }
        let mut status = path.wan_status(self.mode);
        status.gone = true;
        status.sequence = status.sequence.wrapping_add(1);
        self.departed.push(Departed { status, wanted: true });
    }

    /// Writes the statuses that go over this path. True if there was one.
    pub(super) fn write_statuses(
        &mut self,
        now: Instant,
        index: usize,
        end: usize,
        out: &mut Vec<u8>,
        carried: &mut Carried,
    ) -> bool {
        if self.side == Side::Server {
            return false;
        }
        let before = carried.statuses.len();
        let usable = self.views[index].usable;
        let mode = self.mode;
        for (other, path) in self.paths.iter_mut().enumerate() {
            let here = if path.link_gone { usable } else { other == index };
            if !path.status_wanted || !here || out.len() + STATUS_ROOM > end {
                continue;
            }
            if path.link_gone
                && let Some(ack) = path.received.frame(now)
            {
                // What came over it before needs not be sent again.
                frame::write_ack(out, &ack, end.saturating_sub(out.len() + STATUS_ROOM));
            }
            path.status_wanted = false;
            carried.statuses.push((path.id, path.status_number));
            frame::write_wan_status(out, &path.wan_status(mode));
        }
        for departed in &mut self.departed {
            if departed.wanted && usable && out.len() + STATUS_ROOM <= end {
                departed.wanted = false;
                carried
                    .statuses
                    .push((departed.status.path, departed.status.sequence));
                frame::write_wan_status(out, &departed.status);
            }
        }
        carried.statuses.len() > before
    }

    /// The server has the status with this number.
    pub(super) fn status_acknowledged(&mut self, path: PathId, number: u32) {
        self.departed
            .retain(|departed| departed.status.path != path || departed.status.sequence != number);
        if let Some(index) = self.path_index(path)
            && self.paths[index].status_number == number
        {
            self.paths[index].status_unconfirmed = false;
            self.paths[index].status_wanted = false;
        }
    }

    /// The packet with this status in it is lost.
    pub(super) fn status_lost(&mut self, path: PathId, number: u32) {
        for departed in &mut self.departed {
            departed.wanted |= departed.status.path == path && departed.status.sequence == number;
        }
        if let Some(index) = self.path_index(path)
            && self.paths[index].status_number == number
        {
            let path = &mut self.paths[index];
            path.status_wanted |= path.status_unconfirmed;
        }
    }

    /// On the server: what the client says of a WAN.
    pub(super) fn handle_wan_status(&mut self, now: Instant, status: &WanStatus) {
        if self.side == Side::Client {
            return;
        }
        let Some(index) = self.path_index(status.path) else {
            return;
        };
        let path = &mut self.paths[index];
        // Numbers wrap; an older status that was delayed changes nothing.
        if status.sequence.wrapping_sub(path.status_number) as i32 <= 0 && path.status_number != 0 {
            return;
        }
        path.status_number = status.sequence;
        let settings = WanSettings {
            priority: status.priority,
            limit_up: None,
            limit_down: status.limit_down,
            metered: status.metered,
        };
        path.set_settings(now, Side::Server, settings);
        path.gap_news |= status.gone;
        self.set_link(now, status.path, !status.gone);
        self.set_mode(status.mode);
    }
}
