//! Nodes, a store and a network in virtual time: messages come late, twice as late as requests are waited for, or never; clocks run
//! fast and slow; nodes stand still and die. A failing run names its seed.

use super::*;

const MS: u64 = 1_000_000;
const TIMING: Timing = Timing::of_ms(1200, 300);
/// A request is given up after this time; what it asked for may happen later still.
const PATIENCE_NS: u64 = 400 * MS;

struct Node {
    core: Core,
    instance: u64,
    /// Local time is that of the world, times this part of a thousand, and this later.
    rate: u64,
    offset_ns: u64,
    /// Stands still until then.
    paused_until_ns: u64,
    is_dead: bool,
    /// Time of the world at which the request is given up, and its number.
    waits: Option<(u64, u64)>,
}

impl Node {
    fn local_ns(&self, now_ns: u64) -> u64 {
        now_ns / 1000 * self.rate + self.offset_ns
    }

    fn is_sending(&self, now_ns: u64) -> bool {
        !self.is_dead
            && self.paused_until_ns <= now_ns
            && self.local_ns(now_ns) < self.core.may_send_until_ns()
    }
}

enum Message {
    Request(Request),
    Answer(Answer),
}

/// How bad the world is.
#[derive(Clone, Copy)]
struct Weather {
    /// Lost messages of a hundred.
    lost: u64,
    /// Longest delay of a message.
    delay_ms: u64,
    /// Messages of a hundred that take ten times as long.
    very_late: u64,
    /// Ticks of a node of a million in which it pauses for a while, or dies and restarts.
    troubles: u64,
}

const CALM: Weather = Weather { lost: 0, delay_ms: 20, very_late: 0, troubles: 0 };

struct World {
    rng: fastrand::Rng,
    now_ns: u64,
    nodes: Vec<Node>,
    /// When it arrives, node, number of the request, content.
    messages: Vec<(u64, usize, u64, Message)>,
    store: Option<(String, Lease)>,
    versions: u64,
    requests: u64,
    is_away: bool,
    /// A node that the store does not hear.
    cut_off: Option<usize>,
    weather: Weather,
    /// Generations in the order in which their holders sent.
    tenures: Vec<(u64, u64)>,
    seed: u64,
}

impl World {
    fn new(seed: u64, nodes: usize, weather: Weather) -> Self {
        let mut world = Self {
            rng: fastrand::Rng::with_seed(seed),
            now_ns: 0,
            nodes: Vec::new(),
            messages: Vec::new(),
            store: None,
            versions: 0,
            requests: 0,
            is_away: false,
            cut_off: None,
            weather,
            tenures: Vec::new(),
            seed,
        };
        for _ in 0..nodes {
            let node = world.node();
            world.nodes.push(node);
        }
        world
    }

    fn node(&mut self) -> Node {
        let instance = self.rng.u64(..);
        Node {
            core: Core::new(TIMING, Holder { node: "n".to_owned(), instance }),
            instance,
            rate: self.rng.u64(990..=1010),
            offset_ns: self.rng.u64(..1_000_000 * MS),
            paused_until_ns: 0,
            is_dead: false,
            waits: None,
        }
    }

    fn post(&mut self, node: usize, number: u64, message: Message) {
        if self.is_away || self.cut_off == Some(node) || self.rng.u64(..100) < self.weather.lost {
            return;
        }
        let mut delay_ns = self.rng.u64(..=self.weather.delay_ms * MS);
        if self.rng.u64(..100) < self.weather.very_late {
            delay_ns *= 10;
        }
        self.messages.push((self.now_ns + delay_ns, node, number, message));
    }

