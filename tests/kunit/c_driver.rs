// SPDX-License-Identifier: GPL-2.0

//! What a driver in C passes and is given, where that is more than what Rust has tests for.

use crate::address_space::AddressSpace;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    ffi::{
        c_int,
        c_ulong, //
    },
    prelude::*, //
};
use odp::Span;

/// A driver of c_driver.c.
#[repr(C)]
struct Opaque([u8; 0]);

// SAFETY: The prototypes are those of c_driver.h.
#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
unsafe extern "C" {
    fn odp_kunit_driver_begin(
        mm: *mut bindings::mm_struct,
        start: c_ulong,
        end: c_ulong,
    ) -> *mut Opaque;
    fn odp_kunit_driver_end(driver: *mut Opaque);
    fn odp_kunit_driver_extend(driver: *mut Opaque, end: c_ulong) -> c_ulong;
    fn odp_kunit_driver_look(driver: *mut Opaque, start: c_ulong, end: c_ulong) -> c_int;
    fn odp_kunit_driver_commit(driver: *mut Opaque) -> c_int;
}

/// A driver in C that mirrors one range, which another may become part of.
///
/// # Invariants
///
/// `odp_kunit_driver_begin()` has returned it, and it has not ended.
struct Driver(NonNull<Opaque>);

impl Driver {
    fn begin(space: &AddressSpace, span: Span) -> Result<Self> {
        let mm = space.user()?;
        // SAFETY: `mm` has users.
        let driver = unsafe { odp_kunit_driver_begin(mm.as_raw(), span.start(), span.end()) };
        // INVARIANT: It has just been returned.
        NonNull::new(driver).map(Self).ok_or(ENOMEM)
    }

    fn extend(&self, end: usize) -> usize {
        // SAFETY: By the type invariants.
        unsafe { odp_kunit_driver_extend(self.0.as_ptr(), end) }
    }

    fn look(&self, start: usize, end: usize) -> Result {
        // SAFETY: By the type invariants.
        to_result(unsafe { odp_kunit_driver_look(self.0.as_ptr(), start, end) })
    }

    fn commit(&self) -> Result {
        // SAFETY: By the type invariants, and every test begins to look before.
        to_result(unsafe { odp_kunit_driver_commit(self.0.as_ptr()) })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; nothing uses it after this.
        unsafe { odp_kunit_driver_end(self.0.as_ptr()) };
    }
}

#[kunit_tests(odp_c_driver)]
mod tests {
    use super::*;
    use crate::{
        check::check_eq,
        fixture::page, //
    };

    /// Only an invalidation of what is looked at comes between.
    #[test]
    fn a_section_is_of_what_it_looks_at() -> Result {
        let space = AddressSpace::attach()?;
        let span = space.map(4)?;
        for n in 0..4 {
            AddressSpace::write(page(span, n)?.start(), 1)?;
        }
        let driver = Driver::begin(&space, span)?;
        let looked_at = page(span, 1)?;

        driver.look(looked_at.start(), looked_at.end())?;
        AddressSpace::unmap(page(span, 0)?)?;
        AddressSpace::unmap(page(span, 2)?)?;
        check_eq!(driver.commit(), Ok(()));

        driver.look(looked_at.start(), looked_at.end())?;
        AddressSpace::unmap(looked_at)?;
        check_eq!(driver.commit(), Err(EAGAIN));
        Ok(())
    }

    /// For C the same pointer makes the same object.
    #[test]
    fn ranges_of_one_pointer_become_one() -> Result {
        let space = AddressSpace::attach()?;
        let span = space.map(4)?;
        let driver = Driver::begin(&space, page(span, 0)?)?;
        check_eq!(driver.extend(page(span, 2)?.end()), span.start());
        Ok(())
    }

    #[test]
    fn a_section_is_within_its_range() -> Result {
        let space = AddressSpace::attach()?;
        let span = space.map(4)?;
        let mirrored = Span::from_bounds(page(span, 1)?.start(), page(span, 2)?.end())?;
        let driver = Driver::begin(&space, mirrored)?;
        let (start, end) = (mirrored.start(), mirrored.end());

        check_eq!(driver.look(start, end), Ok(()));
        check_eq!(driver.look(span.start(), end), Err(EINVAL));
        check_eq!(driver.look(start, span.end()), Err(EINVAL));
        check_eq!(driver.look(start, start), Err(EINVAL));
        check_eq!(driver.look(end, start), Err(EINVAL));
        check_eq!(driver.look(start + 1, end), Err(EINVAL));
        Ok(())
    }
}
