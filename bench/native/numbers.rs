// SPDX-License-Identifier: GPL-2.0

//! The library's index, by itself: of numbers.

use super::{
    clock::{
        time,
        time_sleeping,
        Caches, //
    },
    operations::COUNT,
    samples::{
        Cache,
        Row,
        Samples, //
    },
    space::{
        RANGE_SIZE,
        START, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::Arc, //
};
use odp::{
    range_index::RangeIndex,
    range_tree::Place,
    Span, //
};

/// A number of 256 bytes, which is what a range of the library has.
#[repr(align(256))]
struct Number {
    place: Place,
    span: Span,
}

odp::impl_indexed!(Number, place, span);

/// A sample of each.
pub(crate) fn measure(caches: &Caches, cache: Cache, samples: &mut Samples) -> Result {
    once(caches, Cache::Warm, &mut |_, _| Ok(()))?;
    once(caches, cache, &mut |name, ticks| {
        let row = Row {
            table: "index",
            name,
            cache,
            ranges: usize::try_from(COUNT)?,
        };
        samples.add(row, ticks)
    })
}

fn once(
    caches: &Caches,
    cache: Cache,
    result: &mut dyn FnMut(&'static str, u64) -> Result,
) -> Result {
    let mut numbers = KVVec::new();
    for n in 0..usize::try_from(COUNT)? {
        let number = Number {
            place: Place::new(),
            span: Span::new(START + n * RANGE_SIZE, RANGE_SIZE)?,
        };
        numbers.push(number, GFP_KERNEL)?;
    }

    let index = Arc::pin_init(RangeIndex::new(), GFP_KERNEL)?;
    caches.cool(cache);
    let ticks = time_sleeping(|| {
        numbers.iter().try_for_each(|number| {
            // SAFETY: The numbers go after the index, which nobody else has.
            unsafe { index.insert(NonNull::from(number), |_| Err(EEXIST)) }
        })
    })?;
    result("store", ticks)?;

    caches.cool(cache);
    let mut found = 0;
    let ticks = time(|| {
        let is_found = |number: &&Number| {
            // SAFETY: The numbers go after the index.
            let found = unsafe { index.load(number.span.start()) };
            found == Some(NonNull::from(*number))
        };
        found = numbers.iter().filter(is_found).count();
    });
    if found != numbers.len() {
        return Err(ENOENT);
    }
    result("load", ticks)?;

    caches.cool(cache);
    let mut erased = 0;
    let ticks = time_sleeping(|| {
        // SAFETY: They are valid, and in no other index.
        unsafe { index.erase(numbers.iter().map(NonNull::from), |_| erased += 1) };
        Ok(())
    })?;
    if erased != numbers.len() {
        return Err(ENOENT);
    }
    result("erase", ticks)
}