    fn stored(&mut self, request: Request) -> Answer {
        let Request::Write { lease, over } = request else { return Answer::Read(self.store.clone()) };
        if self.store.as_ref().map(|it| &it.0) != over.as_ref() {
            return Answer::Refused;
        }
        if let Some((_, before)) = &self.store {
            assert!(
                lease.sequence > before.sequence && lease.generation >= before.generation,
                "{}",
                self.seed
            );
            let is_same = before.holder == lease.holder || lease.holder.is_none();
            assert!(is_same || lease.generation == before.generation + 1, "seed {}", self.seed);
        }
        self.versions += 1;
        let tag = self.versions.to_string();
        self.store = Some((tag.clone(), lease));
        Answer::Written(tag)
    }

    /// A millisecond.
    fn tick(&mut self) {
        self.now_ns += MS;
        let now_ns = self.now_ns;
        let (due, later) = std::mem::take(&mut self.messages).into_iter().partition(|it| it.0 <= now_ns);
        self.messages = later;
        let mut due: Vec<_> = due;
        self.rng.shuffle(&mut due);
        for (_, node, number, message) in due {
            match message {
                Message::Request(request) => {
                    let answer = self.stored(request);
                    self.post(node, number, Message::Answer(answer));
                }
                Message::Answer(answer) => {
                    let it = &mut self.nodes[node];
                    // A node that stands still finds it later: until then it is in a socket.
                    if it.paused_until_ns > now_ns && !it.is_dead {
                        self.messages.push((it.paused_until_ns, node, number, Message::Answer(answer)));
                    } else if it.waits.is_some_and(|(_, waited)| waited == number) && !it.is_dead {
                        it.waits = None;
                        let local_ns = it.local_ns(now_ns);
                        it.core.answered(local_ns, answer);
                    }
                }
            }
        }
        for at in 0..self.nodes.len() {
            if self.nodes[at].is_dead || self.nodes[at].paused_until_ns > now_ns {
                continue;
            }
            if self.rng.u64(..1_000_000) < self.weather.troubles {
                match self.rng.u64(..4) {
                    0 => self.nodes[at] = self.node(),
                    _ => self.nodes[at].paused_until_ns = now_ns + self.rng.u64(..4000) * MS,
                }
                continue;
            }
            let node = &mut self.nodes[at];
            let local_ns = node.local_ns(now_ns);
            if node.waits.is_some_and(|(until_ns, _)| until_ns <= now_ns) {
                node.waits = None;
                node.core.answered(local_ns, Answer::Lost);
            }
            if let Next::Ask(request) = node.core.next(local_ns) {
                self.requests += 1;
                let number = self.requests;
                node.waits = Some((now_ns + PATIENCE_NS, number));
                self.post(at, number, Message::Request(request));
            }
        }
        self.look();
    }

    fn look(&mut self) {
        let mut sending = self.nodes.iter().filter(|it| it.is_sending(self.now_ns));
        let Some(node) = sending.next() else { return };
        assert!(sending.next().is_none(), "two send at {} ms, seed {}", self.now_ns / MS, self.seed);
        let tenure = (node.core.generation().unwrap(), node.instance);
        if let Some(last) = self.tenures.last().filter(|last| **last != tenure) {
            assert!(tenure.0 > last.0, "generation {} after {}, seed {}", tenure.0, last.0, self.seed);
        }
        if self.tenures.last() != Some(&tenure) {
            self.tenures.push(tenure);
        }
    }

    fn run_ms(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.tick());
    }

    /// Milliseconds until one of `from` sends.
    fn until_sent_ms(&mut self, from: impl Fn(usize) -> bool) -> u64 {
        let begin_ns = self.now_ns;
        let is_sent =
            |it: &Self| (0..it.nodes.len()).any(|at| from(at) && it.nodes[at].is_sending(it.now_ns));
        while !is_sent(self) {
            self.tick();
            assert!(self.now_ns - begin_ns < 60_000 * MS, "nobody sends, seed {}", self.seed);
        }
        (self.now_ns - begin_ns) / MS
    }

    fn sender(&self) -> usize {
        self.nodes.iter().position(|it| it.is_sending(self.now_ns)).unwrap()
    }
}

