// SPDX-License-Identifier: GPL-2.0

//! Spans: byte by byte where that is possible, and at both ends of the addresses.

#[allow(
    dead_code,
    reason = "what does not depend on the size is tried with small ones"
)]
mod real;
#[allow(clippy::duplicate_mod, reason = "each has a page size of its own")]
pub(crate) mod small;

use small::{
    span::{
        Span,
        SpanError, //
    },
    PAGE_SIZE, //
};

/// The bytes that everything is tried for.
const BYTES: usize = 7 * PAGE_SIZE;
/// The end of the last page that can be part of a span: the last one has no end.
const TOP: usize = usize::MAX - (PAGE_SIZE - 1);

/// Addresses at both ends.
fn addresses() -> impl Iterator<Item = usize> + Clone {
    (0..=BYTES + PAGE_SIZE).chain(usize::MAX - BYTES - PAGE_SIZE..=usize::MAX)
}

/// All spans in the first bytes, and moved to the last ones.
fn spans() -> impl Iterator<Item = Span> {
    let pages = BYTES / PAGE_SIZE;
    (0..pages)
        .flat_map(move |first| (first + 1..=pages).map(move |end| (first, end)))
        .flat_map(|(first, end)| {
            [0, TOP - BYTES].map(|base| {
                Span::from_bounds(base + first * PAGE_SIZE, base + end * PAGE_SIZE).unwrap()
            })
        })
}

#[test]
fn all() {
    assert_eq!((Span::ALL.start(), Span::ALL.end()), (0, TOP));
    for span in spans() {
        assert!(Span::ALL.covers(&span));
    }
}

#[test]
fn making() {
    for start in addresses() {
        for len in addresses() {
            let end = start as u128 + len as u128;
            let aligned = start % PAGE_SIZE == 0 && len % PAGE_SIZE == 0;
            match Span::new(start, len) {
                Ok(span) => {
                    assert!(len > 0 && aligned && end <= usize::MAX as u128);
                    assert_eq!((span.start(), span.end() as u128), (start, end));
                    assert_eq!((span.last(), span.size()), (start + (len - 1), len));
                    assert_eq!(span.pages() * PAGE_SIZE, len);
                }
                Err(SpanError::Empty) => assert_eq!(len, 0),
                Err(SpanError::Unaligned) => assert!(!aligned),
                Err(SpanError::Overflow) => assert!(end > usize::MAX as u128),
            }
        }
        for end in addresses() {
            let span = Span::from_bounds(start, end);
            if end <= start {
                assert_eq!(span, Err(SpanError::Empty));
            } else {
                assert_eq!(span, Span::new(start, end - start));
            }
        }
    }
}

#[test]
fn bytes() {
    for span in spans() {
        for addr in addresses() {
            assert_eq!(
                span.contains(addr),
                span.start() <= addr && addr <= span.last()
            );
        }
        assert!(span.contains(span.start()) && span.contains(span.last()));
        // SAFETY: They are those of a span.
        let same = unsafe { Span::from_first_and_last(span.start(), span.last()) };
        assert_eq!(same, span);
        assert!(!span.contains(span.end()));
    }
}

#[test]
fn pairs() {
    for a in spans() {
        for b in spans() {
            let common: Vec<usize> = addresses()
                .filter(|&addr| a.contains(addr) && b.contains(addr))
                .collect();
            let intersection = a.intersect(&b);
            assert_eq!(intersection, b.intersect(&a));
            match intersection {
                Some(span) => {
                    assert_eq!(Some(&span.start()), common.first());
                    assert_eq!(Some(&span.last()), common.last());
                }
                None => assert!(common.is_empty()),
            }
            assert_eq!(a.covers(&b), intersection == Some(b));

            let hull = a.hull(&b);
            assert!(hull.covers(&a) && hull.covers(&b));
            assert!([a.start(), b.start()].contains(&hull.start()));
            assert!([a.end(), b.end()].contains(&hull.end()));
        }
    }
}

