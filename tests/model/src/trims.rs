// SPDX-License-Identifier: GPL-2.0

//! What is to take the place of a range: all trims, all ranges and all mappings in a few pages.

use crate::{
    spans::small::{
        span::Span,
        PAGE_SIZE, //
    },
    trim::{
        PendingTrim,
        StoredTrim,
        TrimPlan, //
    },
};
use std::collections::HashSet;

/// How many pages there are.
const PAGES: usize = 6;
/// What the ends of pieces are rounded to, in pages.
const GRAINS: [usize; 3] = [1, 2, 4];

fn span(first: usize, end: usize) -> Span {
    Span::from_bounds(first * PAGE_SIZE, end * PAGE_SIZE).unwrap()
}

/// All spans of whole pages.
fn spans() -> impl Iterator<Item = Span> + Clone {
    (0..PAGES).flat_map(|first| (first + 1..=PAGES).map(move |end| span(first, end)))
}

/// The pages of a span, a bit each.
fn bits(span: Span) -> u32 {
    let (first, end) = (span.start() / PAGE_SIZE, span.end() / PAGE_SIZE);
    (1 << end) - (1 << first)
}

/// The runs of pages of which the bit is set, as a process's mappings might be.
fn mappings(bits: u32) -> Vec<Span> {
    let mut all: Vec<Span> = Vec::new();
    for page in (0..PAGES).filter(|page| bits & (1 << page) != 0) {
        match all.last_mut() {
            Some(last) if last.end() == page * PAGE_SIZE => {
                *last = last.hull(&span(page, page + 1))
            }
            _ => all.push(span(page, page + 1)),
        }
    }
    all
}

/// Every trim that is made of up to one of each kind. More of a kind are one of it.
fn trims() -> impl Iterator<Item = PendingTrim> {
    let keeps = || std::iter::once(PendingTrim::NONE).chain(spans().map(PendingTrim::keep));
    let unmapped = || std::iter::once(PendingTrim::NONE).chain(spans().map(PendingTrim::unmapped));
    keeps().flat_map(move |keep| unmapped().map(move |unmapped| keep.then(unmapped)))
}

/// What can be asked of a range of pages 2 to 3, which has pages on both sides.
fn asks() -> impl Iterator<Item = PendingTrim> {
    std::iter::once(PendingTrim::NONE)
        .chain(spans().map(PendingTrim::keep))
        .chain(spans().map(|wanted| PendingTrim::resize(span(2, 4), wanted)))
        .chain([
            PendingTrim::unmapped(span(1, 3)),
            PendingTrim::unmapped(span(3, 4)),
        ])
}

#[test]
fn what_a_range_keeps_is_what_was_asked() {
    for first in asks() {
        for later in asks() {
            let trim = first.then(later);
            assert_eq!(StoredTrim::new(trim).get(), trim);
        }
    }
    assert!(trims().all(|trim| StoredTrim::new(trim).get() == trim));
}

#[test]
fn algebra() {
    let single: Vec<PendingTrim> = std::iter::once(PendingTrim::NONE)
        .chain(spans().map(PendingTrim::keep))
        .chain(spans().map(PendingTrim::unmapped))
        .chain([
            PendingTrim::merge(span(0, 2)),
            PendingTrim::merge(span(1, 4)),
        ])
        .collect();
    let all: HashSet<PendingTrim> = single
        .iter()
        .flat_map(|a| single.iter().map(|b| a.then(*b)))
        .collect();
    for &a in &all {
        assert_eq!(a.then(a), a);
        assert_eq!(a.then(PendingTrim::NONE), a);
        assert_eq!(a.only_keep().then(a), a);
        let unmapped = a.unmapped_within(span(0, PAGES));
        assert_eq!(a.only_keep().then(a.only_later()).then(unmapped), a);
        assert_eq!(a.only_keep().then(a.without_keep()), a);
        for &b in &single {
            assert_eq!(a.then(b), b.then(a));
            assert_eq!(a.then(b).then(b), a.then(b));
            for &c in &single {
                assert_eq!(a.then(b).then(c), a.then(b.then(c)));
            }
        }
    }
    println!("{} trims", all.len());
}

