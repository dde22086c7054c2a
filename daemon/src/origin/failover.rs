//! Requests to parents with failover: one after the other, or two in parallel (hedged) when the first is silent.

use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use http::header::{HOST, USER_AGENT};

use carousel::time::Instant;

use super::breaker::RequestEnd;
use super::client::{AGENT, Circuit, Client};
use super::connections::Pool;
use super::error::OriginError;
use super::message::{Question, Reply, no_body};
use super::parents::{Candidate, MAX_TRIES, Plan};
use crate::clock;

carousel::limits! {
    /// Time, in timeouts of the group, after which a request is not passed to another parent.
    const MAX_TIMEOUTS: u32 = 2, "timeouts" {
        why: "Parents without a connection cost no try, but a player waits for each.",
        full: "The last of the candidates is asked: the origin of the route, or the dearest parent.",
        free: "Holds for one request.",
        test: "parents_that_cannot_be_connected_to_are_bounded_by_time",
    }

    /// Parents that are asked after the origin has failed.
    const MAX_LAST: usize = 2, "parents" {
        why: "The one that should hold the object, and the one that has had its share meanwhile.",
        full: "The request fails as the origin did.",
        free: "Holds for one request.",
        test: "parents_that_were_left_out_are_asked_when_the_origin_fails",
    }
}

impl Question {
    /// A copy without its body.
    pub(super) fn again(&self) -> Self {
        Self {
            method: self.method.clone(),
            headers: self.headers.clone(),
            body: no_body(),
            on_interim: self.on_interim.clone(),
            follows_redirects: self.follows_redirects,
            trace: self.trace.clone(),
            asker: self.asker,
        }
    }
}

/// Reason to request from a candidate.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// It is the first.
    First,
    /// The first candidate is silent.
    Hedge,
    /// A candidate before it has failed.
    Failover,
    /// All candidates have failed, the origin too: another may still hold the object, whether or not its circuit is open.
    Last,
}

impl Turn {
    /// Whether an open circuit counts.
    const fn circuit(self) -> Circuit {
        if matches!(self, Self::Last) { Circuit::Ignored } else { Circuit::Heeded }
    }

    /// Value for traces.
    const fn at(self, candidate: &Candidate) -> &'static str {
        match (self, candidate.member.is_some()) {
            (Self::First, true) => "parent",
            (Self::First, false) => "origin",
            (Self::Hedge, _) => "hedge at a parent",
            (Self::Failover, true) => "failover to a parent",
            (Self::Failover, false) => "failover to the origin",
            (Self::Last, _) => "a parent after the origin",
        }
    }
}

/// The beginning of a request's way through its candidates.
#[derive(Debug, Clone, Copy)]
struct Tried {
    /// Position of the next candidate.
    next: usize,
    /// Candidates that were reached, and failed.
    tries: usize,
    begun: Instant,
}

impl Candidate {
    /// Records the head of its answer; the result of the body is recorded at its end.
    fn note(&self, result: &mut Result<Reply, OriginError>) {
        if let Some(member) = &self.member {
            member.requests.fetch_add(1, Ordering::Relaxed);
            member.failures.fetch_add(u64::from(!is_answer(result)), Ordering::Relaxed);
            if let Ok(reply) = result {
                reply.came_from(member, &self.url);
            }
        }
    }
}

/// Whether no other member needs to be asked: a refusal is an answer as well.
fn is_answer(result: &Result<Reply, OriginError>) -> bool {
    match result {
        Ok(reply) => RequestEnd::of_status(reply.status.as_u16()) == RequestEnd::Well,
        Err(OriginError::Status(status)) => RequestEnd::of_status(*status) == RequestEnd::Well,
        Err(OriginError::RequestBody | OriginError::BadUrl) => true,
        Err(_) => false,
    }
}

/// Whether a failed request has not reached its candidate, or was refused for its signature: it has loaded nothing, and costs
/// neither a try nor the retry budget.
const fn is_free(result: &Result<Reply, OriginError>) -> bool {
    matches!(
        result,
        Err(OriginError::Connect(_)
            | OriginError::CircuitOpen
            | OriginError::Address(_)
            | OriginError::Unsigned
            | OriginError::Signature(_))
    )
}

/// Whether a parent answers with a status other than a server error.
async fn is_well(client: &Pool, url: &str, limit: Duration) -> bool {
    let Ok(request) = Request::head(url).header(USER_AGENT, AGENT).body(no_body()) else { return false };
    let answer = tokio::time::timeout(limit, client.request(request)).await;
    matches!(answer, Ok(Ok(response)) if response.status().as_u16() < 500)
}