/// What is clipped is the pages of which a byte is named, no more and no less.
#[test]
fn clipping() {
    for span in spans() {
        for start in addresses() {
            for end in addresses() {
                // No byte of the span has the address `usize::MAX`, so nothing is missed by an
                // exclusive end.
                let first = start.max(span.start());
                let last = end.min(span.end()).checked_sub(1);
                let expected = last.filter(|&last| first <= last).map(|last| {
                    let behind = (last / PAGE_SIZE + 1) * PAGE_SIZE;
                    (first / PAGE_SIZE * PAGE_SIZE, behind)
                });
                let clipped = span.clip(start, end);
                assert_eq!(clipped.map(|span| (span.start(), span.end())), expected);
                assert!(clipped.is_none_or(|clipped| span.covers(&clipped)));
            }
        }
        // As MMU_NOTIFY_RELEASE names it.
        assert_eq!(span.clip(0, usize::MAX), Some(span));
    }
}

/// As far as the grain says, and no farther than the limit.
#[test]
fn rounding() {
    for span in spans() {
        for limit in spans().filter(|limit| limit.covers(&span)) {
            for grain in [1, 2, 4].map(|pages| pages * PAGE_SIZE) {
                let rounded = span.round_out(grain, &limit);
                assert!(rounded.covers(&span) && limit.covers(&rounded));
                let down = span.start() / grain * grain;
                let up = span.end().checked_next_multiple_of(grain);
                assert_eq!(rounded.start(), down.max(limit.start()));
                assert_eq!(rounded.end(), up.unwrap_or(usize::MAX).min(limit.end()));
            }
            // What is no grain does no harm.
            for grain in [0, 1, PAGE_SIZE + 1, usize::MAX] {
                let rounded = span.round_out(grain, &limit);
                assert!(rounded.covers(&span) && limit.covers(&rounded));
                assert_eq!(
                    (rounded.start() % PAGE_SIZE, rounded.end() % PAGE_SIZE),
                    (0, 0)
                );
            }
        }
    }
}

#[test]
fn real_pages() {
    use real::{
        span::{
            Span,
            SpanError, //
        },
        PAGE_SIZE, //
    };
    const TOP: usize = usize::MAX - (PAGE_SIZE - 1);

    let all = Span::from_bounds(0, TOP).unwrap();
    assert_eq!(all.clip(0, usize::MAX), Some(all));
    assert_eq!(all.pages(), usize::MAX / PAGE_SIZE);
    assert_eq!(Span::new(TOP, PAGE_SIZE), Err(SpanError::Overflow));
    assert_eq!(Span::new(usize::MAX, usize::MAX), Err(SpanError::Overflow));
    assert_eq!(Span::new(0, usize::MAX), Err(SpanError::Unaligned));
    assert_eq!(Span::new(TOP, 0), Err(SpanError::Empty));
    assert_eq!(Span::new(1, PAGE_SIZE), Err(SpanError::Unaligned));
    assert_eq!(Span::new(0, 0), Err(SpanError::Empty));

    let span = Span::new(2 * PAGE_SIZE, 2 * PAGE_SIZE).unwrap();
    assert_eq!(span.clip(0, 2 * PAGE_SIZE), None);
    assert_eq!(span.clip(4 * PAGE_SIZE, usize::MAX), None);
    assert_eq!(
        span.clip(0, 2 * PAGE_SIZE + 1),
        Some(Span::new(2 * PAGE_SIZE, PAGE_SIZE).unwrap())
    );
    assert_eq!(
        span.clip(4 * PAGE_SIZE - 1, usize::MAX),
        Some(Span::new(3 * PAGE_SIZE, PAGE_SIZE).unwrap())
    );
    // Nothing is named, or less.
    assert_eq!(span.clip(3 * PAGE_SIZE, 3 * PAGE_SIZE), None);
    assert_eq!(span.clip(usize::MAX, 0), None);
}
