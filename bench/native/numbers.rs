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
    Span, //
};

/// A number of 256 bytes, which is what a range of the library has.
#[repr(align(256))]
struct Number;

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
    let mut entries = KVVec::new();
    for _ in 0..COUNT {
        numbers.push(Number, GFP_KERNEL)?;
    }
    for (n, number) in numbers.iter().enumerate() {
        let span = Span::new(START + n * RANGE_SIZE, RANGE_SIZE)?;
        entries.push((span, NonNull::from(number)), GFP_KERNEL)?;
    }

    let index = Arc::pin_init(RangeIndex::new(), GFP_KERNEL)?;
    caches.cool(cache);
    let ticks = time_sleeping(|| {
        entries.iter().try_for_each(|&(span, number)| {
            // SAFETY: The numbers go after the index, which nobody else has.
            Ok(unsafe { index.insert(span, number, |_, _| Err(EEXIST)) }?)
        })
    })?;
    result("store", ticks)?;

    caches.cool(cache);
    let mut found = 0;
    let ticks = time(|| {
        found = entries
            .iter()
            .filter(|(span, number)| index.load(span.start()) == Some(*number))
            .count();
    });
    if found != entries.len() {
        return Err(ENOENT);
    }
    result("load", ticks)?;

    caches.cool(cache);
    let mut erased = 0;
    let ticks = time_sleeping(|| {
        index.erase(entries.iter().copied(), |_, _| erased += 1);
        Ok(())
    })?;
    if erased != entries.len() {
        return Err(ENOENT);
    }
    result("erase", ticks)
}
