//! The two decisions as tables, and what they come to together.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn fence(epoch: u64, leader: u8) -> Fence {
    Fence { epoch, leader: LeaderId([leader; 16]) }
}

fn led(epoch: u64, leader: u8, mark: u64) -> Led {
    Led { fence: fence(epoch, leader), mark }
}

fn offer(fence: Fence, follows: Option<Led>) -> Offer {
    Offer { signed: SignedFence { fence, signature: vec![1] }, follows }
}

#[test]
fn what_is_written_is_read_and_garbage_is_not() {
    let obeyed = Obeyed { signed: offer(fence(7, 0xab), None).signed, mark: 3 };
    let text = serde_json::to_string(&obeyed).unwrap();
    let golden = r#"{"signed":{"fence":{"epoch":7,"leader":"abababababababababababababababab"},"signature":"01"},"mark":3}"#;
    assert_eq!(text, golden);
    assert_eq!(serde_json::from_str::<Obeyed>(golden).unwrap(), obeyed);
    assert_eq!(obeyed.signed.fence.to_string(), "epoch 7 of leader abababab");
    for bad in ["", "ab", &"AB".repeat(16), &"ab".repeat(17), &"ä".repeat(16)] {
        assert!(bad.parse::<LeaderId>().is_err(), "{bad}");
    }
}

#[test]
fn a_host_obeys_whose_lineage_has_what_it_obeyed_and_nobody_else() {
    let obeyed = Some(led(5, 1, 10));
    let cases = [
        // Nobody yet, or epochs only.
        (None, 0, offer(fence(1, 1), None), "obeys"),
        (None, 0, offer(fence(900, 1), None), "obeys"),
        (None, 4, offer(fence(4, 1), None), "obeys"),
        (None, 4, offer(fence(3, 1), None), "lower"),
        (None, 0, offer(fence(JUMP + 1, 1), None), "too far"),
        // The same leadership.
        (obeyed, 5, offer(fence(5, 1), None), "obeys"),
        // A lower epoch, whatever it shows.
        (obeyed, 5, offer(fence(4, 1), Some(led(5, 1, 10))), "lower"),
        (obeyed, 6, offer(fence(5, 1), None), "lower"),
        // An equal one and another leader, whatever it shows.
        (obeyed, 5, offer(fence(5, 2), Some(led(5, 1, 10))), "other leader"),
        // A higher one.
        (obeyed, 5, offer(fence(6, 2), Some(led(5, 1, 10))), "obeys"),
        (obeyed, 5, offer(fence(6, 2), Some(led(5, 1, 11))), "obeys"),
        (obeyed, 5, offer(fence(6, 2), Some(led(5, 1, 9))), "outside"),
        (obeyed, 5, offer(fence(6, 2), Some(led(5, 2, 10))), "outside"),
        (obeyed, 5, offer(fence(6, 2), None), "outside"),
        (obeyed, 5, offer(fence(5 + JUMP, 2), Some(led(5, 1, 10))), "obeys"),
        (obeyed, 5, offer(fence(6 + JUMP, 2), Some(led(5, 1, 10))), "too far"),
        (obeyed, 5, offer(fence(u64::MAX, 2), Some(led(5, 1, 10))), "too far"),
    ];
    for (obeyed, highest, offer, expected) in cases {
        let said = match may_lead(obeyed, highest, &offer) {
            Ok(()) => "obeys",
            Err(Unfit::Lower { .. }) => "lower",
            Err(Unfit::OtherLeader { .. }) => "other leader",
            Err(Unfit::OutsideLineage { .. }) => "outside",
            Err(Unfit::TooFar { .. }) => "too far",
            Err(Unfit::Unfenced { .. }) => "unfenced",
        };
        assert_eq!(said, expected, "{obeyed:?} {highest} {offer:?}");
    }
    assert_eq!(may_lead_unfenced(None, 4, 4), Ok(()));
    assert!(matches!(may_lead_unfenced(None, 4, 3), Err(Unfit::Lower { .. })));
    assert!(matches!(may_lead_unfenced(None, 4, u64::MAX), Err(Unfit::TooFar { .. })));
    assert!(matches!(may_lead_unfenced(obeyed, 5, 9), Err(Unfit::Unfenced { .. })));
}

