use serde_json::json;

use super::{super::reader::LATE, *};
use crate::config::EventKind;

fn at(seconds: u64) -> Micros {
    Micros::from_epoch((1_000_000 + seconds) * 1_000_000)
}

fn event(seconds: u64) -> Event {
    let domain = "a.example".parse().unwrap();
    Event::new(EventKind::DomainCreated, &domain, None, &json!({}), at(seconds)).unwrap()
}

fn course() -> Course {
    let state = WebhookState { settled: EventId::before(at(0)), ..WebhookState::default() };
    Course::new(state, BTreeSet::new(), at(0))
}

fn attempted(outcome: Outcome) -> Attempted {
    Attempted { outcome, problem: "503".to_owned(), retry_after: None }
}

/// A log that is read as `reader` reads it.
fn read(log: &[Event], after: EventId, limit: usize, now: Micros) -> Reading {
    let mut behind: Vec<_> = log.iter().filter(|event| event.id > after).cloned().collect();
    behind.sort_by_key(|event| event.id);
    let is_cut = behind.len() > limit;
    behind.truncate(limit);
    let to = behind.last().map_or(after, |event| event.id);
    let to = if is_cut { to } else { to.max(EventId::before(now.less(LATE))) };
    Reading { events: behind, to, is_cut }
}

/// Lives through `seconds`, with a receiver that answers `answer` at a moment to an event; says when which was sent.
fn live(
    course: &mut Course,
    log: impl Fn(u64) -> Vec<Event>,
    seconds: std::ops::Range<u64>,
    answer: impl Fn(u64, EventId) -> Outcome,
) -> Vec<(u64, EventId)> {
    let mut sent = Vec::new();
    let mut now = at(seconds.start);
    while now < at(seconds.end) {
        let second = now.since_epoch() / 1_000_000 - 1_000_000;
        match course.next(now) {
            Step::Wait(span) => {
                assert!(!span.is_zero(), "it would turn without end at {second}");
                now = now.more(span);
            }
            Step::Read(after) => course.take(read(&log(second), after, 100, now), |_| true, now),
            Step::Send(event) => {
                sent.push((second, event.id));
                assert!(sent.len() < 10_000, "it sends without end at {second}");
                let _ = course.follow(event.id, &attempted(answer(second, event.id)), 0.0, now);
            }
            Step::Mark(_) => course.marked(),
        }
        course.settle();
    }
    sent
}

#[test]
fn events_are_sent_in_order_and_the_next_waits() {
    let log = [event(1), event(2), event(3)];
    let fails_until_20 = |second, _| if second < 20 { Outcome::Refused } else { Outcome::Delivered };
    let mut course = course();
    let sent = live(&mut course, |_| log.to_vec(), 5..60, fails_until_20);
    let ids = |n: usize| log[n].id;
    assert_eq!(sent, [(5, ids(0)), (10, ids(0)), (20, ids(0)), (20, ids(1)), (20, ids(2))]);
    assert_eq!((course.state.failures, course.state.retry_at), (0, None));
    assert_eq!(course.state.delivered_at, Some(at(20)));
}

#[test]
fn what_was_written_late_is_sent_and_nothing_twice() {
    let (early, late, later) = (event(1), event(2), event(100));
    let log = |second| {
        let written = [(1, &early), (95, &late), (100, &later)];
        written.iter().filter(|(from, _)| second >= *from).map(|(_, event)| (*event).clone()).collect()
    };
    let mut course = course();
    let mut sent = live(&mut course, log, 0..700, |_, _| Outcome::Delivered);
    // The next holder of the lease knows what is in the table.
    let mut next = Course::new(course.state.clone(), course.delivered.clone(), at(700));
    sent.extend(live(&mut next, log, 700..2_000, |_, _| Outcome::Delivered));
    let ids: Vec<_> = sent.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids.len(), 3, "{sent:?}");
    assert!([&early, &late, &later].iter().all(|event| ids.contains(&event.id)), "{sent:?}");
    assert!(next.delivered.is_empty() && next.state.settled > later.id, "{next:?}");
}

