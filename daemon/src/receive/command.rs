//! Commands to a shard.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::AirDatagrams;
use super::finishing::Claim;
use crate::delivery::{Decoded, Described, ObjectRef, RejectReason, RepairError, SessionFilter};
use crate::source::{GroupSpec, ReceiveSocket};

/// A command to a shard.
#[derive(Debug)]
pub enum Command {
    /// Receive from this socket.
    Open(ReceiveSocket, SessionFilter),
    /// The sessions of a group that are received have changed: TSIs or repair rules.
    Change(GroupSpec, SessionFilter),
    /// Stop receiving a group.
    Close(GroupSpec),
    /// Close a group's socket; its sessions continue with the next one.
    Leave(GroupSpec),
    /// Groups that are received when they come inside transport streams: these and no others.
    Expect(Arc<HashMap<SocketAddr, SessionFilter>>),
    /// Channels of ROUTE that the signalling of other sessions describes: these and no others.
    Describe(Arc<Described>),
    /// Datagrams that came inside a transport stream.
    Air(AirDatagrams),
    /// A client waits for an object in flight.
    Request(ObjectRef),
    /// Bytes from an origin.
    Repair(ObjectRef, u64, Vec<u8>),
    /// A repair request is over.
    RepairDone(ObjectRef, Result<(), RepairError>),
    /// An object was verified and published, or not.
    Verified(ObjectRef, Result<(), RejectReason>),
    /// A source block was decoded, or could not be.
    Decoded(ObjectRef, u32, Decoded, Option<Claim>),
    /// Stop.
    Stop,
}
