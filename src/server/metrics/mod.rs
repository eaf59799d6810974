//! `/metrics`: the state of the server for Prometheus, and what is counted for it alone.
//!
//! A message costs a few additions. The clock is not read for it: all times are those of the loop, which reads it once a
//! round. What can be found out when it is asked for is not counted.

mod process;
mod text;

use std::collections::BTreeMap;
use std::time::Instant;

use self::text::{Kind, Text};
use super::Server;
use super::ending::Phase;
use super::exchanges::{Call, Reply};
use super::message::Transport;
use super::params::ApiError;
use super::parked::Halt;
use crate::event_loop::{Closed, ConnectionState, EventLoop, ExchangeId};
use crate::histogram::Histogram;
use crate::http::{Content, Method, Request, Response};
use crate::quotas::Bound;

/// The type of Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    /// The time between a request to append a message, and its commit.
    commits: Histogram,
    /// The time between the same request, and the moment when all sockets that took the message had it.
    deliveries: Histogram,
    /// The times of the requests whose messages are queued.
    undelivered: Vec<Instant>,
    /// The numbers of exchanges that have ended without the server ending them, by reason.
    lost: [u64; Closed::NAMES.len()],
    /// The numbers of clients that came back, by transport: without and with recovery.
    returned: [[u64; 2]; Transport::ALL.len()],
    /// The number of messages that have come in requests.
    posted: u64,
}

impl Metrics {
    /// Counts a message that is committed, and queued for its readers. It was asked for at this time.
    pub fn committed(&mut self, asked: Instant, event_loop: &mut EventLoop) {
        self.commits.record(event_loop.now().saturating_duration_since(asked));
        self.undelivered.push(asked);
        event_loop.await_flush();
    }

    /// Counts the messages that have been written since they were queued. It comes before each event, so the flush is
    /// the first after all of them.
    #[inline]
    pub fn note_deliveries(&mut self, event_loop: &EventLoop) {
        if !self.undelivered.is_empty()
            && let Some(flushed) = event_loop.flushed_at()
        {
            self.note_written(flushed);
        }
    }

    fn note_written(&mut self, flushed: Instant) {
        for asked in self.undelivered.drain(..) {
            self.deliveries.record(flushed.saturating_duration_since(asked));
        }
    }

    /// Counts an exchange that the server has not ended.
    pub fn lost(&mut self, why: &Closed) {
        self.lost[why.index()] += 1;
    }

    /// Counts a client that came back with a cursor.
    pub fn returned(&mut self, transport: Transport, recovered: bool) {
        self.returned[transport as usize][usize::from(recovered)] += 1;
    }

    /// Counts a message that has come in a request.
    pub fn posted(&mut self) {
        self.posted += 1;
    }
}

impl Server {
    /// GET /metrics on the address of the server: for an operator.
    pub(super) fn metrics(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        self.check_operator(call)?;
        Ok(Reply::Now(self.scrape()))
    }

    /// HEAD /metrics
    pub(super) fn metrics_head(&self, call: &Call<'_>) -> Result<Response, ApiError> {
        self.check_operator(call)?;
        Ok(response(Content::Omitted(None)))
    }

    /// Answers a request on the address of `--metrics`. There is nothing else, and everyone who reaches it may ask. A
    /// foreign name is refused: a browser on the network of the operator may be led here by one (DNS rebinding).
    pub(super) fn answer_scrape(&mut self, id: ExchangeId, request: &Request) {
        let answer = match (&*request.path(), request.method(), self.access.check_name(request)) {
            (.., Err(refusal)) => refusal.response(),
            ("/metrics", Method::Get, _) => self.scrape(),
            ("/metrics", Method::Head, _) => response(Content::Omitted(None)),
            ("/metrics", method, _) => super::routes::not_allowed("GET, HEAD", method),
            (path, ..) => Response::error(404, &format!("there is nothing at {path:?}: expected /metrics")),
        };
        self.exchanges.event_loop.respond(id, answer);
    }

    fn scrape(&mut self) -> Response {
        let mut text = Text::default();
        self.add_connections(&mut text);
        self.add_messages(&mut text);
        self.add_ends(&mut text);
        self.add_journal(&mut text);
        self.add_loop(&mut text);
        process::add(&mut text);
        response(Content::Shared(text.finish().into_bytes().into()))
    }

    fn add_connections(&self, text: &mut Text) {
        let event_loop = &self.exchanges.event_loop;
        let (mut counts, mut waiting) = (BTreeMap::new(), 0);
        for report in event_loop.connection_ids(None).filter_map(|id| event_loop.connection_without_address(id)) {
            let record = self.exchanges.record(report.exchange);
            let transport = record.map_or("none", |record| record.transport.name());
            *counts.entry((transport, report.state.name())).or_insert(0u64) += 1;
            waiting += report.waiting;
        }
        text.family("overwire_connections", Kind::Gauge, "Open connections, by what is held on them and by state.");
        // A series that comes and goes would be taken for a gap.
        let always = ConnectionState::ALL.map(|state| ("none", state.name()));
        always.into_iter().for_each(|key| _ = counts.entry(key).or_insert(0));
        for ((transport, state), count) in counts {
            text.sample(&[("transport", transport), ("state", state)], count);
        }
        text.gauge("overwire_outbox_bytes", "Bytes that are queued for clients and not written.", waiting as f64);
        let memory = event_loop.memory() as f64;
        text.gauge("overwire_connection_memory_bytes", "Memory that all connections keep together.", memory);
    }