#[test]
fn what_waits_is_bounded() {
    let log: Vec<_> = (0..1_000).map(event).collect();
    let mut course = course();
    live(&mut course, |_| log.clone(), 1_000..2_000, |_, _| Outcome::Unreachable);
    assert!((ROOM..ROOM + 100).contains(&course.waiting.len()), "{}", course.waiting.len());
    let first = log.iter().map(|event| event.id).min();
    assert_eq!(course.waiting.keys().next().copied(), first);
    assert_eq!(course.behind(at(2_000)), Duration::from_secs(2_000));
    let sent = live(&mut course, |_| log.clone(), 4_000..8_000, |_, _| Outcome::Delivered);
    assert_eq!(sent.len(), log.len(), "all of them, once");
    assert!(sent.is_sorted_by_key(|(_, id)| *id));
}

#[test]
fn pauses_grow_and_a_receiver_may_ask_for_more() {
    let (mut course, event) = (course(), event(1));
    let mut pauses = Vec::new();
    for _ in 0..10 {
        match course.follow(event.id, &attempted(Outcome::TimedOut), 0.0, at(1)) {
            Consequence::Retry(pause) => pauses.push(pause.as_secs()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
    let asked = |retry_after| Attempted {
        retry_after: Some(Duration::from_secs(retry_after)),
        ..attempted(Outcome::Refused)
    };
    for (retry_after, pause) in [(1, 900), (1_800, 1_800), (u64::MAX, 3_600)] {
        let followed = course.follow(event.id, &asked(retry_after), 0.0, at(1));
        assert_eq!(followed, Consequence::Retry(Duration::from_secs(pause)));
    }
    let spread = course.follow(event.id, &attempted(Outcome::Refused), 0.5, at(1));
    assert_eq!(spread, Consequence::Retry(Duration::from_secs(990)));
}

#[test]
fn what_is_refused_for_a_day_is_given_up_and_the_next_is_sent() {
    let log = [event(1), event(2)];
    let refused = log[0].id;
    let answer = |_, id| if id == refused { Outcome::Refused } else { Outcome::Delivered };
    let mut course = course();
    let sent = live(&mut course, |_| log.to_vec(), 5..200_000, answer);
    let (last, first) = (sent.last().unwrap(), sent.first().unwrap());
    assert_eq!((first.1, last.1), (refused, log[1].id));
    assert!((86_400..90_000).contains(&last.0), "{last:?}");
    assert_eq!(course.state.failing_since, None);
}

#[test]
fn a_receiver_that_fails_for_five_days_or_wants_no_more_is_told_nothing_more() {
    const DAY: u64 = 86_400;
    let log = [event(1), event(2)];
    let mut down = course();
    let sent = live(&mut down, |_| log.to_vec(), 5..8 * DAY, |_, _| Outcome::Unreachable);
    let last = sent.last().unwrap();
    assert_eq!(last.1, log[0].id, "one that is not reached loses nothing");
    assert!((5 * DAY..5 * DAY + 1_000).contains(&last.0), "{last:?}");
    assert!(down.state.ended_at.is_some() && down.next(at(9 * DAY)) == Step::Wait(POLL));

    let mut gone = course();
    let sent = live(&mut gone, |_| log.to_vec(), 5..DAY, |_, _| Outcome::Gone);
    assert_eq!(sent.len(), 1);
    assert_eq!(gone.state.ended_at, Some(at(5)));
}

#[test]
fn nothing_is_sent_until_the_table_knows_what_was_delivered() {
    let log = [event(1), event(2), event(3)];
    let mut course = course();
    course.take(read(&log, course.read_to, 100, at(5)), |_| true, at(5));
    for (event, outcome) in log.iter().zip([Outcome::Delivered, Outcome::Delivered, Outcome::Refused]) {
        assert_eq!(course.next(at(5)), Step::Send(Box::new(event.clone())));
        course.follow(event.id, &attempted(outcome), 0.0, at(5));
        if outcome == Outcome::Refused {
            assert!(matches!(course.next(at(5)), Step::Wait(_)), "there is nothing to be known");
            continue;
        }
        // Nor however much later, while the table fails.
        for second in [5, 6, 100_000] {
            assert_eq!(course.next(at(second)), Step::Mark(event.id));
        }
        course.marked();
    }
}

#[test]
fn what_is_not_wanted_is_passed_over() {
    let mut course = course();
    course.take(read(&[event(1), event(2)], EventId::default(), 100, at(5_000)), |_| false, at(5_000));
    assert!(matches!(course.next(at(5_000)), Step::Wait(_)));
    course.settle();
    assert!(course.state.settled > EventId::before(at(1)));
}

#[test]
fn what_failed_for_an_event_that_is_given_up_says_nothing_of_a_later_one() {
    const DAY: u64 = 86_400;
    let (refused, later) = (event(1), event(6 * DAY));
    let log = |second| {
        let written = [(1, &refused), (6 * DAY, &later)];
        written.iter().filter(|(from, _)| second >= *from).map(|(_, event)| (*event).clone()).collect()
    };
    let mut course = course();
    live(&mut course, log, 5..3 * DAY, |_, _| Outcome::Refused);
    let state = &course.state;
    assert_eq!((state.failures, state.failing_since, &state.problem), (0, None, &None), "nothing waits");
    let restarts = |second, _| match second {
        second if second < 6 * DAY + 5 => Outcome::Unreachable,
        _ => Outcome::Delivered,
    };
    let sent = live(&mut course, log, 3 * DAY..7 * DAY, restarts);
    assert_eq!(sent.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [later.id; 2]);
    assert_eq!((course.state.ended_at, course.waiting.len()), (None, 0));
}

#[test]
fn a_receiver_that_was_down_for_a_day_is_sent_all() {
    const UP: u64 = 25 * 3_600;
    let log = [event(1), event(2)];
    let answer = |second, _| match second {
        second if second < UP => Outcome::Unreachable,
        second if second < UP + 1_000 => Outcome::Refused,
        _ => Outcome::Delivered,
    };
    let mut course = course();
    let sent = live(&mut course, |_| log.to_vec(), 5..UP + 5_000, answer);
    let taken: Vec<_> = sent.iter().filter(|(second, _)| *second >= UP + 1_000).map(|(_, id)| *id).collect();
    assert_eq!(taken, [log[0].id, log[1].id]);
}

#[test]
fn a_refusal_counts_for_its_event_alone() {
    const DAY: u64 = 86_400;
    let log = [event(1), event(2)];
    let refused = log[0].id;
    // The second is refused once, right after the first was for a day.
    let answer = |second, id| match id {
        id if id == refused => Outcome::Refused,
        _ if second < DAY + 1_000 => Outcome::Refused,
        _ => Outcome::Delivered,
    };
    let mut course = course();
    let sent = live(&mut course, |_| log.to_vec(), 5..2 * DAY, answer);
    assert_eq!(sent.last().map(|(_, id)| *id), Some(log[1].id));
    assert!(course.state.delivered_at.is_some(), "{sent:?}");
}

#[test]
fn the_log_is_read_again_from_ten_minutes_back_however_long_an_event_waits() {
    let log = [event(1)];
    let (mut course, mut now) = (course(), at(5));
    while now < at(86_400) {
        match course.next(now) {
            Step::Wait(span) => now = now.more(span),
            Step::Read(after) => {
                let back = Duration::from_secs(5) + WINDOW + LOOK_BACK;
                assert!(now.since(after.at) <= back, "{after} at {now}");
                course.take(read(&log, after, 100, now), |_| true, now);
            }
            Step::Send(event) => {
                let _ = course.follow(event.id, &attempted(Outcome::Unreachable), 0.0, now);
            }
            Step::Mark(event) => panic!("{event} was never delivered"),
        }
        course.settle();
    }
    assert_eq!(course.waiting.len(), 1);
}

#[test]
fn what_was_written_late_while_too_many_waited_is_sent() {
    let (log, late) = ((1..=250).map(event).collect::<Vec<_>>(), event(190));
    let log = |second| if second < 400 { log.clone() } else { [&*log, std::slice::from_ref(&late)].concat() };
    let answer = |second, _| if second < 4_000 { Outcome::Unreachable } else { Outcome::Delivered };
    let mut course = course();
    let sent = live(&mut course, log, 260..9_000, answer);
    let taken = sent.iter().filter(|(second, _)| *second >= 4_000).count();
    assert_eq!((taken, sent.iter().any(|(_, id)| *id == late.id)), (251, true));
}
