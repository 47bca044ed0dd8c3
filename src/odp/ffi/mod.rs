// SPDX-License-Identifier: GPL-2.0

//! The C interface: what both levels of it have in common.
//!
//! What the functions do, and what their callers promise, is written in the header, by which they
//! are exported, too; the safety requirements here are those in short. A pointer is valid where
//! nothing else is said.
//!
//! C header: `include/odp.h`

mod mirror;
mod object;
mod range;
mod retirer;

use super::engine::{
    outcome::Retire,
    queues::Until,
    stats::{
        with_counters,
        Snapshot, //
    },
    worker::WAKEUP_DELAY, //
};
use core::{
    arch::global_asm,
    mem::offset_of, //
};
use kernel::{
    ffi::{
        c_int,
        c_uint, //
    },
    prelude::*,
    time::Delta, //
};

/// Defines symbols with the size of a struct and the offsets of its members in their names.
///
/// `src/interface.c` refers to the symbols that the C compiler's numbers make.
macro_rules! layout {
    (@symbol $name:expr, $number:expr) => {
        global_asm!(
            concat!(".globl odp_layout.", $name, ".{number}"),
            concat!(".set odp_layout.", $name, ".{number}, 0"),
            number = const $number,
        );
    };
    ($($name:literal = $number:expr,)*) => {
        $(layout!(@symbol $name, $number);)*
    };
}

macro_rules! stats_layout {
    ($($name:ident)*) => {
        layout!(@symbol "odp_stats", size_of::<Snapshot>());
        $(layout!(@symbol concat!("odp_stats.", stringify!($name)), offset_of!(Snapshot, $name));)*
    };
}

with_counters!(stats_layout);

use layout;

/// `ODP_AT_ONCE`.
const ODP_AT_ONCE: c_uint = c_uint::MAX;

/// The wakeup delay that a configuration in C asks for.
fn wakeup_delay_from_raw(wakeup_delay_us: c_uint) -> Delta {
    match wakeup_delay_us {
        0 => WAKEUP_DELAY,
        ODP_AT_ONCE => Delta::ZERO,
        us => Delta::from_micros(i64::from(us)),
    }
}

/// What C is told about a request to retire.
fn retire_result(retire: Retire) -> Result {
    match retire {
        Retire::Queued => Ok(()),
        Retire::Already => Err(EALREADY),
        Retire::Closed => Err(ESHUTDOWN),
        Retire::Foreign => Err(EXDEV),
        Retire::Replaced => Err(ESTALE),
    }
}

fn to_errno(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// An `enum odp_until`.
fn until_from_raw(until: c_uint) -> Until {
    match until {
        0 => Until::Removed,
        _ => Until::Released,
    }
}
