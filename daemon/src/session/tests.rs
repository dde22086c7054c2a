//! Sessions that are listened to, by the configurations that arrive.

use std::time::Instant;

use carousel::flute::SessionKey;
use carousel::lct::{Toi, Tsi};
use carousel::mabr::{CONFIGURATION_TYPE, CONFIGURATION_URI};
use carousel::trust::Policy;

use super::*;
use crate::delivery::ObjectRef;
use crate::receive::channel;

fn spec(address: &str, tsi: Option<u64>, protocol: Protocol) -> SessionSpec {
    SessionSpec {
        source: None,
        address: address.parse().unwrap(),
        tsi,
        protocol,
        origin: SessionOrigin::Configuration,
        service: String::new(),
        repair: None,
        average_bps: None,
        maximum_bps: None,
    }
}

#[test]
fn sessions_of_one_group_share_a_socket() {
    let sessions = [
        spec("239.0.0.1:6000", Some(1), Protocol::Flute),
        spec("239.0.0.1:6000", Some(2), Protocol::Flute),
        spec("239.0.0.1:6001", None, Protocol::Flute),
        spec("239.0.0.2:6000", Some(10), Protocol::Route),
    ];
    let groups = wanted(&sessions, "eth0", |_| Mode::Off);
    assert_eq!(groups.len(), 3);
    assert_eq!((&groups[2].1.sessions[..], groups[2].1.has_route), (&[(None, None)][..], true));
    assert!(!groups[0].1.has_route);
    assert_eq!(groups[0].1.sessions, [(Some(1), None), (Some(2), None)]);
    assert_eq!(groups[1].0.to_string(), "239.0.0.1:6001 on eth0");
}

#[test]
fn sessions_of_route_are_not_joined_where_signatures_are_required() {
    let sessions =
        [spec("239.0.0.1:6000", Some(1), Protocol::Flute), spec("239.0.0.2:6000", Some(10), Protocol::Route)];
    for (mode, groups) in [(Mode::Require, 1), (Mode::Prefer, 2), (Mode::Off, 2)] {
        let joined = sessions.iter().filter(|it| may_be_signed(it, mode));
        let joined = wanted(joined, "eth0", |_| mode);
        assert_eq!(joined.len(), groups, "{mode:?}");
        assert!(joined.iter().all(|it| mode != Mode::Require || !it.1.has_route));
    }
}

fn document(name: &str, bytes: &[u8]) -> Document {
    let destination = "239.0.0.1:6000".parse().unwrap();
    let session = SessionKey { source: "10.0.0.1".parse().unwrap(), destination, tsi: Tsi(1) };
    Document {
        object: ObjectRef { session, toi: Toi(1) },
        name: name.to_owned(),
        content_type: None,
        bytes: bytes.to_vec(),
        is_signed: false,
    }
}

/// A gateway configuration with a session on each of these ports, and repair from `base`.
fn configuration(ports: &[u16], base: &str) -> Vec<u8> {
    let sessions: String = ports
        .iter()
        .map(|port| {
            format!(
                "<MulticastGatewayConfigurationTransportSession><TransportProtocol protocolIdentifier='x:FLUTE'/>\
                 <EndpointAddress><NetworkDestinationGroupAddress>239.1.1.1</NetworkDestinationGroupAddress>\
                 <TransportDestinationPort>{port}</TransportDestinationPort></EndpointAddress>\
                 <UnicastRepairParameters transportObjectReceptionTimeout='700'><BaseURL>{base}</BaseURL>\
                 </UnicastRepairParameters></MulticastGatewayConfigurationTransportSession>"
            )
        })
        .collect();
    format!(
        "<MulticastGatewayConfiguration xmlns='urn:dvb:metadata:MulticastSessionConfiguration:2019'>{sessions}\
         </MulticastGatewayConfiguration>"
    )
    .into_bytes()
}

struct Tested {
    thread: SessionThread,
    commands: SessionCommands,
    shard: Receiver<Command>,
    documents: Arc<Documents>,
    origins: Arc<Origins>,
    rules: Arc<RuleBook>,
}

/// A session thread that joins nothing on the network, with one shard.
fn start() -> Tested {
    start_with(Receive { multicast: false, announcement: Vec::new(), ..Receive::default() })
}

fn start_with(receive: Receive) -> Tested {
    start_with_trust(receive, Arc::default())
}

