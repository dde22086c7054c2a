//! Writing of the packets of jobs.

use super::job::Job;
use super::pieces::PieceRange;
use super::{Air, PacketDestination, SessionIndex};

impl Air {
    /// Writes the job's next packet. `None` if it has none (an empty object, or a broken-off one).
    pub(super) fn write(&mut self, job: &mut Job, out: &mut Vec<u8>) -> Option<PacketDestination> {
        match job {
            Job::Fdt { session, page, next } => {
                let written = self.sessions[*session].sender.write_fdt(*page, *next, out);
                *next += 1;
                written.then(|| self.departure(*session))
            }
            Job::Object { .. } => self.write_object(job, out),
            Job::Close { session } => {
                let it = &self.sessions[*session];
                match it.route {
                    Some(group) => self.routes[group].write_close(it.sender.tsi(), out).ok()?,
                    None => it.sender.write_close(out),
                }
                Some(self.departure(*session))
            }
            Job::Signalling { session, packets, next } => {
                let packet = packets.get(*next)?;
                *next += 1;
                out.clear();
                out.extend_from_slice(packet);
                Some(self.departure(*session))
            }
        }
    }

    fn departure(&self, session: SessionIndex) -> PacketDestination {
        PacketDestination { destination: self.sessions[session].address, session }
    }

    /// Reads the next symbol of an object, and writes its FLUTE or ROUTE packet.
    fn write_object(&mut self, job: &mut Job, out: &mut Vec<u8>) -> Option<PacketDestination> {
        let Job::Object { id, reading, repair, sequence, left, broken, .. } = job else { return None };
        let item = self.items.get(id)?;
        let session = &self.sessions[item.session];
        let step = sequence.next()?;
        *left -= 1;
        let of_flute = (session.sender.oti(item.toi)?, session.sender.partition(item.toi)?);
        let (oti, partition) = item.route.as_ref().map_or(of_flute, |it| (&it.oti, &it.partition));
        let length = item.object.body.length();
        let place = item.place.unwrap_or(PieceRange { start: 0, length: Some(length) });
        let mut offset = 0;
        // Leading objects are repeated until the media begin; live objects are sent once.
        let is_last = self.config.once && item.object.max_period_ms().is_none();
        let last_ever = (is_last || item.object.repeat.is_live()) && *left == 0;
        let read = match (step.source, repair) {
            (Some(symbol), _) => {
                let range = partition.byte_range(symbol);
                // ROUTE protects padding and length after the object, but sends neither.
                let range = range.start..range.end.min(length);
                if range.is_empty() && item.route.is_some() {
                    return None;
                }
                offset = place.start + range.start;
                self.symbol.resize((range.end - range.start) as usize, 0);
                reading.read_on(range.start, &mut self.symbol)
            }
            (None, Some(repair)) => {
                let k = partition.block_symbols(step.payload_id.sbn);
                repair.read(step.payload_id, oti, k, &mut self.symbol)
            }
            (None, None) => return None,
        };
        if read.is_err() {
            // The file was truncated. The packets sent are useless; receivers detect it by the digest.
            self.stats.objects_broken_off += 1;
            *broken = true;
            return None;
        }
        let id = (session.sender.tsi(), item.toi);
        let written = match (step.source, session.route) {
            (Some(_), Some(group)) => {
                self.routes[group].write_source(id, offset, place.length, &self.symbol, out).is_ok()
            }
            (None, Some(group)) => {
                let esi = step.payload_id.esi;
                let length = place.length.unwrap_or(length);
                self.routes[group].write_repair(id, length, esi, &self.symbol, out).is_ok()
            }
            (Some(symbol), None) => {
                session.sender.write_packet(item.toi, symbol, &self.symbol, last_ever, out)
            }
            (None, None) => {
                session.sender.write_repair(item.toi, step.payload_id, &self.symbol, last_ever, out)
            }
        };
        written.then(|| self.departure(item.session))
    }

    pub(super) fn is_finished(&self, job: &Job) -> bool {
        match job {
            Job::Fdt { session, page, next } => *next >= self.sessions[*session].sender.fdt_packets(*page),
            Job::Object { id, left, broken, .. } => *broken || *left == 0 || !self.items.contains_key(id),
            Job::Close { .. } => true,
            Job::Signalling { packets, next, .. } => *next >= packets.len(),
        }
    }
}
