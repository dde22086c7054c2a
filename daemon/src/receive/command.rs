//! Commands to a shard.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use carousel::fec::BlockId;

use super::AirDatagrams;
use super::finishing::Claim;
use crate::delivery::{
    Decoded, Described, ObjectRef, RejectReason, RepairError, SessionFilter, VerificationId,
};
use crate::source::{GroupSpec, ReceiveSocket};

/// A command to a shard.
#[derive(Debug)]
pub enum Command {
    /// Receive from this socket.
    Open(ReceiveSocket, SessionFilter),
    /// Replace the selection of sessions of a group: TSIs or repair rules have changed.
    Change(GroupSpec, SessionFilter),
    /// Stop receiving a group.
    Close(GroupSpec),
    /// Close a group's socket; its sessions continue with the next one.
    Leave(GroupSpec),
    /// Replace the set of groups that are received from transport streams.
    Expect(Arc<HashMap<SocketAddr, SessionFilter>>),
    /// Replace the set of ROUTE channels that are described by signalling of other sessions.
    Describe(Arc<Described>),
    /// Datagrams from a transport stream.
    Air(AirDatagrams),
    /// A client waits for an object in flight.
    Request(ObjectRef),
    /// Bytes from an origin.
    Repair(ObjectRef, u64, Vec<u8>),
    /// Result of a repair request.
    RepairDone(ObjectRef, Result<(), RepairError>),
    /// Result of verifying and publishing an object.
    Verified(ObjectRef, VerificationId, Result<(), RejectReason>),
    /// Result of decoding a source block of a FLUTE object.
    Decoded(ObjectRef, BlockId, Decoded, Option<Claim>),
    /// Result of decoding a source block of a ROUTE object.
    Restored(ObjectRef, BlockId, Decoded, Option<Claim>),
    /// Stop.
    Stop,
}
