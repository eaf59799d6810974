//! What one request may do.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::identity::{AccessKey, Credential, Rights};
use crate::server::exchanges::EndReason;
use crate::server::params::ApiError;

/// The permission of a request: its identity, and what it has asked for so far. A held exchange keeps it, because it
/// can be lost at any time.
#[derive(Debug)]
pub struct Grant {
    credential: Credential,
    key: Rc<AccessKey>,
    /// The rights that the request needs.
    needs: Rights,
    /// The room that it has entered.
    room: OnceCell<Box<str>>,
}

impl Grant {
    /// Grants these rights.
    ///
    /// # Errors
    /// 403 when the key does not have them all.
    pub fn new(credential: Credential, key: Rc<AccessKey>, needs: Rights) -> Result<Self, ApiError> {
        let grant = Grant { credential, key, needs, room: OnceCell::new() };
        grant.check(needs)?;
        Ok(grant)
    }

    /// Returns the proof of the identity.
    pub fn credential(&self) -> Credential {
        self.credential
    }

    /// Returns the key of the identity.
    pub fn key(&self) -> &AccessKey {
        &self.key
    }

    /// Checks a right that depends on more than the path.
    ///
    /// # Errors
    /// 403 that names what is missing.
    pub fn check(&self, needs: Rights) -> Result<(), ApiError> {
        match self.key.rights {
            rights if rights.contains(needs) => Ok(()),
            rights => {
                let (name, missing) = (&self.key.name, needs.without(rights));
                Err(ApiError::forbidden(format!("rights: expected {missing}, but {name} has {rights} alone")))
            }
        }
    }

    /// Checks a room, and notes it.
    ///
    /// # Errors
    /// 403 with the rooms that are permitted.
    pub fn enter(&self, room: &str) -> Result<(), ApiError> {
        if !self.key.may_enter(room) {
            let (name, rooms) = (&self.key.name, self.key.room_names().join(", "));
            return Err(ApiError::forbidden(format!("room: expected one of those of {name}, {rooms}, not {room:?}")));
        }
        self.room.get_or_init(|| room.into());
        Ok(())
    }

    /// Returns the name of the sender of a message, if it has named this identity or none.
    ///
    /// # Errors
    /// 403 for another name.
    pub fn sender<'a>(&'a self, named: Option<&str>) -> Result<&'a str, ApiError> {
        match named {
            Some(other) if other != self.key.name => {
                let name = &self.key.name;
                Err(ApiError::forbidden(format!("sender: expected {name:?}, the name of the identity, not {other:?}")))
            }
            _ => Ok(&self.key.name),
        }
    }

    /// Returns the same with the present state of the key: `None` if the credential is not valid any more.
    ///
    /// # Errors
    /// The reason to end what is held with it.
    pub fn renew(&self, key: Option<&Rc<AccessKey>>) -> Result<Option<Self>, EndReason> {
        let key = key.ok_or(EndReason::SessionOver)?;
        if Rc::ptr_eq(key, &self.key) {
            return Ok(None);
        }
        let may_stay = key.rights.contains(self.needs) && self.room.get().is_none_or(|room| key.may_enter(room));
        if !may_stay || key.name != self.key.name {
            return Err(EndReason::NotAllowed);
        }
        let (credential, needs, room) = (self.credential, self.needs, self.room.clone());
        Ok(Some(Grant { credential, key: key.clone(), needs, room }))
    }
}