fn start_with_trust(receive: Receive, trust: Arc<Trust>) -> Tested {
    let own = Session {
        address: "239.9.9.9:9".parse().unwrap(),
        source: None,
        tsi: Some(7),
        service: String::new(),
        trust: None,
    };
    let options = SessionOptions { receive, sessions: vec![own], services: Vec::new() };
    let (sender, shard) = channel();
    let queue = SessionQueue::default();
    let commands = queue.commands();
    let (documents, rules) = (Arc::<Documents>::default(), Arc::<RuleBook>::default());
    let origins = Arc::new(Origins::new(Vec::new(), Vec::new()));
    let folder = tempfile::tempdir().unwrap();
    let context = SessionContext {
        names: Arc::default(),
        documents: Arc::clone(&documents),
        origins: Arc::clone(&origins),
        rules: Arc::clone(&rules),
        trust,
        commands: Arc::new(Commands::open(Default::default(), folder.path()).unwrap()),
        updates: Arc::new(
            Updates::open(Default::default(), Vec::new(), Default::default(), folder.path(), String::new())
                .unwrap(),
        ),
        services: Arc::default(),
        flights: Flights::new(),
        receive: Arc::default(),
        configurations_bytes: usize::MAX,
    };
    let thread = queue.start(&options, vec![sender], context, &Default::default()).unwrap();
    Tested { thread, commands, shard, documents, origins, rules }
}

impl Tested {
    /// Ports of the groups that the shard expects by its next command.
    fn expected(&self) -> Vec<u16> {
        let Ok(Command::Expect(groups)) = self.shard.recv_timeout(Duration::from_secs(60)) else {
            panic!("no groups")
        };
        let mut ports: Vec<u16> = groups.keys().map(SocketAddr::port).collect();
        ports.sort();
        ports
    }

