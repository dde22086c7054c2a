//! NetworkInformationFile, ServiceInformationFile (clauses 8.4.2, 8.4.3), TimeOffsetFile.

use crate::time::WallTime;
use crate::xml::{self, Element, XmlError, value};

const NAMESPACE: &str = "urn:dvb:metadata:nativeip:2024";
const EXTENSIBILITY: &str = "urn:dvb:metadata:Extensibility:2024";

/// The networks and the streams on them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkInformationFile {
    /// VersionUpdate, as sent.
    pub version_update: String,
    /// NIFType.
    pub nif_type: String,
    /// The network that this stream is on.
    pub actual: BroadcastNetwork,
    /// Others.
    pub others: Vec<BroadcastNetwork>,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BroadcastNetwork {
    /// NetworkType: `Satellite` and others.
    pub network_type: String,
    /// NetworkName.
    pub name: String,
    /// NIPNetworkProviderName.
    pub provider: String,
    /// OrbitalPosition in degrees, as sent, and West_East_flag.
    pub satellite_position: Option<(String, String)>,
    /// NIPNetworkID.
    pub network_id: u16,
    /// Its streams.
    pub streams: Vec<NipStream>,
}

/// One IP bearer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NipStream {
    /// LinkLayerFormat: `TS`, `GSE-Lite`.
    pub link_layer: String,
    /// NIPStreamProviderName.
    pub provider: String,
    /// NIPCarrierID.
    pub carrier_id: u16,
    /// NIPLinkID.
    pub link_id: u16,
    /// NIPServiceID.
    pub service_id: u16,
    /// BootstrapStream: BootstrapType and Status.
    pub bootstrap: Option<(String, String)>,
    /// Tuning parameters.
    pub delivery: Option<DeliveryParameters>,
}

/// `DVBS2_NIPDeliveryParameters` and its like: the element's name and its children as they are, since modulations differ
/// in what they need and a tuner reads them by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryParameters(pub Element);

impl DeliveryParameters {
    /// DVB-S2: frequency in units of 10 kHz, symbol rate in ksym/s.
    pub fn dvb_s2(
        frequency_10khz: u32,
        polarization: &str,
        modulation: &str,
        roll_off: &str,
        symbol_rate_ksps: u32,
        fec: &str,
    ) -> Self {
        let element = Element::new(NAMESPACE, "DVBS2_NIPDeliveryParameters")
            .text_child("Frequency", frequency_10khz.to_string())
            .text_child("Polarization", polarization)
            .text_child("Modulation_Type", modulation)
            .text_child("Roll_off", roll_off)
            .text_child("SymbolRate", symbol_rate_ksps.to_string())
            .text_child("FEC", fec)
            .text_child("input_stream_identifier", "0");
        Self(element)
    }

    /// Frequency in units of 10 kHz.
    pub fn frequency_10khz(&self) -> Option<u32> {
        self.0.child_text("Frequency")?.trim().parse().ok()
    }

    /// Symbol rate in ksym/s.
    pub fn symbol_rate_ksps(&self) -> Option<u32> {
        self.0.child_text("SymbolRate")?.trim().parse().ok()
    }
}

pub(super) fn root(bytes: &[u8], name: &'static str) -> Result<Element, XmlError> {
    let root = xml::parse(bytes)?;
    if root.name == name { Ok(root) } else { Err(XmlError::Missing { what: name, within: root.name }) }
}

pub(super) fn text(element: &Element, name: &str) -> String {
    element.child_text(name).unwrap_or_default().to_owned()
}

pub(super) fn document(name: &str) -> Element {
    Element::new(NAMESPACE, name).attr_ns(EXTENSIBILITY, "schemaVersion", "1")
}

pub(super) fn finish(root: &Element) -> String {
    xml::write(root, &[(EXTENSIBILITY, "ext")])
}

