//! A request, from its arrival to its answer: where it comes from, who sends it, which handler it gets. It can wait for
//! the journal twice: until the session of its sender is known, and until its handler has what it needs.

use std::mem;
use std::rc::Rc;
use std::time::Instant;

use super::Server;
use super::exchanges::{Call, Opening, Reply};
use super::identity::{Denial, Grant, Guard};
use super::params::ApiError;
use super::parked::{Halt, LOAD_TIME, Parked};
use super::routes::{self, Found};
use crate::access::{Access, Resource};
use crate::connection::Traffic;
use crate::event_loop::ExchangeId;
use crate::http::{Method, Request, Response};
use crate::journal::Wanted;
use crate::proxies::Client;
use crate::quotas::Quota;

/// The permission of a request, if it needs one, and the quota of its client, unless it is exempt.
pub type Admission = (Option<Rc<Grant>>, Option<Rc<Quota>>);

/// A request that is not answered yet.
struct Arrived {
    id: ExchangeId,
    request: Request,
    /// The traffic of the connection before it.
    since: Traffic,
    /// The end of its wait for the journal.
    until: Instant,
    /// What it has waited for before.
    answered: Vec<Wanted>,
}

impl Server {
    /// Takes a new request.
    pub(super) fn on_request(&mut self, id: ExchangeId, request: Request) {
        if self.metrics_listener.is_some_and(|listener| self.exchanges.event_loop.came_by(id, listener)) {
            return self.answer_scrape(id, &request);
        }
        let mut since = self.exchanges.event_loop.traffic(id);
        since.received = since.received.saturating_sub(request.wire_length() as u64);
        let until = self.exchanges.now() + LOAD_TIME;
        self.admit_and_handle(Arrived { id, request, since, until, answered: Vec::new() });
    }

    /// Handles a request again that has waited for the journal.
    pub(super) fn handle_again(&mut self, parked: Parked) {
        let Parked { id, request, since, admission, until, answered, .. } = parked;
        let arrived = Arrived { id, request, since, until, answered };
        let Some((grant, quota)) = admission else { return self.admit_and_handle(arrived) };
        let is_lost = |guard: &Guard| grant.as_ref().is_some_and(|grant| !guard.still_holds(&self.exchanges, grant));
        if self.guard.as_ref().is_some_and(is_lost) {
            return self.exchanges.event_loop.respond(id, ApiError::unauthorized("the session is over").response());
        }
        let found = routes::find(arrived.request.method(), &arrived.request.path());
        self.handle_request(arrived, (grant, quota), found);
    }

    fn admit_and_handle(&mut self, mut arrived: Arrived) {
        let (id, since) = (arrived.id, arrived.since);
        let found = routes::find(arrived.request.method(), &arrived.request.path());
        self.exchanges.answered = mem::take(&mut arrived.answered);
        let admission = self.admit(id, &arrived.request, &found);
        let answered = mem::take(&mut self.exchanges.answered);
        match admission {
            Ok(admission) => self.handle_request(arrived, admission, found),
            Err(Denial::Wait(wanted)) => {
                let reply = self.park(Arrived { answered, ..arrived }, None, wanted);
                self.exchanges.reply(id, since, reply.unwrap_or_else(|error| Reply::Now(error.response())));
            }
            Err(Denial::Answer(refusal)) => self.exchanges.reply(id, since, Reply::Now(refusal)),
        }
    }

    /// Checks where a request comes from, and who sends it.
    ///
    /// # Errors
    /// The answer to a request that is refused, or what the journal must look for first.
    fn admit(&mut self, id: ExchangeId, request: &Request, found: &Found) -> Result<Admission, Denial> {
        let resource = if matches!(found, Found::Nothing) { Resource::File } else { Resource::Api };
        let client = self.check(id, request, resource)?;
        let grant = match (&mut self.guard, found) {
            (Some(guard), Found::Handler(_, Some(needs)) | Found::Head(_, Some(needs))) => {
                let grant = guard.admit(&mut self.exchanges, id, request, *needs)?;
                self.exchanges.event_loop.log_identity(id, &grant.key().name);
                Some(Rc::new(grant))
            }
            _ => None,
        };
        let quota = match (&grant, self.has_proxies) {
            // The usual case: the client is that of the connection.
            (None, false) => self.exchanges.event_loop.quota(id).cloned(),
            _ => self.quota(id, request, &client, grant.as_deref())?,
        };
        Ok((grant, quota))
    }

