// SPDX-License-Identifier: GPL-2.0

//! Why an interval was not inserted.

use super::Interval;
use kernel::{
    alloc::AllocError,
    prelude::*,
    sync::Arc, //
};

/// Why an interval was not inserted, with the interval.
pub struct InsertError<T> {
    /// What was passed in. It is as it was.
    pub value: Arc<Interval<T>>,
    /// The reason.
    pub cause: InsertErrorKind,
}

/// The reason for which an interval was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertErrorKind {
    /// The address space is gone (`ESRCH`).
    NoUser,
    /// This interval was inserted before (`EBUSY`).
    InsertedBefore,
    /// The module whose text is called is about to be unloaded (`ENODEV`).
    ModuleGoing,
    /// There is no memory for the first notifier of an address space (`ENOMEM`).
    AllocError(AllocError),
    /// A signal came while the first notifier of an address space was inserted (`EINTR`).
    Interrupted,
    /// What else core mm says.
    Failed(Error),
}

impl InsertErrorKind {
    /// What `mmu_interval_notifier_insert()` says.
    pub(super) fn from_core(error: Error) -> Self {
        if error == ENOMEM {
            Self::AllocError(AllocError)
        } else if error == EINTR {
            Self::Interrupted
        } else {
            Self::Failed(error)
        }
    }
}

impl From<InsertErrorKind> for Error {
    fn from(kind: InsertErrorKind) -> Self {
        match kind {
            InsertErrorKind::NoUser => ESRCH,
            InsertErrorKind::InsertedBefore => EBUSY,
            InsertErrorKind::ModuleGoing => ENODEV,
            InsertErrorKind::AllocError(error) => error.into(),
            InsertErrorKind::Interrupted => EINTR,
            InsertErrorKind::Failed(error) => error,
        }
    }
}

impl<T> From<InsertError<T>> for Error {
    fn from(error: InsertError<T>) -> Self {
        error.cause.into()
    }
}