#[test]
fn a_coordinator_judges_by_lineage_and_signature() {
    let mut lineage = Lineage::default();
    lineage.add(led(3, 1, 4));
    lineage.add(led(5, 1, 10));
    let own = fence(7, 7);
    let shows = |led, signed, highest| Shown { led, signed, highest };
    let never = Restore::default();
    let (now, once) = (Restore { now: true, below: 0 }, Restore { now: false, below: 7 });
    let leads = |follows| Verdict::Leads { follows };
    let takes = |led, rises| Verdict::TakesIn { led, rises };
    let (lower, equal, higher) = (led(6, 9, 1), led(7, 9, 1), led(8, 9, 1));
    let far = led(7 + JUMP, 9, 1);
    let cases = [
        (shows(None, false, 0), never, leads(None)),
        (shows(None, false, 7), never, leads(None)),
        (shows(None, false, 8), never, Verdict::Foreign),
        (shows(None, false, u64::MAX), now, Verdict::Foreign),
        // What it knows needs no signature: the lineage says it itself.
        (shows(Some(led(5, 1, 10)), false, 5), never, leads(Some(led(5, 1, 10)))),
        (shows(Some(led(3, 1, 2)), true, 3), never, leads(Some(led(3, 1, 4)))),
        (shows(Some(led(7, 7, 3)), true, 7), never, leads(Some(led(7, 7, 3)))),
        (shows(Some(led(5, 1, 10)), true, 8), never, Verdict::Foreign),
        // A copy of its state was led on: same fence, further.
        (shows(Some(led(5, 1, 11)), true, 5), never, Verdict::Foreign),
        (shows(Some(led(5, 1, 11)), true, 5), now, takes(led(5, 1, 11), false)),
        (shows(Some(led(5, 1, 11)), true, 5), once, takes(led(5, 1, 11), false)),
        // Somebody else, below, beside and above.
        (shows(Some(lower), true, 6), never, Verdict::Foreign),
        (shows(Some(equal), true, 7), never, Verdict::Deposed),
        (shows(Some(higher), true, 8), never, Verdict::Deposed),
        (shows(Some(lower), true, 6), now, takes(lower, false)),
        (shows(Some(equal), true, 7), now, takes(equal, true)),
        (shows(Some(higher), true, 8), now, takes(higher, true)),
        (shows(Some(lower), true, 6), once, takes(lower, false)),
        (shows(Some(equal), true, 7), once, Verdict::Deposed),
        (shows(Some(far), true, far.fence.epoch), now, Verdict::Foreign),
        // A host's word alone.
        (shows(Some(lower), false, 6), now, Verdict::Foreign),
        (shows(Some(equal), false, 7), never, Verdict::Foreign),
        (shows(Some(higher), false, 8), once, Verdict::Foreign),
    ];
    for (shown, restore, expected) in cases {
        assert_eq!(lineage.judge(own, restore, &shown), expected, "{shown:?} {restore:?}");
    }
}

#[test]
fn a_lineage_is_bounded_and_keeps_the_newest() {
    let mut lineage = Lineage::default();
    for epoch in 0..LINEAGE as u64 {
        assert_eq!(lineage.add(led(epoch, 1, 1)), None);
    }
    assert_eq!(lineage.add(led(9, 1, 4)), None, "known already");
    assert_eq!(lineage.add(led(5000, 1, 1)), Some(fence(0, 1)));
    assert_eq!(lineage.len(), LINEAGE);
    assert_eq!(lineage.get(&fence(9, 1)), Some(led(9, 1, 4)));
    lineage.add(led(9, 1, 2));
    assert_eq!(lineage.get(&fence(9, 1)), Some(led(9, 1, 4)), "a mark never goes down");
}

/// A coordinator's state: what is copied.
#[derive(Clone, Default)]
struct State {
    epoch: u64,
    lineage: Lineage,
    restore: Restore,
    /// All that was ever ordered from this state.
    history: BTreeSet<u32>,
    deposed: bool,
}

struct Coordinator {
    state: State,
    /// Under what it leads, and how many orders it gave.
    leads: Option<Led>,
}

#[derive(Default)]
struct Host {
    obeyed: Option<Led>,
    history: BTreeSet<u32>,
}

#[derive(Debug, Clone)]
enum Act {
    Start(usize),
    Restore(usize),
    Copy(usize),
    Order(usize, usize),
}

#[derive(Default)]
struct World {
    coordinators: Vec<Coordinator>,
    hosts: Vec<Host>,
    drawn: u8,
    orders: u32,
}

impl World {
    fn new() -> Self {
        let coordinators = vec![Coordinator { state: State::default(), leads: None }];
        Self { coordinators, hosts: (0..3).map(|_| Host::default()).collect(), ..Self::default() }
    }

    fn campaign(&mut self, at: usize, above: u64) {
        self.drawn += 1;
        let state = &mut self.coordinators[at].state;
        state.epoch = state.epoch.max(above) + 1;
        let leads = Led { fence: fence(state.epoch, self.drawn), mark: 0 };
        self.coordinators[at].leads = Some(leads);
    }

