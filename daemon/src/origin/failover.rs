//! Requests to parents with failover: one after the other, or two in parallel (hedged) when the first is silent.

use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use http::header::{HOST, USER_AGENT};

use super::breaker::RequestEnd;
use super::client::{AGENT, Client, OriginError, Pool, Question, Reply, no_body};
use super::parents::{Candidate, Plan};
use crate::clock;

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
}

impl Turn {
    /// Value for traces.
    const fn at(self, candidate: &Candidate) -> &'static str {
        match (self, candidate.member.is_some()) {
            (Self::First, true) => "parent",
            (Self::First, false) => "origin",
            (Self::Hedge, _) => "hedge at a parent",
            (Self::Failover, true) => "failover to a parent",
            (Self::Failover, false) => "failover to the origin",
        }
    }
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
        let get = |candidate: &Candidate, _: Turn| {
            let (url, limit) = (candidate.url.clone(), candidate.member.as_ref().map(|_| plan.timeout));
            async move { self.in_time(limit, self.get_at(&url, ranges)).await }
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
            async move { self.in_time(limit, self.question(&url, again)).await }
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
                plan.group.took(clock::now().since(begun));
            }
        };
        let mut one = pin!(ask(first, Turn::First));
        let mut result = match tokio::time::timeout(plan.group.patience(), one.as_mut()).await {
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
                let mut result = if std::ptr::eq(loser, first) { one.await } else { other.await };
                loser.note(&mut result);
                if is_answer(&result) {
                    took(loser);
                    return result;
                }
                return self.in_turn_after(plan, 2, ask, result).await;
            }
        };
        first.note(&mut result);
        if is_answer(&result) {
            took(first);
            return result;
        }
        self.in_turn_after(plan, 1, ask, result).await
    }

    /// Requests from candidates one after the other, until one answers.
    async fn in_turn<F: Future<Output = Result<Reply, OriginError>>>(
        &self,
        plan: &Plan,
        ask: impl Fn(&Candidate, Turn) -> F,
    ) -> Result<Reply, OriginError> {
        let Some(first) = plan.candidates.first() else { return Err(OriginError::BadUrl) };
        let begun = clock::now();
        let mut result = ask(first, Turn::First).await;
        first.note(&mut result);
        if is_answer(&result) {
            plan.group.took(clock::now().since(begun));
            return result;
        }
        self.in_turn_after(plan, 1, ask, result).await
    }

    /// As [`Self::in_turn`], from the candidate after the one that gave `result`. With an exhausted retry budget, failures go
    /// to the origin at once.
    async fn in_turn_after<F: Future<Output = Result<Reply, OriginError>>>(
        &self,
        plan: &Plan,
        from: usize,
        ask: impl Fn(&Candidate, Turn) -> F,
        mut result: Result<Reply, OriginError>,
    ) -> Result<Reply, OriginError> {
        for candidate in plan.candidates.iter().skip(from) {
            if candidate.member.is_some() && !plan.group.spend() {
                continue;
            }
            plan.group.failed_over.fetch_add(1, Ordering::Relaxed);
            result = ask(candidate, Turn::Failover).await;
            candidate.note(&mut result);
            if is_answer(&result) {
                break;
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
                if member.looked(is_well) {
                    if is_well {
                        tracing::info!(url, "the parent answers again");
                    } else {
                        tracing::warn!(url, "the parent does not answer: others are asked");
                    }
                }
            });
        }
        while looks.join_next().await.is_some() {}
    }
}
