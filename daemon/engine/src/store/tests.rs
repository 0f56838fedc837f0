//! Tests of the store of unacknowledged pieces.

use bytes::Bytes;

use super::*;
use crate::ids::FlowId;
use crate::inner::PieceKind;

const A: WanId = WanId(0);
const B: WanId = WanId(1);

fn piece() -> Piece {
    Piece {
        flow: FlowId(1),
        ordered: true,
        offset: 0,
        units: 4,
        kind: PieceKind::Packet,
        body: Bytes::from_static(b"abcd"),
    }
}

fn sent_on(store: &mut Store, wan: WanId) -> PieceId {
    let id = store.insert(piece(), Instant::ZERO);
    store.sent(id, wan);
    id
}

#[test]
fn an_acknowledged_piece_leaves() {
    let mut store = Store::default();
    let id = sent_on(&mut store, A);
    assert_eq!(store.held(), (1, 4));
    assert!(store.acknowledged(id));
    assert_eq!(store.held(), (0, 0));
    assert!(!store.acknowledged(id), "a second acknowledgement hits nothing");
}

#[test]
fn a_lost_piece_is_repaired_on_another_wan() {
    let mut store = Store::default();
    let id = sent_on(&mut store, A);
    store.lost(Instant::ZERO, id, A);
    assert!(store.next_repair(Instant::ZERO, A, false).is_none());
    let repair = store.next_repair(Instant::ZERO, B, false).expect("B may repair");
    assert_eq!((repair.id, repair.why, repair.losses), (id, Repair::Lost, 1));
    store.sent(id, B);
    store.acknowledged(id);
    assert_eq!(store.held(), (0, 0));
}

#[test]
fn the_wan_that_lost_a_piece_repairs_it_if_the_others_do_not() {
    let mut store = Store::default();
    let id = sent_on(&mut store, A);
    store.lost(Instant::ZERO, id, A);
    let later = Instant::from_millis(11);
    assert!(store.next_repair(later, A, false).is_some());
}

#[test]
fn a_copy_that_waits_while_the_last_packet_is_lost_becomes_a_repair() {
    let mut store = Store::default();
    let id = sent_on(&mut store, A);
    store.suspect(id);
    store.lost(Instant::ZERO, id, A);
    let later = Instant::from_millis(11);
    let repair = store.next_repair(later, A, false).expect("a repair");
    assert_eq!(repair.why, Repair::Lost);
    assert!(store.next_repair(later, B, false).is_none());
}

#[test]
fn what_is_too_old_is_announced_as_dropped() {
    let mut store = Store::default();
    let id = sent_on(&mut store, A);
    store.lost(Instant::from_millis(2500), id, A);
    let repair = store
        .next_repair(Instant::from_millis(2500), B, false)
        .expect("a skip");
    assert!(matches!(repair.piece.kind, PieceKind::Skip));
    assert_eq!((store.abandoned(), store.held()), (1, (1, 0)));
}

#[test]
fn a_piece_is_not_repaired_while_a_copy_is_in_flight() {
    let mut store = Store::default();
    let id = sent_on(&mut store, A);
    store.sent(id, B);
    store.lost(Instant::ZERO, id, A);
    assert!(!store.has_repairs());
    store.lost(Instant::ZERO, id, B);
    assert!(store.next_repair(Instant::ZERO, B, false).is_none());
    assert!(
        store.next_repair(Instant::ZERO, A, false).is_some(),
        "A lost it before, and is another WAN than B"
    );
}

#[test]
fn a_copy_on_a_lossy_wan_may_have_another_on_a_third_one() {
    let mut store = Store::default();
    let id = sent_on(&mut store, A);
    store.copy_again(id);
    assert!(!store.has_repairs(), "there is no copy yet");
    store.suspect(id);
    assert!(store.next_repair(Instant::ZERO, B, false).is_some());
    store.sent(id, B);
    store.copy_again(id);
    assert!(store.next_repair(Instant::ZERO, B, false).is_none());
    let repair = store.next_repair(Instant::ZERO, WanId(2), false);
    assert_eq!(repair.map(|repair| repair.why), Some(Repair::Suspicion));
    store.sent(id, WanId(2));
    store.copy_again(id);
    assert!(!store.has_repairs(), "three are enough");
}

#[test]
fn a_suspected_piece_is_copied_once() {
    let mut store = Store::default();
    let id = sent_on(&mut store, A);
    store.suspect(id);
    store.suspect(id);
    assert_eq!(
        store
            .next_repair(Instant::ZERO, B, false)
            .map(|repair| repair.why),
        Some(Repair::Suspicion)
    );
    store.sent(id, B);
    assert!(store.next_repair(Instant::ZERO, B, true).is_none());
    // The silent path was alive: both arrive.
    store.acknowledged(id);
    assert_eq!(store.held().0, 1, "still in flight on the other path");
    store.acknowledged(id);
    assert_eq!(store.held().0, 0);
}

#[test]
fn what_somebody_waits_for_is_copied_on_a_doubt_and_goes_first() {
    let mut store = Store::default();
    let mut budget = DoubtBudget::default();
    let in_order = sent_on(&mut store, A);
    let mut single = piece();
    single.ordered = false;
    let urgent = store.insert(single, Instant::ZERO);
    store.sent(urgent, A);
    for id in [in_order, urgent] {
        store.copy_if_urgent(id, &mut budget);
    }
    store.suspect(in_order);
    let first = store.next_urgent(Instant::ZERO, B, false);
    assert_eq!(first.map(|repair| repair.id), Some(urgent));
    assert!(store.next_urgent(Instant::ZERO, B, false).is_none());
    let second = store.next_repair(Instant::ZERO, B, false);
    assert_eq!(second.map(|repair| repair.id), Some(in_order));
}

#[test]
fn doubts_copy_a_hundredth_of_what_is_sent() {
    let mut budget = DoubtBudget::default();
    let mut copied = 0;
    while budget.spend(100) {
        copied += 100;
    }
    assert!((16_000..=16 << 10).contains(&copied), "{copied}");
    budget.earn(10_000);
    assert!(budget.spend(100) && !budget.spend(100));
}

#[test]
fn a_late_acknowledgement_takes_back_a_repair() {
    let mut store = Store::default();
    let id = sent_on(&mut store, A);
    store.lost(Instant::ZERO, id, A);
    store.acknowledged_late(id);
    assert!(store.next_repair(Instant::ZERO, B, true).is_none());
    assert_eq!(store.held(), (0, 0));
    assert_eq!(store.free.len(), 1, "freed once");
}

#[test]
fn a_late_acknowledgement_does_not_hit_the_successor() {
    let mut store = Store::default();
    let old = sent_on(&mut store, A);
    store.acknowledged(old);
    let new = sent_on(&mut store, A);
    store.acknowledged_late(old);
    assert!(store.piece(new).is_some());
}