#[test]
fn never_do_two_send_whatever_the_network_clocks_and_pauses_do() {
    for seed in 0..150 {
        let mut of_weather = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let weather = Weather {
            lost: of_weather.u64(..30),
            delay_ms: of_weather.u64(5..500),
            very_late: of_weather.u64(..10),
            troubles: of_weather.u64(..1500),
        };
        let mut world = World::new(seed, 2 + (seed % 2) as usize, weather);
        world.run_ms(20_000);
        // Nothing is stuck: in calm weather a node sends again, however the nodes ended.
        world.weather = CALM;
        world.nodes.iter_mut().for_each(|it| it.paused_until_ns = it.paused_until_ns.min(world.now_ns + MS));
        let wait_ms = world.until_sent_ms(|_| true);
        assert!(wait_ms < 6000, "{wait_ms} ms, seed {seed}");
    }
}

#[test]
fn a_dead_holder_is_followed_within_two_seconds() {
    let mut longest_ms = 0;
    for seed in 0..150 {
        let mut world = World::new(seed, 2 + (seed % 2) as usize, CALM);
        let first_ms = world.until_sent_ms(|_| true);
        assert!(first_ms < 1400, "a first start took {first_ms} ms, seed {seed}");
        let after_ms = world.rng.u64(500..1500);
        world.run_ms(after_ms);
        let dead = world.sender();
        world.nodes[dead].is_dead = true;
        let wait_ms = world.until_sent_ms(|at| at != dead);
        longest_ms = longest_ms.max(wait_ms);
    }
    assert!((1300..1700).contains(&longest_ms), "{longest_ms} ms");
}

#[test]
fn a_lease_that_is_given_back_is_taken_at_the_next_look() {
    for seed in 0..50 {
        let mut world = World::new(seed, 2, CALM);
        world.until_sent_ms(|_| true);
        world.run_ms(700);
        let first = world.sender();
        let local_ns = world.nodes[first].local_ns(world.now_ns);
        world.nodes[first].core.end(local_ns);
        assert!(
            !world.nodes[first].is_sending(world.now_ns),
            "it is silent before it has given anything back"
        );
        let wait_ms = world.until_sent_ms(|at| at != first);
        assert!(wait_ms < 500, "{wait_ms} ms, seed {seed}");
        world.run_ms(100);
        let local_ns = world.nodes[first].local_ns(world.now_ns);
        assert_eq!(world.nodes[first].core.next(local_ns), Next::Over);
    }
}

#[test]
fn a_store_that_is_away_silences_its_holder_which_goes_on_when_it_returns() {
    for seed in 0..50 {
        let mut world = World::new(seed, 2, CALM);
        world.until_sent_ms(|_| true);
        world.run_ms(700);
        let generation = world.tenures.last().unwrap().0;
        world.is_away = true;
        world.run_ms(1300);
        assert!(world.nodes.iter().all(|it| !it.is_sending(world.now_ns)), "seed {seed}");
        world.run_ms(3000);
        world.is_away = false;
        let wait_ms = world.until_sent_ms(|_| true);
        assert!(wait_ms < 2000, "{wait_ms} ms, seed {seed}");
        let (after, _) = *world.tenures.last().unwrap();
        assert!((generation..=generation + 1).contains(&after), "seed {seed}");
    }
}

#[test]
fn a_holder_that_stood_still_sends_nothing_when_it_goes_on() {
    for seed in 0..50 {
        let mut world = World::new(seed, 2, CALM);
        world.until_sent_ms(|_| true);
        world.run_ms(700);
        let first = world.sender();
        world.nodes[first].paused_until_ns = world.now_ns + 3000 * MS;
        world.until_sent_ms(|at| at != first);
        while world.nodes[first].paused_until_ns > world.now_ns {
            world.tick();
        }
        // `look` fails if it sends a single time.
        world.run_ms(3000);
        assert!(world.sender() != first && world.nodes[first].core.generation().is_none(), "seed {seed}");
    }
}