impl Client {
    /// As [`Client::get`], through parents.
    pub(super) async fn get_by(&self, plan: &Plan, ranges: &[Range<u64>]) -> Result<Reply, OriginError> {
        plan.group.earn();
        let get = |candidate: &Candidate, turn: Turn| {
            let (url, limit) = (candidate.url.clone(), candidate.member.as_ref().map(|_| plan.timeout));
            async move { self.in_time(limit, self.get_at(&url, ranges, turn.circuit())).await }
        };
        self.in_turn(plan, get).await
    }

    /// As [`Client::ask`], through parents. The question has no body and may be sent twice.
    pub(super) async fn ask_by(
        &self,
        plan: &Plan,
        url: &str,
        question: &Question,
    ) -> Result<Reply, OriginError> {
        plan.group.earn();
        // A blocking playlist reload is silent by design.
        let is_blocking = url.contains("_HLS_msn");
        let ask = |candidate: &Candidate, turn: Turn| {
            let mut again = question.again();
            again.trace = question.trace.because(turn.at(candidate));
            let limit = candidate.member.as_ref().filter(|_| !is_blocking).map(|_| plan.timeout);
            if candidate.member.is_some() {
                // A host name set by the route is for the origin.
                again.headers.remove(HOST);
            }
            let url = candidate.url.clone();
            async move { self.in_time(limit, self.question(&url, again, turn.circuit())).await }
        };
        match &plan.candidates[..] {
            [first, second, ..] if plan.hedge && second.member.is_some() && !is_blocking => {
                self.hedged(plan, [first, second], ask).await
            }
            _ => self.in_turn(plan, ask).await,
        }
    }

    /// Requests from the second candidate as well when the first is silent for longer than the 95th percentile of
    /// responses.
    async fn hedged<F: Future<Output = Result<Reply, OriginError>>>(
        &self,
        plan: &Plan,
        [first, second]: [&Candidate; 2],
        ask: impl Fn(&Candidate, Turn) -> F,
    ) -> Result<Reply, OriginError> {
        let begun = clock::now();
        // Slow answers of the first are recorded, so that inherently slow resources are not requested twice forever.
        let took = |candidate: &Candidate| {
            if std::ptr::eq(candidate, first) {
                plan.latency.took(clock::now().since(begun));
            }
        };
        let mut one = pin!(ask(first, Turn::First));
        let result = match tokio::time::timeout(plan.latency.patience(), one.as_mut()).await {
            Ok(result) => result,
            Err(_) if !plan.group.spend() => one.await,
            Err(_) => {
                plan.group.hedged.fetch_add(1, Ordering::Relaxed);
                let mut other = pin!(ask(second, Turn::Hedge));
                let (winner, loser, mut result) = tokio::select! {
                    result = one.as_mut() => (first, second, result),
                    result = other.as_mut() => (second, first, result),
                };
                winner.note(&mut result);
                if is_answer(&result) {
                    took(winner);
                    return result;
                }
                let was_free = is_free(&result);
                let mut result = if std::ptr::eq(loser, first) { one.await } else { other.await };
                loser.note(&mut result);
                if is_answer(&result) {
                    took(loser);
                    return result;
                }
                let tries = usize::from(!was_free) + usize::from(!is_free(&result));
                if tries < 2 {
                    plan.group.give_back();
                }
                return self.in_turn_after(plan, Tried { next: 2, tries, begun }, ask, result).await;
            }
        };
        self.after_first(plan, first, begun, ask, result).await
    }

    /// Requests from candidates one after the other, until one answers.
    async fn in_turn<F: Future<Output = Result<Reply, OriginError>>>(
        &self,
        plan: &Plan,
        ask: impl Fn(&Candidate, Turn) -> F,
    ) -> Result<Reply, OriginError> {
        let Some(first) = plan.candidates.first() else { return Err(OriginError::BadUrl) };
        let begun = clock::now();
        let result = ask(first, Turn::First).await;
        self.after_first(plan, first, begun, ask, result).await
    }

    /// The answer of the first candidate, which was asked alone since `begun`, or of one of the next.
    async fn after_first<F: Future<Output = Result<Reply, OriginError>>>(
        &self,
        plan: &Plan,
        first: &Candidate,
        begun: Instant,
        ask: impl Fn(&Candidate, Turn) -> F,
        mut result: Result<Reply, OriginError>,
    ) -> Result<Reply, OriginError> {
        first.note(&mut result);
        if is_answer(&result) {
            plan.latency.took(clock::now().since(begun));
            return result;
        }
        let tries = usize::from(!is_free(&result));
        self.in_turn_after(plan, Tried { next: 1, tries, begun }, ask, result).await
    }

