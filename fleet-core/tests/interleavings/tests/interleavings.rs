//! Each model in so many orders of steps: at random, and so that few threads are preferred over long times, which finds what
//! needs a rare order (PCT).

use fleet_interleavings::{clusters, engine};

const ORDERS: usize = 1_000;

fn in_many_orders(model: fn()) {
    shuttle::check_random(model, ORDERS);
    shuttle::check_pct(model, ORDERS, 3);
}

#[test]
fn turns_come_one_at_a_time_in_the_order_of_arrival() {
    in_many_orders(engine::order::one_at_a_time_in_the_order_of_arrival);
}

#[test]
fn who_gives_up_takes_no_turn_along() {
    in_many_orders(engine::order::who_gives_up_takes_no_turn_along);
}

#[test]
fn no_change_is_missed() {
    in_many_orders(engine::lanes::no_change_is_missed);
}

#[test]
fn the_last_worker_misses_nothing() {
    in_many_orders(engine::lanes::the_last_worker_misses_nothing);
}

#[test]
fn what_finds_no_room_is_brought_in() {
    in_many_orders(engine::lanes::what_finds_no_room_is_brought_in);
}

#[test]
fn a_cluster_that_comes_back_is_caught_up_with() {
    in_many_orders(engine::lanes::a_cluster_that_comes_back_is_caught_up_with);
}

#[test]
fn a_subscriber_misses_nothing() {
    in_many_orders(clusters::a_subscriber_misses_nothing);
}