/// What is asked for one after the other, and what is made of it.
#[test]
fn growth() {
    // The same as the range, its ends moved one request after the other.
    let whole = span(2, 4);
    let apply = |(start, end): (usize, usize), keep: Span, resizes: bool| {
        let outward = |put: bool, at: usize, moved: usize| if resizes && put { at } else { moved };
        (
            outward(
                keep.start() < whole.start(),
                keep.start(),
                start.max(keep.start()),
            ),
            outward(keep.end() > whole.end(), keep.end(), end.min(keep.end())),
        )
    };
    let requests: Vec<(Span, bool)> = spans().flat_map(|s| [(s, false), (s, true)]).collect();
    let trim = |&(keep, resizes): &(Span, bool)| match resizes {
        true => PendingTrim::resize(whole, keep),
        false => PendingTrim::keep(keep),
    };
    for a in &requests {
        for b in &requests {
            for c in &requests {
                let ends = [a, b, c]
                    .into_iter()
                    .fold((whole.start(), whole.end()), |ends, &(keep, resizes)| {
                        apply(ends, keep, resizes)
                    });
                let asked = trim(a).then(trim(b)).then(trim(c));
                let expected = Span::from_bounds(ends.0, ends.1).ok();
                assert_eq!(asked.wanted(whole), expected, "{a:?} {b:?} {c:?}");
                assert_eq!(asked, trim(a).then(trim(b).then(trim(c))));
            }
        }
    }
}

/// What is left of a trim for the one that a range has become part of wants that as it is.
#[test]
fn keeps_are_not_inherited() {
    for a in asks() {
        for b in asks() {
            let merge = PendingTrim::merge(span(0, PAGES));
            let left = a.then(b).then(merge).without_keep();
            assert_eq!(left.only_merge(), merge);
            for whole in spans() {
                assert!(left.wants_just(whole), "{a:?} {b:?} {whole:?}");
            }
        }
    }
}

/// What was asked of one of several that have become one takes nothing from the others, and what
/// is unmapped is not forgotten.
#[test]
fn parts() {
    let mut asked = 0;
    for part in spans() {
        for whole in spans().filter(|whole| whole.covers(&part)) {
            for trim in trims() {
                let of_part = trim.of_part(part, whole);
                let wanted = of_part.wanted_within(whole);
                let kept = trim.wanted_within(part);
                for page in 0..PAGES {
                    let page = span(page, page + 1);
                    let has = |span: Option<Span>| span.is_some_and(|span| span.covers(&page));
                    let unmapped = |trim: &PendingTrim| {
                        has(trim.doubtful(whole, PAGE_SIZE)) || !has(trim.wanted_within(whole))
                    };
                    // Unless none of it is wanted: then neither is the one.
                    if whole.covers(&page) && !part.covers(&page) && kept.is_some() {
                        assert!(has(wanted), "{trim:?} {part:?} {whole:?}");
                    }
                    if part.covers(&page) && !has(kept) {
                        assert!(unmapped(&of_part), "{trim:?} {part:?} {whole:?}");
                    }
                    if has(trim.doubtful(part, PAGE_SIZE)) {
                        assert!(unmapped(&of_part), "{trim:?} {part:?} {whole:?}");
                    }
                    asked += 1;
                }
            }
        }
    }
    println!("{asked} pages");
}

/// A range that grows has all that it had and is wanted, and of what is wanted beyond the rest is
/// left to the pieces that have its ends.
#[test]
fn growth_comes_last() {
    let whole = span(2, 4);
    for a in asks() {
        for b in asks() {
            let trim = a.then(b);
            for mapped in 0..1 << PAGES {
                let (verdict, mut pieces) = plan(&trim, whole, PAGE_SIZE, mappings(mapped));
                if verdict == TrimPlan::Unchanged {
                    pieces.push(whole);
                }
                let wanted = trim.wanted(whole);
                for (n, piece) in pieces.iter().enumerate() {
                    assert!(whole.covers(piece));
                    let beyond = match verdict {
                        TrimPlan::Unchanged => trim,
                        _ => trim.only_later().of_piece(n == 0, n + 1 == pieces.len()),
                    };
                    let Some(grown) = beyond.grown(*piece) else {
                        continue;
                    };
                    assert!(grown.covers(piece) && grown != *piece);
                    assert!(wanted.is_some_and(|wanted| wanted.hull(&whole).covers(&grown)));
                    // No piece reaches over another one.
                    assert!(grown.start() == piece.start() || n == 0);
                    assert!(grown.end() == piece.end() || n + 1 == pieces.len());
                }
            }
        }
    }
}