    /// Handles a request. If it must wait for the journal, it is handled again then, but not after the end of its wait.
    fn handle_request(&mut self, arrived: Arrived, (grant, quota): Admission, found: Found) {
        let Arrived { id, request, since, until, answered } = arrived;
        self.exchanges.answered = answered;
        self.exchanges.quota = quota;
        let call = Call { id, request: &request, since, grant };
        let result = match self.refuses() {
            true => Err(ApiError::going_away().into()),
            false => self.dispatch(&call, found),
        };
        let answered = mem::take(&mut self.exchanges.answered);
        let admission = Some((call.grant, self.exchanges.quota.take()));
        let result = match result {
            Err(Halt::Wait(wanted)) => self.park(Arrived { id, request, since, until, answered }, admission, wanted),
            Err(Halt::Error(error)) => Err(error),
            Ok(reply) => Ok(reply),
        };
        self.exchanges.reply(id, since, result.unwrap_or_else(|error| Reply::Now(error.response())));
        self.demo.after_request(&mut self.exchanges, &self.rooms);
    }

    /// Has a request wait for the journal.
    ///
    /// # Errors
    /// 503 when too many requests wait.
    fn park(&mut self, arrived: Arrived, admission: Option<Admission>, wanted: Wanted) -> Result<Reply, ApiError> {
        let Arrived { id, request, since, until, answered } = arrived;
        let parked = Parked { id, request, since, admission, until, wanted: wanted.clone(), answered };
        let pushed = self.parked.push(parked, self.exchanges.journal.trouble());
        pushed.map(|()| Reply::Later).inspect_err(|_| self.give_up(&wanted))
    }

    /// Decides whether a request may be answered, and returns its client. The error is the answer to one that may not.
    fn check(&self, id: ExchangeId, request: &Request, resource: Resource) -> Result<Client, Response> {
        let client = match self.has_proxies {
            true => self.exchanges.event_loop.client(id, request),
            false => Ok(Client::default()), // nothing is known that the request does not say
        };
        let client = client.map_err(|error| Response::error(400, &error.to_string()))?;
        self.access.check(request, &client, resource).map_err(|refusal| refusal.response())?;
        Ok(client)
    }

    fn dispatch(&mut self, call: &Call<'_>, found: Found) -> Result<Reply, Halt> {
        match found {
            Found::Handler(handler, _) => handler(self, call),
            Found::Head(head, _) => {
                self.exchanges.begin(call, Opening::Stream(head(self, call)?));
                Ok(Reply::Later)
            }
            Found::Options(methods) => Ok(Reply::Now(Access::preflight(&methods))),
            Found::NotAllowed(methods) => Ok(Reply::Now(routes::not_allowed(&methods, call.request.method()))),
            Found::Nothing => self.file(call),
        }
    }

    /// Returns a file of the browser client, or 404.
    fn file(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        const METHODS: &str = "GET, HEAD, OPTIONS";
        let (path, method) = (call.request.path(), call.request.method());
        let file = self.files.answer(&path, call.request);
        match (method, file) {
            (Method::Options, _) if path == "*" => Ok(Reply::Now(Access::preflight(METHODS))),
            (_, None) => {
                let sentence = format!("there is nothing at {path:?}: see /openapi.json for what there is");
                Err(ApiError::not_found(sentence).into())
            }
            (Method::Get | Method::Head, Some(file)) => Ok(Reply::Now(file)),
            (Method::Options, Some(_)) => Ok(Reply::Now(Access::preflight(METHODS))),
            (method, Some(_)) => Ok(Reply::Now(routes::not_allowed(METHODS, method))),
        }
    }
}