#[test]
fn clocks_that_run_one_percent_slow_and_fast_are_within_the_margin() {
    let mut shortest_ms = u64::MAX;
    for seed in 0..200 {
        // No message takes any time: nothing but the margin keeps them apart.
        let mut world = World::new(seed, 2, Weather { delay_ms: 0, ..CALM });
        (world.nodes[0].rate, world.nodes[1].rate) = (990, 1010);
        // The slow one is first.
        world.nodes[1].paused_until_ns = 2000 * MS;
        world.run_ms(4000 + seed * 97);
        assert_eq!(world.sender(), 0);
        world.cut_off = Some(0);
        while world.nodes[0].is_sending(world.now_ns) {
            world.tick();
        }
        shortest_ms = shortest_ms.min(world.until_sent_ms(|at| at == 1));
    }
    // What of the margin is left: 120 ms, less 24 ms for the rates.
    assert!((95..110).contains(&shortest_ms), "{shortest_ms} ms");
}

#[test]
fn a_write_without_an_answer_counts_from_its_start_once_it_is_seen_to_be_done() {
    let me = Holder { node: "a".to_owned(), instance: 1 };
    let mut core = Core::new(TIMING, me.clone());
    assert_eq!(core.next(0), Next::Ask(Request::Read));
    core.answered(10 * MS, Answer::Read(None));
    let free_ns = 10 * MS + TIMING.duration_ns;
    let Next::Ask(Request::Write { lease, over: None }) = core.next(free_ns) else { panic!() };
    core.answered(free_ns + 400 * MS, Answer::Lost);
    assert_eq!(core.may_send_until_ns(), 0, "nobody knows");
    assert_eq!(core.next(free_ns + 400 * MS), Next::Ask(Request::Read));
    core.answered(free_ns + 450 * MS, Answer::Read(Some(("x".to_owned(), lease.clone()))));
    assert_eq!(core.may_send_until_ns(), free_ns + TIMING.duration_ns - TIMING.margin_ns());
    assert_eq!((core.generation(), core.takeovers()), (Some(1), 0), "nobody had it before");
    // A renewal is over the version that was read.
    let Next::Ask(Request::Write { lease: renewal, over }) = core.next(free_ns + 450 * MS) else { panic!() };
    assert_eq!((renewal.generation, renewal.sequence, over.as_deref()), (1, lease.sequence + 1, Some("x")));
    core.answered(free_ns + 460 * MS, Answer::Refused);
    assert_eq!(core.next(free_ns + 460 * MS), Next::Ask(Request::Read));
    let other =
        Lease { holder: Some(Holder { node: "b".to_owned(), instance: 2 }), generation: 2, sequence: 9 };
    core.answered(free_ns + 470 * MS, Answer::Read(Some(("y".to_owned(), other))));
    assert_eq!((core.may_send_until_ns(), core.generation()), (0, None), "silent at once");
}

#[test]
fn a_lease_that_vanishes_is_made_again_only_when_its_holder_is_silent() {
    let mut world = World::new(7, 3, CALM);
    world.until_sent_ms(|_| true);
    world.run_ms(700);
    let generation = world.tenures.last().unwrap().0;
    world.store = None;
    let sender = world.sender();
    while world.nodes[sender].is_sending(world.now_ns) {
        world.tick();
    }
    world.until_sent_ms(|_| true);
    world.run_ms(1000);
    assert!(world.tenures.last().unwrap().0 > generation);
}

#[test]
fn a_lease_that_vanishes_with_its_holder_does_not_begin_its_generations_again() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2, CALM);
        world.until_sent_ms(|_| true);
        world.run_ms(700);
        let (generation, dead) = (world.tenures.last().unwrap().0, world.sender());
        world.nodes[dead].is_dead = true;
        world.store = None;
        world.until_sent_ms(|at| at != dead);
        assert_eq!(world.tenures.last().unwrap().0, generation + 1, "seed {seed}");
    }
}
