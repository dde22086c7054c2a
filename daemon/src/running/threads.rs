//! Threads between datagrams and the store: their start, and the order in which they end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use carousel::repair::BackOff;
use tokio::sync::mpsc;

use super::Shared;
use crate::config::Config;
use crate::delivery::{Options, RepairRequest};
use crate::memory::MemoryBudgets;
use crate::receive::{Command, Finishing, Shard, ShardHandle, ShardSender, shard_of};
use crate::session::{SessionContext, SessionQueue, SessionThread};
use crate::store::Keeper;
use crate::transport::{ModuleMemory, TransportContext, TransportThread};
use crate::trust::TrustKeeper;

/// Repair requests between shards and repair. When it is full, they wait in their shard.
const REPAIR_REQUESTS: usize = 16;

/// Settings of delivery, with a seed of its own for each shard and start.
fn delivery_options(config: &Config, memory: &MemoryBudgets) -> Options {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let repair = &config.repair;
    Options {
        reception_timeout: Duration::from_millis(repair.reception_timeout_ms),
        repairs: repair.enabled,
        back_off: BackOff {
            fixed: Duration::from_millis(repair.fixed_back_off_ms),
            random: Duration::from_millis(repair.random_back_off_ms),
        },
        carousel_wait: Duration::from_millis(repair.carousel_wait_ms),
        client_patience: Duration::from_millis(config.http.wait_ms),
        seed: RandomState::new().build_hasher().finish(),
        work_bytes: memory.work_bytes,
        block_bytes: memory.block_bytes,
    }
}

/// Sources, shards, finishing and keepers. Each passes its work to those below it.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) transport: TransportThread,
    pub(super) session: SessionThread,
    shards: Vec<ShardHandle>,
    finishing: Finishing,
    trust_keeper: TrustKeeper,
    keeper: Keeper,
}

impl Threads {
    /// Starts all of them; gives back the requests that the shards have for repair, too.
    ///
    /// # Errors
    /// If no thread is available.
    pub(super) fn start(
        config: &Config,
        shared: &Shared,
    ) -> io::Result<(Self, mpsc::Receiver<RepairRequest>)> {
        let Shared { receive, vitals, .. } = shared;
        let queue = SessionQueue::within(receive.memory.documents_bytes);
        let keeper = Keeper::start(receive.store.clone(), vitals)?;
        let trust_keeper = TrustKeeper::start(Arc::clone(&receive.trust), receive.store.clone(), vitals)?;
        let finishing = Finishing::start(receive, &queue.commands(), vitals)?;
        let (repairs, repair_requests) = mpsc::channel(REPAIR_REQUESTS);
        let shards = (0..config.receive.threads())
            .map(|number| {
                let options = delivery_options(config, &receive.memory);
                let (receive, rules) = (receive.clone(), Arc::clone(&shared.rules));
                Shard::start(number, receive, vitals, options, rules, &finishing, repairs.clone())
            })
            .collect::<io::Result<Vec<_>>>()?;
        let requests = senders(&shards);
        receive.flights.pass_requests(move |object| {
            let shard = shard_of(&object.session.destination, requests.len());
            requests[shard].try_send(Command::Request(object))
        });
        let context = session_context(shared);
        let session = queue.start(&config.session_options(), senders(&shards), context, vitals)?;
        let context = transport_context(config, shared, senders(&shards));
        let transport = TransportThread::start(context, &config.transport_streams)?;
        Ok((Self { transport, session, shards, finishing, trust_keeper, keeper }, repair_requests))
    }

    /// Ways to the shards, by number.
    pub(super) fn senders(&self) -> Vec<ShardSender> {
        senders(&self.shards)
    }

    /// Ends them, sources first, so that what has been passed on is finished. Blocks until they have ended.
    pub(super) fn stop(self) {
        let Self { transport, session, shards, finishing, trust_keeper, keeper } = self;
        transport.stop();
        session.stop();
        for shard in shards {
            shard.stop();
        }
        // Work that the shards have given to it is finished.
        drop(finishing);
        drop(keeper);
        drop(trust_keeper);
    }
}

fn senders(shards: &[ShardHandle]) -> Vec<ShardSender> {
    shards.iter().map(ShardHandle::sender).collect()
}

fn session_context(shared: &Shared) -> SessionContext {
    let receive = &shared.receive;
    SessionContext {
        names: Arc::clone(&receive.names),
        documents: Arc::clone(&shared.documents),
        origins: Arc::clone(&shared.origins),
        rules: Arc::clone(&shared.rules),
        trust: Arc::clone(&receive.trust),
        commands: Arc::clone(&shared.commands),
        updates: Arc::clone(&shared.updates),
        services: Arc::clone(receive.manifests.services()),
        flights: Arc::clone(&receive.flights),
        receive: Arc::clone(&receive.stats),
        configurations_bytes: receive.memory.configurations_bytes,
    }
}

fn transport_context(config: &Config, shared: &Shared, shards: Vec<ShardSender>) -> TransportContext {
    let receive = &shared.receive;
    TransportContext {
        store: receive.store.clone(),
        manifests: Arc::clone(&receive.manifests),
        receive_stats: Arc::clone(&receive.stats),
        trust: Arc::clone(&receive.trust),
        stats: Arc::clone(&shared.transport),
        vitals: Arc::clone(&shared.vitals),
        shards,
        interface: config.receive.interface.clone(),
        socket_buffer_bytes: config.receive.socket_buffer_bytes,
        modules: ModuleMemory::of(receive.memory.modules_bytes),
        carousel_bytes: receive.memory.carousel_bytes,
    }
}