/// Of several pieces in the place of a range, only those at its ends have its neighbours beside them.
#[test]
fn pieces_between_others_do_not_merge() {
    let merge = PendingTrim::merge(span(0, PAGES));
    for trim in trims().map(|trim| trim.then(merge)) {
        for (first, last) in [(false, false), (false, true), (true, false), (true, true)] {
            let merged = trim.of_piece(first, last).merged_with(span(1, 2));
            assert_eq!(merged.is_some(), first || last, "{trim:?} {first} {last}");
        }
    }
}

type Plan = fn(&PendingTrim, Span, usize, Vec<Span>) -> (TrimPlan, Vec<Span>);

fn plan(trim: &PendingTrim, span: Span, grain: usize, mapped: Vec<Span>) -> (TrimPlan, Vec<Span>) {
    let mut pieces = Vec::new();
    let verdict = trim
        .plan(span, grain, mapped, |piece| {
            pieces.push(piece);
            Ok::<(), ()>(())
        })
        .unwrap();
    (verdict, pieces)
}

/// What a trim is made of, for who judges the plan.
#[derive(Clone, Copy, Debug)]
struct Asked {
    keep: Option<Span>,
    unmapped: Option<Span>,
}

fn asked() -> impl Iterator<Item = Asked> {
    let some = || std::iter::once(None).chain(spans().map(Some));
    some().flat_map(move |keep| some().map(move |unmapped| Asked { keep, unmapped }))
}

/// Judges one plan.
fn judge(asked: Asked, whole: Span, grain: usize, mapped: u32, plan: Plan) -> Result<(), String> {
    let keep = asked.keep.map_or(PendingTrim::NONE, PendingTrim::keep);
    let unmapped = asked
        .unmapped
        .map_or(PendingTrim::NONE, PendingTrim::unmapped);
    let trim = keep.then(unmapped);
    let (verdict, pieces) = plan(&trim, whole, grain * PAGE_SIZE, mappings(mapped));
    let case = format!("{asked:?} of {whole:?}, {mapped:#b}, {grain}: {verdict:?}, {pieces:?}");
    let fail = |what: &str| Err(format!("{what}: {case}"));

    let all = bits(whole);
    let kept = all & asked.keep.map_or(!0, bits);
    let hull = asked.unmapped.map_or(0, bits);
    // What is in no grain of which anything has been unmapped is not asked for.
    let grain_of = |page: usize| {
        let first = page / grain * grain;
        (0..PAGES).filter(move |other| (first..first + grain).contains(other))
    };
    let near = |set: u32| -> u32 {
        (0..PAGES)
            .filter(|&page| grain_of(page).any(|other| set & (1 << other) != 0))
            .map(|page| 1 << page)
            .sum()
    };
    let doubtful = near(hull & kept) & kept;
    let must = kept & !(doubtful & !mapped);
    let covered = match verdict {
        TrimPlan::Unchanged => all,
        TrimPlan::Nothing => 0,
        TrimPlan::Pieces => pieces.iter().map(|piece| bits(*piece)).sum(),
    };
    if must & !covered != 0 {
        return fail("lost");
    }
    if covered & !all != 0 {
        return fail("beyond the range");
    }
    // As large as it must be, and no larger.
    if covered & !(near(must) & all) != 0 {
        return fail("too large");
    }
    if pieces.is_empty() == (verdict == TrimPlan::Pieces) {
        return fail("verdict");
    }
    if (verdict == TrimPlan::Unchanged) != (covered == all) && verdict != TrimPlan::Nothing {
        return fail("unchanged");
    }
    for pair in pieces.windows(2) {
        if pair[0].end() >= pair[1].start() {
            return fail("order");
        }
    }
    for piece in &pieces {
        let (first, end) = (piece.start() / PAGE_SIZE, piece.end() / PAGE_SIZE);
        let aligned = |page: usize, limit: usize| page % grain == 0 || page * PAGE_SIZE == limit;
        if !aligned(first, whole.start()) || !aligned(end, whole.end()) {
            return fail("grain");
        }
    }
    if hull & all == 0 && kept == all && verdict != TrimPlan::Unchanged {
        return fail("asked for nothing");
    }
    if !trim.concerns(whole) && verdict != TrimPlan::Unchanged {
        return fail("of no concern");
    }
    // As many pieces as there are runs of what must stay.
    if grain == 1 && verdict == TrimPlan::Pieces && pieces.len() != mappings(must).len() {
        return fail("number of pieces");
    }
    // Having done it there is nothing left to do.
    for piece in &pieces {
        let (again, more) = plan(&trim, *piece, grain * PAGE_SIZE, mappings(mapped));
        if again != TrimPlan::Unchanged && bits(*piece) & !near(must) == 0 && grain == 1 {
            return Err(format!("not idempotent, {again:?} {more:?}: {case}"));
        }
    }
    Ok(())
}

