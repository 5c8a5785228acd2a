use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::*;

/// Answers in turn, and counts.
struct Script {
    answers: Mutex<Vec<(u16, &'static str)>>,
    calls: AtomicUsize,
}

impl Transport for Script {
    fn send<'a>(&'a self, _: &'a Request) -> Sent<'a> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock().unwrap();
        let (status, body) = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
        Box::pin(async move { Ok(Answer { status, body: body.as_bytes().to_vec() }) })
    }
}

/// How a look at a stack ends, and with how many calls.
async fn asked(answers: &[(u16, &'static str)]) -> (Result<bool, Fault>, usize) {
    let script = Arc::new(Script { answers: Mutex::new(answers.to_vec()), calls: AtomicUsize::new(0) });
    let aws = Aws::new(script.clone(), Duration::ZERO);
    let stack = aws.stack(&Region::parse("eu-central-1").unwrap(), "s").await;
    (stack.map(|stack| stack.is_some()), script.calls.load(Ordering::Relaxed))
}

const STACK: &str = "<R><DescribeStacksResult><Stacks><member><StackStatus>CREATE_COMPLETE</StackStatus></member>\
    </Stacks></DescribeStacksResult></R>";
const ABSENT: &str =
    "<E><Error><Code>ValidationError</Code><Message>Stack with id s does not exist</Message></Error></E>";
const DENIED: &str = "<E><Error><Code>AccessDenied</Code><Message>no</Message></Error></E>";
const BUSY: &str = "<E><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></E>";

#[tokio::test]
async fn a_busy_service_is_asked_again_and_no_other() {
    for (answers, wanted, calls) in [
        (vec![(200, STACK)], Some(true), 1),
        (vec![(400, ABSENT)], Some(false), 1),
        (vec![(400, BUSY), (503, ""), (200, STACK)], Some(true), 3),
        (vec![(403, DENIED)], None, 1),
        (vec![(400, BUSY)], None, 5),
        (vec![(200, "{}")], None, 1),
    ] {
        let (answer, made) = asked(&answers).await;
        assert_eq!((answer.clone().ok(), made), (wanted, calls), "{answers:?}: {answer:?}");
    }
    let (denied, _) = asked(&[(403, DENIED)]).await;
    let said = denied.unwrap_err().to_string();
    assert_eq!(said, "eu-central-1: cloudformation:DescribeStacks: AccessDenied: no");
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice() {
    for (answer, calls) in [((500, ""), 1), ((400, BUSY), 5)] {
        let script = Arc::new(Script { answers: Mutex::new(vec![answer]), calls: AtomicUsize::new(0) });
        let aws = Aws::new(script.clone(), Duration::ZERO);
        let region = Region::parse("eu-central-1").unwrap();
        assert!(aws.delete_stack(&region, "s", "token", None).await.is_err());
        assert_eq!(script.calls.load(Ordering::Relaxed), calls, "{answer:?}");
    }
}

#[tokio::test]
async fn a_quota_that_may_not_be_asked_for_is_none() {
    let denied =
        r#"{"__type":"AccessDeniedException","Message":"an explicit deny in a service control policy"}"#;
    for (status, body, wanted) in [
        (200, r#"{"Quotas":[{"QuotaName":"Standard accelerators per AWS account","Value":20.0}]}"#, Some(20)),
        (400, denied, None),
    ] {
        let answers = Mutex::new(vec![(200, r#"{"Accelerators":[{"Name":"a"}]}"#), (status, body)]);
        let script = Arc::new(Script { answers, calls: AtomicUsize::new(0) });
        let used = Aws::new(script, Duration::ZERO).accelerators().await.unwrap();
        assert_eq!(used.map(|used| used.most), wanted, "{body}");
    }
}

#[tokio::test]
async fn an_internal_error_of_global_accelerators_is_one_although_its_status_is_400() {
    let internal = r#"{"__type":"InternalServiceErrorException","Message":"There was an internal error"}"#;
    let answers = Mutex::new(vec![(400, internal), (200, r#"{"Accelerators":[{"Name":"a"}]}"#)]);
    let script = Arc::new(Script { answers, calls: AtomicUsize::new(0) });
    let names = Aws::new(script.clone(), Duration::ZERO).accelerator_names().await.unwrap();
    assert_eq!((names, script.calls.load(Ordering::Relaxed)), (vec!["a".to_owned()], 2));
}

#[tokio::test]
async fn the_records_of_a_name_are_its_own() {
    let sets = "<R><ResourceRecordSets>\
        <ResourceRecordSet><Name>edge.example.com.</Name><Type>A</Type></ResourceRecordSet>\
        <ResourceRecordSet><Name>edge.example.com.</Name><Type>TXT</Type></ResourceRecordSet>\
        <ResourceRecordSet><Name>x.edge.example.com.</Name><Type>CNAME</Type></ResourceRecordSet>\
        </ResourceRecordSets></R>";
    let absent = "<E><Error><Code>NoSuchHostedZone</Code><Message>no</Message></Error></E>";
    for (status, body, wanted) in [(200, sets, vec!["A", "TXT"]), (404, absent, vec![])] {
        let script =
            Arc::new(Script { answers: Mutex::new(vec![(status, body)]), calls: AtomicUsize::new(0) });
        let records = Aws::new(script, Duration::ZERO).records("Z1", "edge.example.com").await.unwrap();
        assert_eq!(Vec::from_iter(records), wanted, "{body}");
    }
}

#[test]
fn no_answer_is_read_without_a_bound() {
    let deep = "<a>".repeat(40) + &"</a>".repeat(40);
    let mut tree = xml::Tree::parse(deep.as_bytes());
    let mut depth = 0;
    while let Some(inner) = tree.as_ref().and_then(|tree| tree.child("a")).cloned() {
        (tree, depth) = (Some(inner), depth + 1);
    }
    assert_eq!(depth, 32);
    let entities = "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>";
    for other in ["", "<a>", "{}", "<a></b>", entities] {
        assert_eq!(xml::Tree::parse(other.as_bytes()), None, "{other}");
    }
}
