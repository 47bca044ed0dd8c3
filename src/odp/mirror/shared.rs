// SPDX-License-Identifier: GPL-2.0

//! Level 2: a driver's object, and the lock that it has in common with the library.

use super::{
    driver::Mirrored,
    faults::{
        FaultId,
        Faults,
        RoomForFaults, //
    }, //
};
use crate::{
    may_block::ReclaimScope,
    odp::engine::request::Guarded,
    span::Span, //
};
use core::{
    ffi::c_void,
    ops::{
        Deref,
        DerefMut, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        lock, //
    }, //
};

/// The lock under which invalidations, accesses and installations exclude each other.
///
/// The kernel's [`Mutex`](kernel::sync::Mutex) and [`SpinLock`](kernel::sync::SpinLock) are user
/// locks. It is taken in callbacks: nothing may be allocated under it that could reclaim, and
/// nobody who holds it may wait for an invalidation.
///
/// Nobody else can implement it: that the library and the driver mean the same lock is what an
/// invalidation rests on.
pub trait UserLock: sealed::UserLock + Send + Sync + 'static {
    /// What it guards.
    type Table;

    /// The locked state.
    type Guard<'a>: DerefMut<Target = Self::Table>
    where
        Self: 'a;

    /// Takes it. May sleep if it is a lock that sleeps.
    fn lock(&self) -> Self::Guard<'_>;

    /// Takes it unless somebody has it. Never sleeps.
    fn try_lock(&self) -> Option<Self::Guard<'_>>;
}

pub(crate) mod sealed {
    /// What the library itself needs of a user lock.
    ///
    /// # Safety
    ///
    /// While there is a guard of a lock, or one has been forgotten and the lock not been unlocked
    /// since, nobody gets another guard of it.
    pub unsafe trait UserLock {}
}

// SAFETY: The kernel's locks exclude.
unsafe impl<U, B> sealed::UserLock for lock::Lock<U, B>
where
    U: Send + Unpin + 'static,
    B: lock::Backend + 'static,
{
}

impl<U: Send + Unpin + 'static, B: lock::Backend + 'static> UserLock for lock::Lock<U, B> {
    type Table = U;
    type Guard<'a> = lock::Guard<'a, U, B>;

    fn lock(&self) -> Self::Guard<'_> {
        self.lock()
    }

    fn try_lock(&self) -> Option<Self::Guard<'_>> {
        self.try_lock()
    }
}

/// A driver's object with its user lock.
///
/// # Invariants
///
/// `faults` is accessed through a [`Locked`] of this only.
#[pin_data]
pub struct Shared<T: Mirrored> {
    #[pin]
    data: T,
    /// The mirror it is used with, from the first range on: compared, never followed. Addresses in
    /// the table mean something in one address space only.
    space: Atomic<*mut c_void>,
    faults: Guarded<Faults>,
    #[pin]
    lock: T::Lock,
}

impl<T: Mirrored> Shared<T> {
    /// Makes one, to be pinned in an [`Arc`]. May sleep.
    pub fn new<E>(data: impl PinInit<T, E>, lock: impl PinInit<T::Lock, E>) -> impl PinInit<Self, E>
    where
        E: From<core::convert::Infallible>,
    {
        try_pin_init!(Self {
            data <- data,
            space: Atomic::new(core::ptr::null_mut()),
            faults: Guarded::new(Faults::new()),
            lock <- lock,
        }? E)
        .pin_chain(|shared| {
            if cfg!(CONFIG_LOCKDEP) {
                let _reclaim = ReclaimScope::enter();
                drop(shared.lock.lock());
            }
            Ok(())
        })
    }

    /// Whether it is used with `space`; if it is used with none it is from now on.
    pub(super) fn bind(&self, space: *mut c_void) -> bool {
        match self.space.cmpxchg(core::ptr::null_mut(), space, Relaxed) {
            Ok(_) => true,
            Err(bound) => bound == space,
        }
    }

    /// The driver's object.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// Lets `f` look at the table, under the user lock.
    ///
    /// It shows what has been installed through any range, retired ones included, and can change
    /// nothing. What it shows may be used as long as `f` runs, see [`Mirrored`].
    ///
    /// Context: may sleep as far as taking the user lock does; not under it.
    pub fn inspect<R>(&self, f: impl FnOnce(&T::Table) -> R) -> R {
        f(&self.lock.lock())
    }

    /// The user lock. Not for drivers: that would be a way to install without a commit.
    pub(crate) fn lock(&self) -> &T::Lock {
        &self.lock
    }

    /// Takes the user lock.
    pub(crate) fn locked(&self) -> Locked<'_, T> {
        // INVARIANT: It has just been taken.
        Locked {
            shared: self,
            table: self.lock.lock(),
        }
    }

    /// Takes the user lock unless somebody has it. Never sleeps.
    pub(super) fn try_locked(&self) -> Option<Locked<'_, T>> {
        let table = self.lock.try_lock()?;
        // INVARIANT: It has just been taken.
        Some(Locked {
            shared: self,
            table,
        })
    }

    /// Begins a fault at `span`, see [`Faults::begin`]. Where there is no memory for it, it depends
    /// on the sequence alone.
    ///
    /// Context: may sleep; not under the user lock.
    pub(super) fn begin_fault(&self, span: Span) -> FaultId {
        let mut more = RoomForFaults::none();
        loop {
            let room = {
                let mut locked = self.locked();
                let faults = locked.faults();
                faults.move_to(&mut more);
                if faults.has_room() {
                    return faults.begin(span);
                }
                faults.room()
            };
            if more.exceed(room, GFP_KERNEL_ACCOUNT).is_err() {
                return FaultId::NONE;
            }
        }
    }

    /// Ends a fault that nobody is going to commit. Context: as the user lock wants it; not under
    /// it.
    pub(super) fn abandon_fault(&self, fault: FaultId) {
        let _ = self.locked().faults().end(fault);
    }
}

/// A driver's object whose user lock is held, by this task.
///
/// Dereferences to the table.
///
/// # Invariants
///
/// `table` is the locked state of `shared.lock`.
pub(crate) struct Locked<'a, T: Mirrored> {
    shared: &'a Shared<T>,
    table: <T::Lock as UserLock>::Guard<'a>,
}

impl<'a, T: Mirrored> Locked<'a, T> {
    /// The faults that are going on.
    pub(super) fn faults(&mut self) -> &mut Faults {
        // SAFETY: By the type invariants this has a guard of the user lock, so that, as
        // `sealed::UserLock` promises, there is no other `Locked` of `shared`; and this one is
        // borrowed for as long as the answer is used.
        unsafe { self.shared.faults.get() }
    }
}

impl<T: Mirrored> Deref for Locked<'_, T> {
    type Target = T::Table;

    fn deref(&self) -> &T::Table {
        &self.table
    }
}

impl<T: Mirrored> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T::Table {
        &mut self.table
    }
}