fn judge_all(plan: Plan) -> Result<usize, String> {
    let mut cases = 0;
    for asked in asked() {
        for whole in spans() {
            for mapped in 0..1 << PAGES {
                for grain in GRAINS {
                    judge(asked, whole, grain, mapped, plan)?;
                    cases += 1;
                }
            }
        }
    }
    Ok(cases)
}

#[test]
fn plans() {
    let cases = judge_all(plan).unwrap();
    println!("{cases} plans");
}

/// k holes make k + 1 pieces.
#[test]
fn holes() {
    let whole = span(0, PAGES);
    for holes in 0..=PAGES / 2 {
        let mapped = (0..holes).fold((1 << PAGES) - 1, |mapped, hole| mapped & !(2 << (2 * hole)));
        let trim = (0..holes).fold(PendingTrim::NONE, |trim, hole| {
            trim.then(PendingTrim::unmapped(span(2 * hole + 1, 2 * hole + 2)))
        });
        let (_, pieces) = plan(&trim, whole, PAGE_SIZE, mappings(mapped));
        // The last page is a hole of its own, with nothing behind it.
        let behind = usize::from(2 * holes != PAGES);
        assert_eq!(pieces.len(), if holes == 0 { 0 } else { holes + behind });
    }
}

/// What is worked out does not depend on how mappings are cut up, nor on what lies beyond.
#[test]
fn cuts() {
    for trim in trims() {
        for mapped in 0..1_u32 << PAGES {
            let pages: Vec<Span> = (0..PAGES)
                .filter(|page| mapped & (1 << page) != 0)
                .map(|page| span(page, page + 1))
                .collect();
            for whole in spans() {
                let as_pages = plan(&trim, whole, PAGE_SIZE, pages.clone());
                assert_eq!(as_pages, plan(&trim, whole, PAGE_SIZE, mappings(mapped)));
            }
        }
    }
}

/// An error of `piece` ends it.
#[test]
fn errors() {
    let trim = PendingTrim::unmapped(span(1, 2));
    let mut said = 0;
    let result = trim.plan(span(0, 3), PAGE_SIZE, [], |_| {
        said += 1;
        Err("no memory")
    });
    assert_eq!((result, said), (Err("no memory"), 1));
}

#[test]
fn mutants() {
    let mutants: [(&[&str], Plan); 6] = [
        (&["lost"], |trim, span, grain, _| {
            // The hull, whatever is mapped.
            plan(trim, span, grain, Vec::new())
        }),
        (&["too large"], |trim, span, grain, _| {
            plan(trim, span, grain, mappings((1 << PAGES) - 1))
        }),
        (&["grain", "too large"], |trim, span, _, mapped| {
            plan(trim, span, PAGE_SIZE, mapped)
        }),
        (&["order"], |trim, span, grain, mapped| {
            let (verdict, mut pieces) = plan(trim, span, grain, mapped);
            pieces.reverse();
            (verdict, pieces)
        }),
        (&["verdict", "lost"], |trim, span, grain, mapped| {
            let (verdict, pieces) = plan(trim, span, grain, mapped);
            match verdict {
                TrimPlan::Unchanged => (TrimPlan::Pieces, Vec::new()),
                _ => (verdict, pieces),
            }
        }),
        (&["beyond", "too large"], |trim, span, grain, mapped| {
            let (verdict, mut pieces) = plan(trim, span, grain, mapped);
            if let Some(last) = pieces.last_mut() {
                *last = last.hull(&self::span(PAGES - 1, PAGES));
            }
            (verdict, pieces)
        }),
    ];
    for (complaints, plan) in mutants {
        let error = judge_all(plan).expect_err("it is wrong");
        assert!(
            complaints
                .iter()
                .any(|complaint| error.starts_with(complaint)),
            "{complaints:?}: {error}"
        );
    }
}
