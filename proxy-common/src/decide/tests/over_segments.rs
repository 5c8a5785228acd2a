//! Hellos that come in several segments, in order or not.

use super::*;
use crate::fixture::fuzz::Dice;
use crate::fixture::segments::{NAME, Pair, corpus, shuffled};
use crate::flow::Flow;

/// What the frames of one flow lead to, each after the other; whether all that was remembered was forgotten.
fn judged_all(frames: &[Frame], tables: &Model) -> Vec<Result<Verdict, RejectCause>> {
    let mut scratch = Scratch::new();
    let judged = frames.iter().map(|frame| match decide(frame.bytes().as_slice(), tables, &mut scratch) {
        Decision::Pass(verdict) | Decision::Drop(verdict) => Ok(verdict),
        Decision::Reject(cause, _) => Err(cause),
    });
    judged.collect()
}

fn check_cuts(what: &str, hello: &[u8], cuts: &[usize], expected: Result<Verdict, RejectCause>) {
    let tables = Model::default();
    let all = judged_all(&pieces(hello, cuts), &tables);
    let is_incomplete = |verdict: &Result<_, _>| *verdict == Ok(Verdict::PassIncomplete);
    let judged = all.iter().position(|verdict| !is_incomplete(verdict));
    let (judged, behind) = all.split_at(judged.unwrap_or(all.len()) + 1);
    assert_eq!(judged.last(), Some(&expected), "{what}, cut at {cuts:?}");
    // What follows the name may look like the beginning of another hello for a moment.
    let passing = [Verdict::PassNoHello, Verdict::PassOutOfOrder, Verdict::PassIncomplete].map(Ok);
    assert!(behind.iter().all(|verdict| passing.contains(verdict)), "{what}, cut at {cuts:?}");
    if expected.is_ok() && !behind.last().is_some_and(is_incomplete) {
        assert!(!tables.remembers(), "{what}, cut at {cuts:?}: nothing is left");
    }
}

#[test]
fn a_hello_meets_one_verdict_wherever_it_is_cut() {
    for Pair { what, allowed, foreign } in corpus() {
        for cut in 1..allowed.len() {
            check_cuts(&what, &allowed, &[cut], Ok(Verdict::PassAllowed));
            check_cuts(&what, &foreign, &[cut], Err(RejectCause::Foreign));
        }
    }
}

#[test]
fn byte_by_byte_it_meets_the_same() {
    for Pair { what, allowed, foreign } in corpus() {
        let cuts: Vec<_> = (1..allowed.len()).collect();
        check_cuts(&what, &allowed, &cuts, Ok(Verdict::PassAllowed));
        check_cuts(&what, &foreign, &cuts, Err(RejectCause::Foreign));
    }
}

#[test]
fn a_hello_that_is_not_to_be_judged_meets_one_verdict_wherever_it_is_cut() {
    let many = Hello { extensions_before: 60, ..Hello::with("foreign.example") };
    for (hello, verdict) in [
        (Hello::nameless().bytes(), Verdict::PassNoName),
        (Hello::with("192.0.2.1").bytes(), Verdict::PassMalformed),
        (many.bytes(), Verdict::PassTooLong),
    ] {
        for cut in 1..hello.len() {
            check_cuts("not to be judged", &hello, &[cut], Ok(verdict));
        }
    }
}

#[test]
fn the_end_of_a_rejected_hello_is_rejected_each_time_it_comes() {
    let (hello, tables) = (Hello::with("foreign.example").bytes(), Model::default());
    for cut in 1..hello.len() {
        let frames = pieces(&hello, &[cut]);
        if judged_all(&frames[..1], &tables) != [Ok(Verdict::PassIncomplete)] {
            continue;
        }
        for _ in 0..3 {
            assert_eq!(judged_all(&frames[1..], &tables), [Err(RejectCause::Foreign)], "cut at {cut}");
        }
        assert_eq!(
            judged_all(&frames, &tables),
            [Ok(Verdict::PassIncomplete), Err(RejectCause::Foreign)],
            "from the beginning, cut at {cut}"
        );
    }
}

