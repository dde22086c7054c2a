//! What shards are told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use carousel::lct::Tsi;

use super::ObjectRef;
use super::finish::Recovered;
use crate::source::{GroupSpec, ReceiveSocket};
use crate::transport::AirDatagrams;

/// What others tell a shard.
#[derive(Debug)]
pub enum Command {
    /// Listen to this.
    Open(ReceiveSocket, Listen),
    /// What is listened to on a group has changed: TSIs or repair rules.
    Change(GroupSpec, Listen),
    /// Stop listening.
    Close(GroupSpec),
    /// What is wanted of groups that come inside transport streams: these and no others.
    Expect(Arc<HashMap<SocketAddr, Listen>>),
    /// Datagrams that came inside a transport stream.
    Air(AirDatagrams),
    /// Wrong bytes were handed out, or they were lost: receive it again.
    Reject(ObjectRef),
    /// Bytes from an origin.
    Repair(ObjectRef, u64, Vec<u8>),
    /// A source block was decoded, or could not be.
    Recovered(ObjectRef, u32, Recovered),
    /// The object came whole another way.
    Hold(ObjectRef),
    /// Stop.
    Stop,
}

/// What is wanted of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listen {
    /// TSIs with their reception timeout; `None` in the list: every TSI.
    pub sessions: Vec<(Option<u64>, Option<Duration>)>,
}

impl Listen {
    pub(super) fn wants(&self, tsi: Tsi) -> bool {
        self.sessions.iter().any(|(want, _)| want.is_none_or(|want| want == tsi.0))
    }

    pub(super) fn reception_timeout(&self, tsi: Tsi) -> Option<Duration> {
        let exact = self.sessions.iter().find(|(want, _)| *want == Some(tsi.0));
        exact
            .or_else(|| self.sessions.iter().find(|(want, _)| want.is_none()))
            .and_then(|(_, timeout)| *timeout)
    }
}
