//! Firmware bundles on the air, and the document that offers them.

use std::collections::{BTreeMap, HashMap};

use carousel::Digest;
use carousel::firmware::{BUNDLE_TYPE, CONTENT_TYPE, Offer, SERVICE, URI};
use carousel::lct::Tsi;
use carousel::time::WallTime;
use carousel::trust::{Edition, Kind, Sealer};

use super::{Broadcast, Warning, signalled};
use crate::air::{AirObject, ItemId, Repeat, SessionIndex};
use crate::plan::Class;
use crate::prepare::{Bundle, PreparedRelease};
use crate::releases;

/// Validity of a document without offers, so that receivers with a pending update receive it.
const EMPTY_S: u64 = 7 * 86_400;

/// Identity of a bundle on the air: offered in another session or under another name it is another object.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CarriedBundle {
    sha256: [u8; 32],
    tsi: u64,
    url: String,
}

/// The bundles on the air.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    items: BTreeMap<CarriedBundle, ItemId>,
    /// Sessions by TSI; ended ones are reused.
    sessions: HashMap<u64, SessionIndex>,
    document: Option<ItemId>,
    /// Its offer.
    offers: Vec<Offer>,
}

impl Broadcast {
    /// Bundles on the air.
    pub fn bundles(&self) -> usize {
        self.firmware.items.len()
    }

    /// Adds new bundles, removes withdrawn ones, and sends the signed document that offers them.
    pub(super) fn offer(&mut self, releases: Vec<PreparedRelease>, wall: WallTime) -> Result<(), String> {
        let (Some(sealer), Some(firmware)) = (self.config.sealer.clone(), self.config.firmware.clone())
        else {
            return Ok(());
        };
        let mut gone = std::mem::take(&mut self.firmware.items);
        let mut offers = Vec::with_capacity(releases.len());
        for PreparedRelease { release, bundle } in releases {
            let tsi = release.offer.session.map_or(0, |session| session.1);
            let carried =
                CarriedBundle { sha256: release.offer.sha256.0, tsi, url: release.offer.url.clone() };
            let before = gone.get(&carried).copied().filter(|&id| self.air.has(id));
            let item = match (before, bundle) {
                (Some(id), Bundle::Same) => id,
                // A touched file with unchanged content.
                (Some(id), Bundle::New(new)) if self.air.object(id).is_some_and(|it| it.body == new.body) => {
                    id
                }
                (_, Bundle::New(bundle)) => {
                    let object = AirObject {
                        uri: release.offer.url.clone(),
                        content_type: BUNDLE_TYPE.to_owned(),
                        digest: release.offer.sha256,
                        md5: bundle.md5,
                        body: bundle.body,
                        class: Class::Low,
                        repeat: Repeat::Share,
                        protection: firmware.protection(),
                        expiry_s: None,
                        ignored_query: Default::default(),
                    };
                    let session = self.bundle_session(tsi, firmware.group);
                    let added = self.air.add_prepared(session, object, bundle.repair);
                    added.map_err(|err| format!("{}: {err}", release.path.display()))?
                }
                (None, Bundle::Same) | (_, Bundle::Unusable) => {
                    let what = "is not the file that was offered, or cannot be read, and is not sent; put that file there, or \
                                withdraw it and offer the new one";
                    let text = format!("{} {what}", release.path.display());
                    self.warnings.push(Warning { source: None, text: text.to_string() });
                    continue;
                }
            };
            if before == Some(item) {
                gone.remove(&carried);
            }
            self.firmware.items.insert(carried, item);
            offers.push(release.offer);
        }
        for id in gone.into_values() {
            self.air.withdraw(id);
        }
        self.firmware.offers = offers;
        self.send_offers(&sealer, wall)
    }

    /// Signs and sends the offers under a new version.
    pub(super) fn offer_again(&mut self, wall: WallTime) -> Result<(), String> {
        match self.config.sealer.clone().filter(|_| self.config.firmware.is_some()) {
            Some(sealer) => self.send_offers(&sealer, wall),
            None => Ok(()),
        }
    }

    fn send_offers(&mut self, sealer: &Sealer, wall: WallTime) -> Result<(), String> {
        let offers = &self.firmware.offers;
        if offers.is_empty() && self.firmware.document.is_none() {
            return Ok(());
        }
        let issued = wall.unix_seconds();
        let edition = Edition {
            version: sealer.next_version(wall),
            issued,
            until: offers.iter().map(|it| it.until).max().unwrap_or(issued + EMPTY_S),
            ..Edition::default()
        };
        let text = carousel::firmware::to_xml(offers);
        let sealed = sealer.seal_xml(Kind::Firmware, &carousel::firmware::stream(), &edition, &text);
        let (bytes, ms) = (sealed.as_bytes(), self.config.carousel.announcement_interval_ms);
        if let Err(text) = releases::publish(&self.config, bytes) {
            self.warnings.push(Warning { source: None, text: text.to_string() });
        }
        let object = signalled(URI, CONTENT_TYPE, bytes, Digest::of(bytes), ms);
        let session = self.announcement.unwrap_or(self.configuration);
        let id = self.air.add(session, object).map_err(|err| format!("firmware: {err}"))?;
        // Bundles in a new session wait for the offers that name it.
        for session in self.firmware.sessions.values() {
            self.air.open_behind(*session, id);
        }
        if let Some(old) = self.firmware.document.replace(id) {
            self.air.withdraw(old);
        }
        Ok(())
    }

    fn bundle_session(&mut self, tsi: u64, group: std::net::SocketAddr) -> SessionIndex {
        if let Some(&session) = self.firmware.sessions.get(&tsi) {
            return session;
        }
        let profile = self.config.carousel.sender_profile();
        let session = self.air.open_session(group, Tsi(tsi), profile);
        self.air.sign_session(session, SERVICE);
        self.air.hold_session(session);
        self.firmware.sessions.insert(tsi, session);
        session
    }
}