    fn wait_for(&self, key: &str) -> Arc<Document> {
        let begin = Instant::now();
        loop {
            if let Some(document) = self.documents.get(key) {
                return document;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{key}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn configurations_decide_what_is_expected_and_a_broken_one_changes_nothing() {
    let mut tested = start();
    assert_eq!(tested.expected(), [9], "its own session");
    let first = configuration(&[5, 6], "http://repair.example/a/");
    tested.commands.document(document(CONFIGURATION_URI, &first));
    assert_eq!(tested.expected(), [5, 6, 9]);
    let group = SessionKey {
        source: "10.0.0.1".parse().unwrap(),
        destination: "239.1.1.1:5".parse().unwrap(),
        tsi: Tsi(1),
    };
    assert_eq!(tested.rules.get(&group).unwrap().reception_timeout_ms, 700);
    let key = carousel::ObjectKey::from_name("http://repair.example/a/x", None).unwrap();
    assert!(tested.origins.is_signalled(&key));
    // The states follow the commands.
    let begin = Instant::now();
    while tested.thread.groups().all().len() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(60), "the states of three groups");
        std::thread::sleep(Duration::from_millis(5));
    }
    let states = tested.thread.groups().all();
    let mut why: Vec<(u16, &str)> = states.iter().map(|it| (it.group.address.port(), it.why)).collect();
    why.sort();
    assert_eq!(why, [(5, "bootstrap"), (6, "bootstrap"), (9, "static")]);
    assert!(states.iter().all(|it| it.error.is_none()));

    tested.commands.document(document(CONFIGURATION_URI, b"<broken"));
    tested.commands.document(document("http://h/list.xml", b"<ServiceList/>"));
    assert_eq!(tested.wait_for("h/list.xml").bytes, b"<ServiceList/>");
    assert!(tested.shard.try_recv().is_err(), "neither changes what is expected");
    assert!(tested.rules.get(&group).is_some());

    tested.commands.document(document(CONFIGURATION_URI, &configuration(&[6], "http://repair.example/b/")));
    assert_eq!(tested.expected(), [6, 9]);
    assert!(tested.rules.get(&group).is_none() && !tested.origins.is_signalled(&key));

    // A new configuration file: what was received stays in force.
    let receive = Receive { multicast: false, announcement: Vec::new(), ..Receive::default() };
    tested.thread.reload(&SessionOptions { receive, sessions: Vec::new(), services: Vec::new() });
    assert_eq!(tested.expected(), [6]);
    tested.thread.stop();
}

#[test]
fn an_unsigned_configuration_replaces_no_signed_one() {
    let policy = Policy { mode: Mode::Prefer, ..Policy::default() };
    let receive = Receive { multicast: false, announcement: Vec::new(), ..Receive::default() };
    let mut tested = start_with_trust(receive, Arc::new(Trust::new(policy)));
    assert_eq!(tested.expected(), [9], "its own session");
    let base = "http://repair.example/a/";
    tested.commands.document(document(CONFIGURATION_URI, &configuration(&[4], base)));
    assert_eq!(tested.expected(), [4, 9], "it counts as long as none is signed");
    let signed = |ports: &[u16]| Document {
        is_signed: true,
        ..document(CONFIGURATION_URI, &configuration(ports, base))
    };
    tested.commands.document(signed(&[5, 6]));
    assert_eq!(tested.expected(), [5, 6, 9]);
    // Forged ones, by each name that a configuration can have; one names no session at all.
    tested.commands.document(document(CONFIGURATION_URI, &configuration(&[66], base)));
    tested.commands.document(document(CONFIGURATION_URI, &configuration(&[], base)));
    let bootstrap = nip::Document::Bootstrap.name();
    tested.commands.document(document(bootstrap, &configuration(&[66], base)));
    tested.commands.document(document("http://h/list.xml", b"<ServiceList/>"));
    tested.wait_for("h/list.xml");
    assert!(tested.shard.try_recv().is_err(), "none changes what is expected");
    tested.commands.document(signed(&[6]));
    assert_eq!(tested.expected(), [6, 9], "the headend's next one does");
    tested.thread.stop();
}

#[test]
fn a_reception_timeout_of_the_sender_goes_to_its_session_alone() {
    let mut repaired = spec("239.0.0.1:6000", Some(1), Protocol::Flute);
    let with = |reception_timeout_ms| carousel::mabr::RepairParameters {
        reception_timeout_ms,
        ..Default::default()
    };
    repaired.repair = Some(with(900));
    let mut unsaid = spec("239.0.0.1:6000", Some(2), Protocol::Flute);
    unsaid.repair = Some(with(0));
    let groups = wanted(&[repaired, unsaid], "", |_| Mode::Off);
    assert_eq!(groups[0].1.sessions, [(Some(1), Some(Duration::from_millis(900))), (Some(2), None)]);
}

#[test]
fn documents_that_name_sessions_are_told_from_others() {
    let typed = |content_type: &str| Document {
        content_type: Some(content_type.to_owned()),
        ..document("http://h/x", b"")
    };
    assert!(is_configuration(&document(CONFIGURATION_URI, b"")));
    assert!(is_configuration(&document(&CONFIGURATION_URI.to_uppercase(), b"")));
    assert!(is_configuration(&typed(CONFIGURATION_TYPE)) && !is_configuration(&typed("application/xml")));
    assert!(is_configuration(&document(nip::Document::Bootstrap.name(), b"")));
    assert!(!is_configuration(&document(nip::Document::ServiceListEntryPoints.name(), b"")));
}

#[test]
fn services_of_the_configuration_and_of_the_air_are_put_together() {
    let own = |id: &str, join| ServiceOptions {
        id: id.to_owned(),
        urls: vec!["https://h/own".to_owned()],
        join,
        rate_bps: Some(5),
    };
    let receive = Receive { join: Join::OnDemand, ..Receive::default() };
    let services = vec![own("one", Some(Join::All)), own("two", None)];
    let options = SessionOptions { receive, sessions: Vec::new(), services };
    let announced = |id: &str| carousel::mabr::ServiceSpec {
        id: id.to_owned(),
        bases: vec![format!("https://h/{id}/")],
        ..Default::default()
    };
    let all = options.with_announced(vec![announced("three"), announced("one")]);
    let told: Vec<(&str, Vec<&str>)> =
        all.iter().map(|it| (it.id.as_str(), it.bases.iter().map(String::as_str).collect())).collect();
    let expected = [
        ("one", vec!["https://h/own/", "https://h/one/"]),
        ("two", vec!["https://h/own/"]),
        ("three", vec!["https://h/three/"]),
    ];
    assert_eq!(told, expected);
    let policies = ["one", "two", "three"].map(|id| options.policy_of(id));
    let expected = [(Join::All, Some(5)), (Join::OnDemand, Some(5)), (Join::OnDemand, None)];
    assert_eq!(policies, expected);
    assert_eq!(options.service_mistakes(), []);
}

#[test]
fn mistakes_about_services_are_named() {
    let text = "[receive]\nneighbours = 99\nleave_after_ms = 5\n[[session]]\naddress = '239.1.1.1:5'\nservice = 'none'\n\
                [[service]]\nid = 'a'\nurls = ['cdn/a/']\n[[service]]\nid = 'a'\n";
    let mistakes = crate::config::Config::parse(text).unwrap_err();
    let keys: Vec<&str> = mistakes.iter().map(|it| it.key.as_str()).collect();
    let expected = [
        "service[0].urls",
        "service[1].id",
        "session[0].service",
        "receive.neighbours",
        "receive.leave_after_ms",
    ];
    assert_eq!(keys, expected);
}

/// A service list table with a service of ROUTE on each of these ports.
fn service_list(ports: &[u16]) -> Vec<u8> {
    let services: String = ports
        .iter()
        .map(|port| {
            format!(
                "<Service serviceId='{port}' shortServiceName='S'><BroadcastSvcSignaling slsProtocol='1' \
                 slsDestinationIpAddress='239.1.1.1' slsDestinationUdpPort='{port}'/></Service>"
            )
        })
        .collect();
    [&[1, 1, 0, 1][..], format!("<SLT bsid='7'>{services}</SLT>").as_bytes()].concat()
}

fn atsc_document(group: &str, kind: &str, bytes: &[u8]) -> Document {
    let mut document = document("", bytes);
    document.object.session.destination = group.parse().unwrap();
    document.content_type = Some(kind.to_owned());
    document
}

#[test]
fn services_of_low_level_signalling_are_expected_and_go_with_their_table() {
    let lls = "239.1.1.9:4937";
    let groups = vec![lls.parse().unwrap()];
    let receive = Receive { multicast: false, announcement: Vec::new(), lls: groups, ..Receive::default() };
    let mut tested = start_with(receive.clone());
    assert_eq!(tested.expected(), [9, 4937]);
    // The same table on a group that is not one of low-level signalling says nothing.
    tested.commands.document(atsc_document("239.1.1.8:4937", LLS_TYPE, &service_list(&[6])));
    tested.commands.document(atsc_document(lls, LLS_TYPE, &service_list(&[5])));
    assert_eq!(tested.expected(), [5, 9, 4937]);
    let stsid =
        b"<S-TSID><RS dIpAddr='239.1.1.2' dPort='7'><LS tsi='4'/></RS><RS dIpAddr='127.0.0.1' dPort='8080'>\
                  <LS tsi='5'/></RS></S-TSID>";
    tested.commands.document(atsc_document("239.1.1.1:5", STSID_TYPE, stsid));
    let Ok(Command::Describe(described)) = tested.shard.recv_timeout(Duration::from_secs(60)) else {
        panic!("no description")
    };
    assert_eq!(described.keys().map(SocketAddr::port).collect::<Vec<_>>(), [7]);
    assert_eq!(tested.expected(), [5, 7, 9, 4937]);
    let begin = Instant::now();
    while tested.thread.groups().all().len() < 4 {
        assert!(begin.elapsed() < Duration::from_secs(60), "the states of four groups");
        std::thread::sleep(Duration::from_millis(5));
    }
    let state = tested.thread.groups().atsc();
    assert_eq!((state.lists[0].services.len(), state.left_out[ServiceDrop::BadAddress as usize]), (1, 1));
    let services: Vec<String> = tested.thread.groups().services().into_iter().map(|it| it.id).collect();
    assert_eq!(services, ["atsc:7:5"]);

    tested.commands.document(atsc_document(lls, LLS_TYPE, &service_list(&[6])));
    assert!(
        matches!(tested.shard.recv_timeout(Duration::from_secs(60)), Ok(Command::Describe(it)) if it.is_empty())
    );
    assert_eq!(tested.expected(), [6, 9, 4937]);
    // A reload that takes the group away leaves nothing that it named to be joined later.
    tested.thread.reload(&SessionOptions {
        receive: Receive { lls: Vec::new(), ..receive },
        sessions: Vec::new(),
        services: Vec::new(),
    });
    assert_eq!(tested.expected(), [0_u16; 0]);
    tested.thread.stop();
}