    /// As [`Self::in_turn`], from the candidate after those that were tried, the last of which gave `result`. With an exhausted
    /// retry budget, failures go to the origin at once; where it is not asked, to every member. When the origin has failed too,
    /// members that were not asked, or left out for their circuit, may still hold the object: an origin that is away makes
    /// parents answer 5xx for what they do not hold, which says nothing about what they do.
    async fn in_turn_after<F: Future<Output = Result<Reply, OriginError>>>(
        &self,
        plan: &Plan,
        mut tried: Tried,
        ask: impl Fn(&Candidate, Turn) -> F,
        mut result: Result<Reply, OriginError>,
    ) -> Result<Reply, OriginError> {
        let end = plan.candidates.len();
        let has_origin = plan.candidates.last().is_some_and(|it| it.member.is_none());
        let is_over = || clock::now().since(tried.begun) >= plan.timeout * MAX_TIMEOUTS;
        let mut skipped = Vec::new();
        for (at, candidate) in plan.candidates.iter().enumerate().skip(tried.next) {
            if at + 1 < end {
                // A request that has reached no parent yet is not a retry.
                let is_paid = || is_free(&result) || plan.group.spend();
                if is_over() || has_origin && (tried.tries >= MAX_TRIES || !is_paid()) {
                    skipped.push(candidate);
                    continue;
                }
            }
            plan.group.failed_over.fetch_add(1, Ordering::Relaxed);
            result = ask(candidate, Turn::Failover).await;
            candidate.note(&mut result);
            if is_answer(&result) {
                return result;
            }
            tried.tries += usize::from(!is_free(&result));
        }
        if !has_origin {
            return result;
        }
        for candidate in plan.left_out.iter().chain(skipped).take(MAX_LAST) {
            if is_over() {
                break;
            }
            plan.group.failed_over.fetch_add(1, Ordering::Relaxed);
            let mut last = ask(candidate, Turn::Last).await;
            candidate.note(&mut last);
            if is_answer(&last) {
                return last;
            }
        }
        result
    }

    /// The answer to a question, within the time limit of parents.
    async fn in_time(
        &self,
        limit: Option<Duration>,
        answer: impl Future<Output = Result<Reply, OriginError>>,
    ) -> Result<Reply, OriginError> {
        let Some(limit) = limit else { return answer.await };
        match tokio::time::timeout(limit, answer).await {
            Ok(result) => result,
            Err(_) => self.count(Err(OriginError::Timeout)),
        }
    }

