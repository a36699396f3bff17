//! Turns: one at a time for a key, in order, and none is lost.

use shuttle::future::block_on;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

use super::turns::Turns;
use crate::work::WorkId;

/// Deliveries come from several sides; each does its work when its turn comes.
pub fn one_at_a_time_in_the_order_of_arrival() {
    let turns = std::sync::Arc::new(Turns::default());
    let key = WorkId(1);
    let held = turns.queue(&WorkId(2));
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let served = Arc::new(Mutex::new(Vec::new()));
    let busy = Arc::new(AtomicBool::new(false));
    let deliveries: Vec<_> = (0..3)
        .map(|number| {
            let (turns, key) = (std::sync::Arc::clone(&turns), key.clone());
            let (arrived, served, busy) = (Arc::clone(&arrived), Arc::clone(&served), Arc::clone(&busy));
            thread::spawn(move || {
                let mut turn = {
                    let mut arrived = arrived.lock().unwrap();
                    arrived.push(number);
                    turns.queue(&key)
                };
                block_on(turn.come());
                assert!(!busy.swap(true, Ordering::SeqCst), "two have the same key");
                thread::yield_now();
                served.lock().unwrap().push(number);
                busy.store(false, Ordering::SeqCst);
            })
        })
        .collect();
    for delivery in deliveries {
        delivery.join().unwrap();
    }
    assert_eq!(*served.lock().unwrap(), *arrived.lock().unwrap());
    drop(held);
}

/// A delivery that is given up while it waits passes its turn on, also if the turn comes just then.
pub fn who_gives_up_takes_no_turn_along() {
    let turns = std::sync::Arc::new(Turns::default());
    let key = WorkId(1);
    let first = turns.queue(&key);
    let second = turns.queue(&key);
    let mut third = turns.queue(&key);
    let ends = thread::spawn(move || drop(first));
    let gives_up = thread::spawn(move || drop(second));
    let waits = thread::spawn(move || block_on(third.come()));
    for it in [ends, gives_up, waits] {
        it.join().unwrap();
    }
    // The key is idle, and so free at once.
    let mut again = turns.queue(&key);
    block_on(again.come());
}
