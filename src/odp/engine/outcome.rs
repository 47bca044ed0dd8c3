// SPDX-License-Identifier: GPL-2.0

//! What a caller hears at once of what it has asked for.

use kernel::prelude::*;

/// What became of a request to retire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retire {
    /// This was the first: the object is on its way out.
    Queued,
    /// It was on its way out already.
    Already,
    /// The worker is being shut down and takes nothing; the object is as it was. A driver that
    /// keeps to the rules does not see this.
    Closed,
    /// The object belongs to another worker and is as it was.
    Foreign,
    /// Other ranges are in the object's place, and nothing has been asked of them. An
    /// invalidation reaches them itself; anybody else has to look them up.
    Replaced,
}

/// What became of a request to change a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Accepted; the worker will see to it.
    Queued,
    /// Accepted, and part of a request that is waiting already.
    Joined,
    /// Not accepted: the range is retired, or others are in its place. It is as it was.
    NotLive,
    /// Not accepted: the mirror is being shut down. The range is as it was.
    Closed,
}

impl Changed {
    /// Whether the worker will see to it.
    ///
    /// # Errors
    ///
    /// `ESTALE`: [`Changed::NotLive`]. `ESHUTDOWN`: [`Changed::Closed`].
    pub fn accepted(self) -> Result {
        match self {
            Changed::Queued | Changed::Joined => Ok(()),
            Changed::NotLive => Err(ESTALE),
            Changed::Closed => Err(ESHUTDOWN),
        }
    }
}