    /// Checks the health of every parent once, in parallel.
    pub(super) async fn check_parents(&self) {
        let mut looks = tokio::task::JoinSet::new();
        for (url, member) in self.parents().health() {
            let (client, limit) = (self.pool().clone(), self.own_limit());
            looks.spawn(async move {
                let is_well = is_well(&client, &url, limit).await;
                (url, member, is_well)
            });
        }
        while let Some(looked) = looks.join_next().await {
            let Ok((url, member, is_well)) = looked else { continue };
            if is_well {
                // Its circuit permits the next request, too.
                self.breakers().looked(&url, RequestEnd::Well, clock::now());
            }
            if member.looked(is_well) {
                if is_well {
                    tracing::info!(url, "the parent answers again");
                } else {
                    tracing::warn!(url, "the parent does not answer: others are asked");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::AtomicUsize;

    use super::super::breaker::Breakers;
    use super::super::options::Route;
    use super::super::parents::ParentGroup;
    use super::super::testing::{origin, response};
    use super::super::{AddressPolicy, OriginTimeouts};
    use super::*;

    const URL: &str = "http://127.0.0.1:9/films/";

    /// A client of a group with these members, each dearer than the one before.
    fn client(members: &[String], more: &str) -> Client {
        let members: String = members
            .iter()
            .enumerate()
            .map(|(cost, url)| format!("[[member]]\nurl = \"{url}\"\ncost = {cost}\n"))
            .collect();
        let group: ParentGroup =
            toml::from_str(&format!("name = \"shields\"\nhedge = false\n{more}\n{members}")).unwrap();
        let route = Route {
            path: "/vod/".to_owned(),
            base: URL.to_owned(),
            parents: Some("shields".to_owned()),
            ..Route::default()
        };
        let policy = AddressPolicy::new(&[], &[], &["127.0.0.0/8:*".to_owned()], Vec::new());
        Client::new(Duration::from_secs(60), &OriginTimeouts::default(), &[route], &[group], policy)
    }

    fn plan(client: &Client) -> Plan {
        client.parents().plan(&format!("{URL}0.m4s"), &Breakers::default(), clock::now()).unwrap()
    }

    /// A URL whose connections are refused.
    fn dead() -> String {
        format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
    }

    /// A cache with this status, and the number of requests to it.
    fn cache(status: u16) -> (String, std::sync::Arc<AtomicUsize>) {
        let count = std::sync::Arc::new(AtomicUsize::new(0));
        let counted = std::sync::Arc::clone(&count);
        let url = origin(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            response(&[&format!("{status} X"), "Content-Length: 0"], "")
        });
        (url.trim_end_matches('/').to_owned(), count)
    }

    async fn status(client: &Client, name: &str) -> Result<u16, OriginError> {
        let url = format!("{URL}{name}");
        let asked = client.ask(&url, Question::get(http::HeaderMap::new(), false)).await;
        asked.map(|reply| reply.status.as_u16())
    }

    #[tokio::test]
    async fn parents_without_a_connection_cost_no_try_and_those_that_fail_do() {
        let (living, asked) = cache(200);
        let members = [dead(), dead(), dead(), living.clone()];
        for more in ["", "origin_last = false"] {
            asked.store(0, Ordering::Relaxed);
            let client = client(&members, more);
            while plan(&client).group.spend() {}
            for number in 0..30 {
                assert_eq!(status(&client, &format!("{number}.m4s")).await, Ok(200), "{more} {number}");
            }
            assert!(client.get(&format!("{URL}30.m4s"), &[]).await.is_ok(), "a request of the box itself");
            assert_eq!(asked.load(Ordering::Relaxed), 31, "{more}");
            let report = client.parents_report();
            let failures: Vec<_> = report[0].members.iter().map(|it| it.failures).collect();
            assert_eq!(failures, [5, 5, 5, 0], "with the circuit open they are not asked");
        }
        // Those that were reached cost tries, and all but the first the budget.
        let failing = [503, 503, 503].map(cache);
        let count = || failing.each_ref().map(|(_, count)| count.swap(0, Ordering::Relaxed));
        let mut members = failing.each_ref().map(|(url, _)| url.clone()).to_vec();
        members.push(living);
        let client_of = |more: &str, is_spent: bool| {
            let client = client(&members, more);
            while is_spent && plan(&client).group.spend() {}
            client
        };
        // The origin is asked after them, and fails: two more are asked.
        assert_eq!(status(&client_of("", false), "a.m4s").await, Ok(200));
        assert_eq!(count(), [1, 1, 1]);
        assert!(status(&client_of("", true), "a.m4s").await.is_err());
        assert_eq!(count(), [1, 1, 1]);
        for is_spent in [false, true] {
            let alone = client_of("origin_last = false", is_spent);
            assert_eq!(status(&alone, "a.m4s").await, Ok(200), "the one that lives is asked");
            assert_eq!(count(), [1, 1, 1]);
        }
    }

    #[tokio::test]
    async fn parents_that_were_left_out_are_asked_when_the_origin_fails() {
        // A parent whose own origin is away: it fails for what it does not hold.
        let url = origin(|head| {
            let status = if head.contains("/vod/held") || head.starts_with("head /-/health ") {
                "200 X"
            } else {
                "503 X"
            };
            response(&[status, "Content-Length: 0"], "")
        });
        let (other, asked) = cache(502);
        let members = [url.trim_end_matches('/').to_owned(), other];
        let client = client(&members, "");
        while plan(&client).group.spend() {}
        // The box's own requests: those of one player alone open no circuit.
        let fail = async |number: usize| client.get(&format!("{URL}{number}.m4s"), &[]).await.is_err();
        for number in 0..10 {
            assert!(fail(number).await);
        }
        let is_open = || client.breakers().is_open(&members[0], clock::now());
        assert!(is_open(), "its circuit is open");
        asked.store(0, Ordering::Relaxed);
        assert_eq!(status(&client, "held.m4s").await, Ok(200), "and what it holds is served");
        assert!(!is_open());
        for number in 10..20 {
            assert!(fail(number).await);
        }
        assert!(is_open());
        client.check_parents().await;
        assert!(!is_open(), "a look at its health permits the next request");
    }

    #[tokio::test]
    async fn parents_that_cannot_be_connected_to_are_bounded_by_time() {
        let members: Vec<_> = (0..20).map(|_| dead()).collect();
        let client = client(&members, "origin_last = false\ntimeout_ms = 20");
        let plan = plan(&client);
        let asked = std::cell::RefCell::new(Vec::new());
        let result = client
            .in_turn(&plan, |candidate, _| {
                asked.borrow_mut().push(candidate.url.clone());
                async {
                    tokio::time::sleep(Duration::from_millis(15)).await;
                    Err(OriginError::Connect("none in 15 ms".to_owned()))
                }
            })
            .await;
        assert!(result.is_err());
        let asked = asked.into_inner();
        assert!((2..=4).contains(&asked.len()), "{asked:?}");
        assert!(asked.last().unwrap().starts_with(&members[19]), "the last one is asked: {asked:?}");
    }
}