    /// Says whether the order was obeyed.
    fn order(&mut self, at: usize, host: usize) -> bool {
        let (coordinator, host_at) = (&mut self.coordinators[at], host);
        let Some(leads) = coordinator.leads.filter(|_| !coordinator.state.deposed) else { return false };
        let host = &mut self.hosts[host_at];
        let highest = host.obeyed.map_or(0, |led| led.fence.epoch);
        let shown = Shown { led: host.obeyed, signed: true, highest };
        let state = &mut coordinator.state;
        let follows = match state.lineage.judge(leads.fence, state.restore, &shown) {
            Verdict::Leads { follows } => follows,
            Verdict::TakesIn { led, rises } => {
                state.lineage.add(led);
                if rises {
                    self.campaign(at, led.fence.epoch + RESTORE_STEP);
                    let leads = self.coordinators[at].leads.unwrap();
                    self.coordinators[at].state.restore.below = leads.fence.epoch;
                }
                return self.order(at, host_at);
            }
            Verdict::Foreign => return false,
            Verdict::Deposed => {
                state.deposed = true;
                return false;
            }
        };
        if may_lead(host.obeyed, highest, &offer(leads.fence, follows)).is_err() {
            return false;
        }
        // After a restore an operator has said that what was lost is lost.
        let knows = state.restore.below > 0 || host.history.is_subset(&state.history);
        assert!(knows, "a host obeys one who does not know what it obeyed");
        self.orders += 1;
        let leads = Led { mark: leads.mark + 1, ..leads };
        state.lineage.add(leads);
        state.history.insert(self.orders);
        coordinator.leads = Some(leads);
        host.obeyed = Some(leads);
        host.history.insert(self.orders);
        true
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Start(at) => {
                let at = at % self.coordinators.len();
                self.coordinators[at].state.restore.now = false;
                self.campaign(at, 0);
            }
            Act::Restore(at) => {
                let at = at % self.coordinators.len();
                let above = self.coordinators[at].state.epoch + RESTORE_STEP;
                self.campaign(at, above);
                let state = &mut self.coordinators[at].state;
                (state.deposed, state.restore) = (false, Restore { now: true, below: state.epoch });
            }
            Act::Copy(at) => {
                let state = self.coordinators[at % self.coordinators.len()].state.clone();
                self.coordinators.push(Coordinator { state, leads: None });
            }
            Act::Order(at, host) => {
                self.order(at % self.coordinators.len(), host % self.hosts.len());
            }
        }
    }
}

fn act() -> impl Strategy<Value = Act> {
    let any = 0..8_usize;
    prop_oneof![
        3 => any.clone().prop_map(Act::Start),
        1 => any.clone().prop_map(Act::Restore),
        2 => any.clone().prop_map(Act::Copy),
        9 => (any.clone(), any).prop_map(|(at, host)| Act::Order(at, host)),
    ]
}

proptest! {
    /// Copies of copies, started in any order and as often as you like: no host ever obeys one whose state lacks an order that
    /// the host has obeyed.
    #[test]
    fn nobody_is_led_from_a_state_that_lacks_what_he_obeyed(acts in proptest::collection::vec(act(), 0..60)) {
        let mut world = World::new();
        acts.iter().for_each(|act| world.act(act));
    }

    /// A coordinator that was not copied leads every host after each start, however often it is started.
    #[test]
    fn without_copies_everybody_is_led(hosts in proptest::collection::vec((0..3_usize, any::<bool>()), 0..60)) {
        let mut world = World::new();
        world.campaign(0, 0);
        for (host, again) in hosts {
            if again {
                world.campaign(0, 0);
            }
            prop_assert!(world.order(0, host));
        }
    }

    /// Whatever happened, a start with `--after-restore` leads all hosts again, in any order of their return.
    #[test]
    fn after_a_restore_everybody_is_led(
        acts in proptest::collection::vec(act(), 0..40), which: usize, order in Just(vec![0, 1, 2]).prop_shuffle(),
        plain in any::<bool>(),
    ) {
        let mut world = World::new();
        acts.iter().for_each(|act| world.act(act));
        let at = which % world.coordinators.len();
        world.act(&Act::Restore(at));
        for (n, host) in order.into_iter().enumerate() {
            prop_assert!(world.order(at, host), "{host}");
            // Also over a plain start in between, as long as what returns is older than the restore.
            let rest_is_older = world.hosts.iter().all(|host| {
                host.obeyed.is_none_or(|led| led.fence.epoch < world.coordinators[at].state.epoch)
            });
            if n == 0 && plain && rest_is_older {
                world.act(&Act::Start(at));
            }
        }
    }

    /// One host's word, whatever it is, deposes nobody and changes no lineage.
    #[test]
    fn a_lying_host_deposes_nobody(epoch: u64, leader: u8, mark: u64, highest: u64, now: bool, below: u64) {
        let mut lineage = Lineage::default();
        lineage.add(led(5, 1, 10));
        let shown = Shown { led: Some(led(epoch, leader, mark)), signed: false, highest };
        let verdict = lineage.judge(fence(7, 7), Restore { now, below: below.min(7) }, &shown);
        prop_assert!(matches!(verdict, Verdict::Leads { .. } | Verdict::Foreign), "{:?}", verdict);
    }
}