    fn add_messages(&mut self, text: &mut Text) {
        let (counts, posted) = (self.exchanges.counts().clone(), self.exchanges.metrics.posted);
        let each = || Transport::ALL.map(|transport| (transport.name(), counts.get(transport)));
        let mut family = |name, help, value: fn(&super::stats::Counts) -> u64| {
            text.family(name, Kind::Counter, help);
            each().iter().for_each(|(name, counts)| text.sample(&[("transport", name)], value(counts)));
        };
        family("overwire_sent_messages_total", "Messages that clients were sent.", |counts| counts.messages);
        family("overwire_sent_bytes_total", "Bytes of answers, chunks and frames.", |counts| counts.traffic.sent);
        family("overwire_received_bytes_total", "Bytes of requests and frames.", |counts| counts.traffic.received);
        text.family("overwire_received_messages_total", Kind::Counter, "Messages that have come, and how.");
        text.sample(&[("transport", "request")], posted);
        text.sample(&[("transport", "websocket")], counts.get(Transport::WebSocket).received);
        let held = counts.get(Transport::LongPoll).open;
        text.gauge("overwire_held_polls", "Polls that wait for a message.", held as f64);
        let metrics = &self.exchanges.metrics;
        let help = "Time from a sender's request to the commit of its message.";
        text.histogram("overwire_publish_to_commit_seconds", help, &metrics.commits);
        let help = "Time from a sender's request until the sockets of all readers that take more have its message.";
        text.histogram("overwire_publish_to_delivery_seconds", help, &metrics.deliveries);
    }

    fn add_ends(&self, text: &mut Text) {
        let (event_loop, metrics) = (&self.exchanges.event_loop, &self.exchanges.metrics);
        let help = "Clients that came back with the id of their last message.";
        text.family("overwire_reconnects_total", Kind::Counter, help);
        for transport in Transport::ALL {
            for (recovered, count) in ["false", "true"].iter().zip(metrics.returned[transport as usize]) {
                text.sample(&[("transport", transport.name()), ("recovered", recovered)], count);
            }
        }
        let help = "Polls, streams and WebSockets that ended, but not by the server: slow_consumer was cut.";
        text.family("overwire_lost_exchanges_total", Kind::Counter, help);
        for (reason, count) in Closed::NAMES.iter().zip(metrics.lost) {
            text.sample(&[("reason", reason)], count);
        }
        text.family("overwire_responses_total", Kind::Counter, "Answers, by status code.");
        for (status, count) in event_loop.answers() {
            text.sample(&[("code", &status.to_string())], count);
        }
        let failures = self.guard.as_ref().map_or(0, super::Guard::failures);
        text.family("overwire_refusals_total", Kind::Counter, "Refusals that have a reason of their own.");
        text.sample(&[("reason", "connections")], event_loop.refused_connections());
        text.sample(&[("reason", "wrong_key")], failures);
        let help = "Refusals because of a bound of one client. For bytes: the times that a connection was not read.";
        text.family("overwire_refusals_per_client_total", Kind::Counter, help);
        for bound in Bound::ALL {
            text.sample(&[("bound", bound.name())], event_loop.quotas().refusals().of(bound));
        }
    }

    fn add_journal(&self, text: &mut Text) {
        let (journal, phase) = (&self.exchanges.journal, &self.phase);
        text.family("overwire_journal_info", Kind::Gauge, "Where messages are kept.");
        text.sample(&[("kind", journal.kind())], 1);
        let is_well = f64::from(u8::from(journal.trouble().is_none()));
        text.gauge("overwire_journal_up", "Whether messages can be stored.", is_well);
        let waiting = self.exchanges.senders.len() as f64;
        text.gauge("overwire_journal_waiting", "Senders whose messages are not committed.", waiting);
        let is_ready = f64::from(u8::from(journal.trouble().is_none() && matches!(phase, Phase::Serving)));
        text.gauge("overwire_ready", "Whether new clients may come, as /health/ready says.", is_ready);
    }

    fn add_loop(&self, text: &mut Text) {
        let rounds = self.exchanges.event_loop.rounds();
        let help = "Time that the event loop works between two sleeps. The rate of the sum is its busy share.";
        text.histogram("overwire_event_loop_round_seconds", help, rounds);
        let help = "The longest of them.";
        text.gauge("overwire_event_loop_round_max_seconds", help, rounds.largest().as_secs_f64());
        let help = "Time since the start of the server.";
        text.gauge("overwire_uptime_seconds", help, (self.exchanges.now() - self.started).as_secs_f64());
    }
}

fn response(text: Content) -> Response {
    Response::new(200).with_content(CONTENT_TYPE, text).with_field("Cache-Control", "no-store")
}