#[test]
fn what_is_not_the_next_segment_passes_and_says_so() {
    let hello =
        Hello { key_share_first: true, key_share_bytes: 1216, ..Hello::with("foreign.example") }.bytes();
    let frames = pieces(&hello, &[300, 600]);
    let [first, second, third] = <[Frame; 3]>::try_from(frames).unwrap();
    let overlap = Frame { sequence: Frame::SEQUENCE + 200, ..Frame::with(&hello[200..]) };
    let (incomplete, out_of_order) = (Ok(Verdict::PassIncomplete), Ok(Verdict::PassOutOfOrder));
    for (what, order, expected) in [
        ("a gap", vec![&first, &third, &second], vec![incomplete, out_of_order, incomplete]),
        ("an overlap", vec![&first, &overlap], vec![incomplete, out_of_order]),
        ("a part again", vec![&first, &second, &second], vec![incomplete, incomplete, out_of_order]),
        ("the end first", vec![&third, &first], vec![Ok(Verdict::PassNoHello), incomplete]),
        (
            "the beginning again",
            vec![&first, &second, &first, &third],
            vec![incomplete, incomplete, incomplete, Err(RejectCause::Foreign)],
        ),
    ] {
        let order: Vec<_> = order.into_iter().cloned().collect();
        assert_eq!(judged_all(&order, &Model::default()), expected, "{what}");
    }
}

#[test]
fn a_segment_too_far_away_for_the_hello_that_is_remembered_says_nothing_of_it() {
    let hello = Hello::with("foreign.example").bytes();
    let decoy = Frame { sequence: Frame::SEQUENCE + (1 << 30), ..Frame::with(&hello[..20]) };
    let tables = Model::default();
    assert_eq!(
        judged_all(&[decoy, Frame::with(&*hello)], &tables),
        [Ok(Verdict::PassIncomplete), Err(RejectCause::Foreign)]
    );
}

#[test]
fn what_follows_a_hello_that_the_budget_let_through_is_no_part_of_it() {
    let hello = Hello::with("foreign.example").bytes();
    let tables = with_mode(Mode::Adaptive);
    let mut frames = pieces(&hello, &[100]);
    let behind = Frame::SEQUENCE + u32::try_from(hello.len()).unwrap();
    frames.push(Frame { sequence: behind, ..Frame::with([23; 1400]) });
    assert_eq!(
        judged_all(&frames, &tables),
        [Ok(Verdict::PassIncomplete), Ok(Verdict::PassUnknown), Ok(Verdict::PassNoHello)]
    );
    // Once more, as after a loss: it was paid for.
    let again = judged_all(&frames, &tables);
    assert!(again.iter().all(Result::is_ok), "{again:?}");
}

#[test]
fn a_segment_that_comes_again_replaces_a_damaged_one() {
    let hello = Hello::with("shop.example.com").bytes();
    let name = hello.windows(7).position(|window| window == b"shop.ex").unwrap();
    let [first, second] = <[Frame; 2]>::try_from(pieces(&hello, &[name + 7])).unwrap();
    let mut damaged = hello[..name + 7].to_vec();
    damaged[name] ^= 1;
    let damaged = Frame { sequence: first.sequence, ..Frame::with(&*damaged) };
    let tables = Model::default();
    let seen = judged_all(&[damaged, second.clone(), first, second], &tables);
    assert_eq!(seen.last(), Some(&Ok(Verdict::PassAllowed)), "{seen:?}");
}

#[test]
fn a_flow_is_forgotten_by_its_beginning_its_end_and_its_age() {
    let hello = Hello::with("foreign.example").bytes();
    let [first, second] = <[Frame; 2]>::try_from(pieces(&hello, &[100])).unwrap();
    for (what, flags) in [
        ("SYN", Segment::SYN),
        ("RST", Segment::RST),
        ("FIN", Segment::FIN | Segment::ACK),
        ("RST, ACK", Segment::RST | Segment::ACK),
    ] {
        let tables = Model::default();
        let between = Frame { flags, ..Frame::with([]) };
        let all = judged_all(&[first.clone(), between, second.clone()], &tables);
        assert_eq!((all[0], all[2]), (Ok(Verdict::PassIncomplete), Ok(Verdict::PassNoHello)), "{what}");
        assert!(!tables.remembers(), "{what}");
    }
    for (seconds, expected) in [(9, Err(RejectCause::Foreign)), (11, Ok(Verdict::PassForgotten))] {
        let mut tables = Model::default();
        judged(&first, &tables).unwrap();
        tables.pass_time(seconds * 1_000_000_000);
        assert_eq!(judged(&second, &tables), expected, "after {seconds} s");
    }
    let last = Frame { flags: Segment::FIN | Segment::ACK, ..first };
    let tables = Model::default();
    assert_eq!(judged(&last, &tables), Ok(Verdict::PassIncomplete));
    assert!(!tables.remembers(), "nothing follows a FIN");
}

