//! Sessions and tickets of several servers: what each learns from the others through the journal.
//!
//! A server looks for a session that it does not know, and keeps it as its own. It is told when another one ends it. A
//! ticket is always looked for, because another server may have redeemed it.

use super::{Guard, time};
use crate::identity::{Digest, Time};
use crate::journal::{SecretName, Wanted};
use crate::server::Server;
use crate::server::exchanges::Exchanges;

impl Guard {
    /// Takes over what the journal has found. Returns whether a session is over that was known.
    fn learn(&mut self, name: SecretName, text: Option<&str>, time: Time) -> bool {
        match (name, text) {
            (SecretName::Session(session), Some(text)) => self.identities.learn_session(session, text, time),
            (SecretName::Session(session), None) => return self.identities.end_session(session),
            (SecretName::Ticket(ticket), Some(text)) => self.identities.learn_ticket(ticket, text, time.now),
            (SecretName::Ticket(ticket), None) => self.identities.forget_ticket(ticket),
        }
        false
    }

    /// Looks for the sessions that are in use, from time to time: so they are not idle on other servers, and an end is
    /// found that this one was not told. While the journal is away, they go on.
    pub(super) fn look_for_sessions(&mut self, exchanges: &mut Exchanges) {
        if exchanges.journal.trouble().is_none() {
            look_for(exchanges, self.identities.sessions_to_look_for(exchanges.now()));
        }
    }
}

fn look_for(exchanges: &mut Exchanges, sessions: Vec<Digest>) {
    for session in sessions {
        exchanges.journal.find(&Wanted::Secret(SecretName::Session(session)));
    }
}

impl Server {
    /// Takes over what the journal has found. What is held with a session that has ended elsewhere ends.
    pub(in crate::server) fn learn_secret(&mut self, name: SecretName, text: Option<&str>) {
        let time = time(&self.exchanges);
        if self.guard.as_mut().is_some_and(|guard| guard.learn(name, text, time)) {
            self.end_unauthorized();
        }
    }

    /// Looks for all sessions in use, because this server may have missed their ends.
    pub(in crate::server) fn doubt_sessions(&mut self) {
        let now = self.exchanges.now();
        if let Some(guard) = &mut self.guard {
            look_for(&mut self.exchanges, guard.identities.doubt_sessions(now));
        }
    }
}