impl NetworkInformationFile {
    /// Reads a NIF.
    ///
    /// # Errors
    /// Another root, no ActualBroadcastNetwork, identifiers that are not numbers.
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        let root = root(bytes, "NetworkInformationFile")?;
        let actual = root
            .find("ActualBroadcastNetwork")
            .ok_or_else(|| XmlError::Missing { what: "ActualBroadcastNetwork", within: root.name.clone() })?;
        Ok(Self {
            version_update: text(&root, "VersionUpdate"),
            nif_type: text(&root, "NIFType"),
            actual: BroadcastNetwork::read(actual)?,
            others: root
                .all("OtherBroadcastNetwork")
                .map(BroadcastNetwork::read)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Writes the document in the 2024 namespace.
    pub fn to_xml(&self) -> String {
        let root = document("NetworkInformationFile")
            .text_child("VersionUpdate", &self.version_update)
            .text_child("NIFType", &self.nif_type)
            .child(self.actual.element("ActualBroadcastNetwork"))
            .extend(self.others.iter().map(|network| network.element("OtherBroadcastNetwork")));
        finish(&root)
    }
}

impl BroadcastNetwork {
    fn read(element: &Element) -> Result<Self, XmlError> {
        let position = element.find("SatellitePosition");
        Ok(Self {
            network_type: text(element, "NetworkType"),
            name: text(element, "NetworkName"),
            provider: text(element, "NIPNetworkProviderName"),
            satellite_position: position.map(|it| (text(it, "OrbitalPosition"), text(it, "West_East_flag"))),
            network_id: value("NIPNetworkID", element.need("NIPNetworkID")?)?,
            streams: element.all("NIPStream").map(NipStream::read).collect::<Result<_, _>>()?,
        })
    }

    fn element(&self, name: &str) -> Element {
        let mut out = Element::new(NAMESPACE, name)
            .text_child("NetworkType", &self.network_type)
            .text_child("NetworkName", &self.name)
            .text_child("NIPNetworkProviderName", &self.provider);
        if let Some((degrees, flag)) = &self.satellite_position {
            let position = Element::new(NAMESPACE, "SatellitePosition");
            out =
                out.child(position.text_child("OrbitalPosition", degrees).text_child("West_East_flag", flag));
        }
        out.text_child("NIPNetworkID", self.network_id.to_string())
            .extend(self.streams.iter().map(NipStream::element))
    }
}

impl NipStream {
    fn read(element: &Element) -> Result<Self, XmlError> {
        let bootstrap = element.find("BootstrapStream");
        let delivery = element.children.iter().find(|child| child.name.ends_with("DeliveryParameters"));
        Ok(Self {
            link_layer: text(element, "LinkLayerFormat"),
            provider: text(element, "NIPStreamProviderName"),
            carrier_id: value("NIPCarrierID", element.need("NIPCarrierID")?)?,
            link_id: value("NIPLinkID", element.need("NIPLinkID")?)?,
            service_id: value("NIPServiceID", element.need("NIPServiceID")?)?,
            bootstrap: bootstrap.map(|it| (text(it, "BootstrapType"), text(it, "Status"))),
            delivery: delivery.cloned().map(DeliveryParameters),
        })
    }

    fn element(&self) -> Element {
        let mut out = Element::new(NAMESPACE, "NIPStream")
            .text_child("LinkLayerFormat", &self.link_layer)
            .text_child("NIPStreamProviderName", &self.provider)
            .text_child("NIPCarrierID", self.carrier_id.to_string())
            .text_child("NIPLinkID", self.link_id.to_string())
            .text_child("NIPServiceID", self.service_id.to_string());
        if let Some((kind, status)) = &self.bootstrap {
            let bootstrap = Element::new(NAMESPACE, "BootstrapStream");
            out = out.child(bootstrap.text_child("BootstrapType", kind).text_child("Status", status));
        }
        out.extend(self.delivery.iter().map(|delivery| in_our_namespace(delivery.0.clone())))
    }
}

fn in_our_namespace(mut element: Element) -> Element {
    NAMESPACE.clone_into(&mut element.namespace);
    element.children = element.children.into_iter().map(in_our_namespace).collect();
    element
}

/// The streams of the network, each with the URIs that it carries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceInformationFile {
    /// VersionUpdate, as sent.
    pub version_update: String,
    /// NIPNetworkProviderName.
    pub provider: String,
    /// One for each NIP stream, also of other carriers.
    pub streams: Vec<MediaStream>,
}

/// `BroadcastMediaStream`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MediaStream {
    /// NIPNetworkID, NIPCarrierID, NIPLinkID, NIPServiceID.
    pub ids: [u16; 4],
    /// URIs of service lists, manifests, tags.
    pub uris: Vec<String>,
    /// InteractiveApplications, as they are.
    pub applications: Vec<Element>,
}

const STREAM_IDS: [&str; 4] = ["NIPNetworkID", "NIPCarrierID", "NIPLinkID", "NIPServiceID"];

impl ServiceInformationFile {
    /// Reads a SIF.
    ///
    /// # Errors
    /// Another root, identifiers that are not numbers.
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        let root = root(bytes, "ServiceInformationFile")?;
        let mut streams = Vec::new();
        for stream in root.all("BroadcastMediaStream") {
            let mut ids = [0; 4];
            for (id, name) in ids.iter_mut().zip(STREAM_IDS) {
                *id = value(name, stream.need(name)?)?;
            }
            let media = stream.find("BroadcastMedia");
            let uris = media.iter().flat_map(|media| media.all("URI")).map(|uri| uri.text.clone());
            let applications = media.iter().flat_map(|media| media.all("InteractiveApplications")).cloned();
            streams.push(MediaStream { ids, uris: uris.collect(), applications: applications.collect() });
        }
        Ok(Self {
            version_update: text(&root, "VersionUpdate"),
            provider: text(&root, "NIPNetworkProviderName"),
            streams,
        })
    }

    /// Writes the document in the 2024 namespace.
    pub fn to_xml(&self) -> String {
        let streams = self.streams.iter().map(|stream| {
            let mut out = Element::new(NAMESPACE, "BroadcastMediaStream");
            for (id, name) in stream.ids.iter().zip(STREAM_IDS) {
                out = out.text_child(name, id.to_string());
            }
            let mut media = Element::new(NAMESPACE, "BroadcastMedia");
            for uri in &stream.uris {
                media = media.text_child("URI", uri);
            }
            out.child(media.extend(stream.applications.iter().cloned().map(in_our_namespace)))
        });
        let root = document("ServiceInformationFile")
            .text_child("VersionUpdate", &self.version_update)
            .text_child("NIPNetworkProviderName", &self.provider)
            .extend(streams);
        finish(&root)
    }
}