#[test]
fn a_name_whose_beginning_was_overwritten_passes() {
    let hello = Hello::with("foreign.example").bytes();
    let at = hello.windows(7).position(|window| window == b"foreign").unwrap();
    let [first, second] = <[Frame; 2]>::try_from(pieces(&hello, &[at + 3])).unwrap();
    let tables = Model::default();
    assert_eq!(judged(&first, &tables), Ok(Verdict::PassIncomplete));
    tables.cut_names.borrow_mut().clear();
    assert_eq!(judged(&second, &tables), Ok(Verdict::PassForgotten));
}

#[test]
fn flows_that_share_a_slot_are_not_mixed_up() {
    let tables = Model::default();
    let (allowed, foreign) = (Hello::with(NAME).bytes(), Hello::with("foreign.example.org").bytes());
    let slot = |frame: &Frame| {
        let bytes = frame.bytes();
        Flow::of(bytes.as_slice(), &Segment::find(bytes.as_slice()).unwrap()).unwrap().slot()
    };
    let first = |port, bytes: &[u8]| Frame { source_port: port, ..pieces(bytes, &[100]).remove(0) };
    let second = |port, bytes: &[u8]| Frame { source_port: port, ..pieces(bytes, &[100]).remove(1) };
    // Their hints are made to agree, as those of one in 2^23 pairs do.
    judged(&first(1, &allowed), &tables).unwrap();
    judged(&first(2, &foreign), &tables).unwrap();
    let (one, other) = (slot(&first(1, &allowed)), slot(&first(2, &foreign)));
    let entry = tables.flows.borrow()[&other.index];
    tables.flows.borrow_mut().insert(one.index, entry);
    assert_eq!(judged(&second(1, &allowed), &tables), Ok(Verdict::PassNoHello));
    assert_eq!(judged(&second(2, &foreign), &tables), Err(RejectCause::Foreign));
}

#[test]
fn no_order_of_segments_rejects_an_allowed_name() {
    let (corpus, mut dice) = (corpus(), Dice::new(16));
    let (mut judged, mut rejected) = (0_u64, 0_u64);
    for round in 0..ROUNDS {
        let Pair { what, allowed, foreign } = &corpus[dice.below(corpus.len())];
        for (hello, is_allowed) in [(allowed, true), (foreign, false)] {
            let frames = shuffled(hello, &mut Dice::new(round));
            let verdicts = judged_all(&frames, &Model::default());
            let rejections = verdicts.iter().filter(|verdict| verdict.is_err()).count();
            assert!(!is_allowed || rejections == 0, "{what}, round {round}: {verdicts:?}");
            judged += u64::from(verdicts.contains(&Ok(Verdict::PassAllowed)));
            rejected += u64::from(rejections > 0);
        }
    }
    // Else next to nothing was tried.
    assert!(judged > ROUNDS / 3 && rejected > ROUNDS / 3, "{judged} allowed, {rejected} rejected");
}

#[test]
fn three_segments_meet_the_verdict_of_one() {
    let (corpus, mut dice) = (corpus(), Dice::new(3));
    for _ in 0..ROUNDS {
        let Pair { what, allowed, foreign } = &corpus[dice.below(corpus.len())];
        let cuts = [dice.below(allowed.len()), dice.below(allowed.len())];
        check_cuts(what, allowed, &cuts, Ok(Verdict::PassAllowed));
        check_cuts(what, foreign, &cuts, Err(RejectCause::Foreign));
    }
}

const ROUNDS: u64 = 3_000;