/// The broadcaster's clock. The standard's structure is not known to us beyond its name; ours has the moment at which
/// the document was made and the offset of local time, and a foreign one is kept whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeOffsetFile {
    /// VersionUpdate, as sent.
    pub version_update: String,
    /// The document.
    pub document: Element,
}

impl TimeOffsetFile {
    /// A document that says what time it is, in UTC.
    pub fn now(now: WallTime) -> Self {
        let document = document("TimeOffsetFile").text_child("VersionUpdate", now.to_xml());
        Self { version_update: now.to_xml(), document }
    }

    /// Reads a TOF.
    ///
    /// # Errors
    /// Another root.
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        let document = root(bytes, "TimeOffsetFile")?;
        Ok(Self { version_update: text(&document, "VersionUpdate"), document })
    }

    /// The broadcaster's date, if VersionUpdate is one.
    pub fn time(&self) -> Option<WallTime> {
        WallTime::from_xml(&self.version_update)
    }

    /// Writes the document.
    pub fn to_xml(&self) -> String {
        finish(&self.document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shared(path: &str) -> Option<Vec<u8>> {
        let bytes = std::fs::read(format!("{}/../../shared/schemas/nip/{path}", env!("CARGO_MANIFEST_DIR")));
        if bytes.is_err() {
            eprintln!("SKIPPED: {path} is not here");
        }
        bytes.ok()
    }

    #[test]
    fn both_broadcasters_network_information() {
        for (path, provider, id, streams) in
            [("ses-capture/nif.xml", "SES", 1, 2), ("eutelsat-capture/nif.xml", "Eutelsat", 318, 2)]
        {
            let Some(bytes) = shared(path) else { continue };
            let nif = NetworkInformationFile::parse(&bytes).unwrap();
            assert_eq!(
                (nif.actual.provider.as_str(), nif.actual.network_id, nif.actual.streams.len()),
                (provider, id, streams)
            );
            assert!(nif.actual.streams[0].bootstrap.is_some());
            assert!(nif.actual.streams[0].delivery.as_ref().unwrap().frequency_10khz().unwrap() > 1_000_000);
            let again = NetworkInformationFile::parse(nif.to_xml().as_bytes()).unwrap();
            assert_eq!(again.to_xml(), nif.to_xml());
        }
    }

    #[test]
    fn both_broadcasters_service_information() {
        for (path, streams, uris) in [("ses-capture/sif.xml", 2, 53), ("eutelsat-capture/sif.xml", 2, 10)] {
            let Some(bytes) = shared(path) else { continue };
            let sif = ServiceInformationFile::parse(&bytes).unwrap();
            assert_eq!((sif.streams.len(), sif.streams[0].uris.len()), (streams, uris), "{path}");
            assert_eq!(ServiceInformationFile::parse(sif.to_xml().as_bytes()).unwrap(), sif);
        }
    }

    #[test]
    fn the_time() {
        let now = WallTime::from_unix_ms(1_795_219_200_123);
        assert_eq!(
            TimeOffsetFile::parse(TimeOffsetFile::now(now).to_xml().as_bytes()).unwrap().time(),
            Some(now)
        );
        assert!(NetworkInformationFile::parse(b"<ServiceInformationFile/>").is_err());
        // Of these nothing but the root is needed.
        for (root, is_sif, is_tof) in [
            ("<ServiceInformationFile/>", true, false),
            ("<TimeOffsetFile/>", false, true),
            ("<NetworkInformationFile/>", false, false),
        ] {
            assert_eq!(ServiceInformationFile::parse(root.as_bytes()).is_ok(), is_sif, "{root}");
            assert_eq!(TimeOffsetFile::parse(root.as_bytes()).is_ok(), is_tof, "{root}");
        }
    }

    proptest! {
        #[test]
        fn no_document_panics(text in "(<(NetworkInformationFile|ServiceInformationFile)>)?([ -~]|</?[A-Za-z]{1,20}/?>){0,40}") {
            let _ = NetworkInformationFile::parse(text.as_bytes());
            let _ = ServiceInformationFile::parse(text.as_bytes());
        }
    }
}
