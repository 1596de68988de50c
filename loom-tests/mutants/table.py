"""The mutants: (file under runtime/src, text that occurs once, the part of it that changes, what it becomes, killer).

The killer is `test file::name` in loom-tests/tests. The part must be an expression or a whole statement; both forms are
compiled into one build and chosen when a model runs, so an empty mutant drops the statement."""

MUTANTS = [
    # ---- the state word
    ("task/state.rs", "let mut bits = self.0.load(Acquire);\n        if bits >= WAKES_HALF", "self.0.load(Acquire)", "self.0.load(Relaxed)", "task_state::what_was_done_before_a_wake_is_seen_by_a_poll_that_answers_it"),
    ("task/state.rs", "let prev = self.0.fetch_add(WAKE, AcqRel);", "AcqRel", "Relaxed", "task_state::what_was_done_before_a_wake_by_reference_is_seen_too"),
    ("task/state.rs", "            let new = bits - start.wakes;", "bits - start.wakes", "bits & !WAKES", "task_state::a_wake_by_value_brings_one_further_poll"),
    ("task/state.rs", "let (out, new) = if new & WAKES != 0 {\n                (OnPollEnd::Reschedule", "new & WAKES != 0", "false", "task_state::a_wake_by_value_brings_one_further_poll"),
    ("task/state.rs", "            } else if Bits(new).is_unwakeable() {\n                (OnPollEnd", "Bits(new).is_unwakeable()", "false", "unwakeable::a_waker_dropped_during_the_poll_is_said_at_one_edge_or_the_other"),
    ("task/state.rs", "            if Bits(new).is_unwakeable() {\n                (OnWakerDrop", "Bits(new).is_unwakeable()", "false", "unwakeable::the_last_of_two_wakers_dropped_says_it_once"),
    ("task/state.rs", "            } else if Bits(new).is_stuck() {\n                (OnWakerDrop", "Bits(new).is_stuck()", "false", "grace::the_last_waker_dropped_during_the_grace_ends_it"),
    ("task/state.rs", "            } else if Bits(new).is_stuck() {\n                (OnPollEnd", "Bits(new).is_stuck()", "false", "grace::the_last_waker_dropped_during_the_grace_ends_it"),
    ("task/state.rs", "        prev & WAKES != WAKE\n    }", "prev & WAKES != WAKE", "false", "unwakeable::a_cancel_at_the_edge_still_ends_the_task"),
    ("task/state.rs", "let (out, new) = if bits & JOINER == 0 {\n                (OnComplete", "bits & JOINER == 0", "true", "task_state::the_joiner_is_woken_or_finds_the_output"),
    ("task/state.rs", "            let bits = if registered { Bits(seen).with_spare() } else { seen };", "registered", "false", "unwakeable::an_own_registration_that_fires_is_never_a_gap"),
    ("task/state.rs", "compare_exchange_weak(bits, new, AcqRel, Acquire)", "AcqRel", "Relaxed", "task_state::the_joiner_is_woken_or_finds_the_output"),
    ("task/state.rs", "            } else if bits & WAKES == 0 {\n                (OnWake::Enqueue, Some((bits | flags) + WAKE))", "bits & WAKES == 0", "false", "tree::a_child_that_links_while_the_scope_is_cancelled_is_dropped"),
    # ---- idle
    ("scheduler/idle.rs", "either the sleeper sees what was pushed, or we see it asleep.\n        fence(SeqCst);", "fence(SeqCst);", "", "runtime::a_task_from_outside_is_run_though_nothing_else_wakes_the_worker"),
    ("scheduler/idle.rs", "// Pairs with the fence in `to_wake_from_outside`.\n        fence(SeqCst);", "fence(SeqCst);", "", "runtime::a_task_from_outside_is_run_though_nothing_else_wakes_the_worker"),
    ("scheduler/idle.rs", "        self.word.fetch_sub(SLEEPING - SEARCHING, SeqCst);\n        Some(worker)", "self.word.fetch_sub(SLEEPING - SEARCHING, SeqCst);", "", "idle::two_workers_run_all_that_is_pushed_and_both_hear_of_the_shutdown"),
    ("scheduler/idle.rs", "position(|&sleeper| sleeper == worker)", "sleeper == worker", "false", "idle::the_word_and_the_list_change_together"),
    ("scheduler/idle.rs", "        if sleepers.watcher == Some(worker) {\n            sleepers.watcher = None;\n            sub += WATCHED;", "sleepers.watcher == Some(worker)", "false", "idle::the_word_and_the_list_change_together"),
    ("scheduler/idle.rs", "let last = Word(self.word.fetch_sub(SEARCHING, SeqCst)).searching() == 1;", "Word(self.word.fetch_sub(SEARCHING, SeqCst)).searching() == 1", "Word(self.word.fetch_sub(SEARCHING, SeqCst)).searching() == 0", "idle::the_last_searcher_that_finds_work_wakes_another"),
    ("scheduler/idle.rs", "if word.sleeping() == 0 || word.searching() > 0 {", "word.sleeping() == 0", "true", "runtime::a_task_from_outside_is_run_though_nothing_else_wakes_the_worker"),
    ("scheduler/idle.rs", "let sub = if searching.is_some() { SEARCHING } else { 0 };", "searching.is_some()", "false", "idle::the_word_and_the_list_change_together"),
    # ---- park
    ("scheduler/park.rs", "drop(self.lock.lock().unwrap_or_else(|e| e.into_inner()));\n", "drop(self.lock.lock().unwrap_or_else(|e| e.into_inner()));", "", "idle::what_was_done_before_an_unpark_is_seen_after_the_park"),
    ("scheduler/park.rs", "match self.state.swap(NOTIFIED, AcqRel) {", "AcqRel", "Relaxed", "idle::what_was_done_before_an_unpark_is_seen_after_the_park"),
    ("scheduler/park.rs", "                if self.state.load(Acquire) == NOTIFIED {", "self.state.load(Acquire) == NOTIFIED", "false", "idle::what_was_done_before_an_unpark_is_seen_after_the_park"),
    ("scheduler/park.rs", "if self.state.compare_exchange(EMPTY, DRIVER, AcqRel, Acquire).is_ok() {", "self.state.compare_exchange(EMPTY, DRIVER, AcqRel, Acquire).is_ok()", "self.state.compare_exchange(EMPTY, DRIVER, AcqRel, Acquire).is_ok() || true", "idle::an_unpark_reaches_who_goes_into_the_driver_whoever_looks_into_it_meanwhile"),
    ("scheduler/park.rs", "            DRIVER => driver(),", "driver()", "()", "idle::an_unpark_reaches_who_goes_into_the_driver_whoever_looks_into_it_meanwhile"),
    # ---- worker and shared
    ("scheduler/worker.rs", "!self.shared.injector.is_empty() || self.must_heed_phase() || self.shared.has", "!self.shared.injector.is_empty()", "false", "runtime::a_task_from_outside_is_run_though_nothing_else_wakes_the_worker"),
    ("scheduler/worker.rs", "                if context::has_handed_over() {", "context::has_handed_over()", "false", "runtime::a_worker_that_blocks_in_place_hands_its_role_over"),
    ("scheduler/shared.rs", "        self.injector.push(task);\n        if let Some(worker) = self.idle.to_wake_from_outside() {", "self.idle.to_wake_from_outside()", "None", "runtime::a_task_from_outside_is_run_though_nothing_else_wakes_the_worker"),
    ("scheduler/shared.rs", "        for worker in 0..self.remotes.len() {\n            self.unpark(worker);", "self.unpark(worker);", "", "runtime::a_task_from_outside_is_run_by_a_worker_that_goes_to_sleep"),
    ("scheduler/context.rs", "        context.worker.set(ptr::null());\n        context.handed_over.set(true);", "context.handed_over.set(true);", "", "runtime::a_worker_that_blocks_in_place_hands_its_role_over"),
    ("scheduler/blocking.rs", "        self.lock().shutdown = true;\n        self.work.notify_all();", "self.work.notify_all();", "", "runtime::a_blocking_call_against_the_shutdown_is_run_or_cancelled"),
    # ---- counts and the tree
    ("scope/count.rs", "            if central == 0 {\n                return None;", "central == 0", "false", "scope_count::an_outsider_gets_in_or_is_refused_but_does_not_revive_the_count"),
    ("scope/count.rs", "let counted = shard.fetch_or(CLOSED, AcqRel).wrapping_sub(BIAS);", "shard.fetch_or(CLOSED, AcqRel)", "shard.load(Acquire)", "scope_count::shards_are_carried_over_whoever_leaves_where"),
    ("scope/count.rs", "        self.central.fetch_sub(carried, AcqRel) == carried\n    }\n\n    /// The scope closes", "self.central.fetch_sub(carried, AcqRel) == carried", "{ self.central.fetch_sub(OPEN, AcqRel); self.central.fetch_sub(carried.wrapping_sub(OPEN), AcqRel) == carried.wrapping_sub(OPEN) }", "scope_count::shards_are_carried_over_whoever_leaves_where"),
    ("scope/count.rs", "        self.central.fetch_sub(carried, AcqRel) == carried\n    }\n\n    /// Whether", "self.central.fetch_sub(carried, AcqRel) == carried", "{ self.central.fetch_sub(KEEPER, AcqRel); self.central.fetch_sub(carried.wrapping_sub(KEEPER), AcqRel) == carried.wrapping_sub(KEEPER) }", "scope_count::the_root_ends_once_when_all_workers_have_retired"),
    ("scope/count.rs", "        if !*closing &&", "!*closing", "true", "scope_count::an_outsider_gets_in_or_is_refused_but_does_not_revive_the_count"),
    ("scope/tree.rs", "        let bound = self.bound();\n        drop(nodes);", "self.bound()", "Bound::Open", "runtime::a_spawn_against_the_shutdown_is_run_or_comes_back_cancelled"),
    ("scope/tree.rs", "            if self.is_over() || !wanted() {", "self.is_over()", "false", "runtime::a_task_from_outside_is_run_by_a_worker_that_goes_to_sleep"),
    ("scope/tree.rs", "                end.waker.take().map(waker::fire),\n                end.then.take(),", "end.waker.take().map(waker::fire)", "None", "runtime::a_task_from_outside_is_run_by_a_worker_that_goes_to_sleep"),
    # ---- sequence counters and records
    ("task/seq.rs", "        fence(Release);", "fence(Release);", "", "seq::a_reader_never_mixes_two_writes"),
    ("task/seq.rs", "self.0.store(version.wrapping_add(2), Release);", "Release", "Relaxed", "seq::a_reader_never_mixes_two_writes"),
    ("task/seq.rs", "            fence(Acquire);", "fence(Acquire);", "", "seq::a_reader_never_mixes_two_writes"),
    ("task/seq.rs", "let version = self.0.load(Acquire);", "Acquire", "Relaxed", "seq::a_reader_never_mixes_two_writes"),
    ("task/seq.rs", "if version % 2 == 0 &&", "version % 2 == 0", "true", "record::the_handles_of_a_channel_are_read_with_their_version"),
    ("task/meta.rs", "            fence(Release);", "fence(Release);", "", "record::a_record_is_read_while_its_task_is_woken_and_parks_again"),
    ("task/meta.rs", "            if !idle() {\n                return None;\n            }\n            let word", "!idle()", "false", "record::a_record_is_read_while_its_task_is_woken_and_parks_again"),
    ("task/meta.rs", "            fence(Acquire);", "fence(Acquire);", "", "record::a_record_is_read_while_its_task_is_woken_and_parks_again"),
    ("task/meta.rs", "self.polls.load(Relaxed) != polls", "self.polls.load(Relaxed) != polls", "false", "record::a_record_is_read_while_its_task_is_woken_and_parks_again"),
    # ---- permits, locks, notifications
    ("sync/permits.rs", "                permits.give_back(self.need, held);", "permits.give_back(self.need, held);", "let _ = held;", "sync::a_waiter_that_leaves_hands_its_permit_on"),
    ("sync/permits.rs", "                let wakes = state.serve(Held::NOTHING);\n                // After that", "state.serve(Held::NOTHING)", "Wakes::default()", "sync::who_wants_many_permits_and_leaves_lets_the_next_one_by"),
    ("sync/permits.rs", "            let wakes = state.waiters.grant_all();\n            state.note_waiters();", "state.waiters.grant_all()", "Vec::new()", "sync::a_semaphore_closed_while_permits_are_given_back_leaves_nobody_waiting"),
    ("sync/mutex/mod.rs", "            raw.unlock();\n        }\n        drop(waker);", "raw.unlock();", "", "sync::a_lock_is_handed_on_by_a_waiter_that_leaves"),
    ("sync/notify.rs", "                Told::First | Told::Last => state.notify(told),", "state.notify(told)", "Wakes::default()", "sync::a_notification_that_was_meant_for_who_leaves_goes_to_another"),
    ("sync/notify.rs", "            None => self.kept = true,", "self.kept = true", "()", "sync::a_notification_that_was_meant_for_who_leaves_goes_to_another"),
    ("sync/notify.rs", "None if state.rounds != self.rounds =>", "state.rounds != self.rounds", "false", "sync::everybody_is_notified_who_asked_before"),
    # ---- channels
    ("sync/mpsc/shared.rs", "        // Granted and not used, or first in line and wanting more than the next: the next may have it.\n        let wakes = state.serve(shared.capacity);", "state.serve(shared.capacity)", "Wakes::default()", "sync::a_sender_that_waits_gets_the_slot_that_a_receiver_frees"),
    ("sync/mpsc/shared.rs", "if !state.full.is_empty() {\n                let wakes", "!state.full.is_empty()", "false", "sync::a_sender_that_waits_gets_the_slot_that_a_receiver_frees"),
    ("sync/mpsc/shared.rs", "                state.ended = true;\n                state.record.set_handles(End::Sender, 0);\n                state.receiver.take().map(waker::fire)", "state.receiver.take().map(waker::fire)", "None", "sync::the_last_sender_that_goes_ends_the_receiver"),
    ("sync/mpsc/shared.rs", "        Ok(self.receiver.take().map(waker::fire))", "self.receiver.take().map(waker::fire)", "None", "sync::a_value_wakes_the_receiver_that_waits"),
    ("sync/mpsc/shared.rs", "(self.closed && self.reserved == 0)", "self.reserved == 0", "true", "sync::the_receiver_of_a_closed_channel_waits_for_its_permits"),
    # ---- timers
    ("driver/mod.rs", "        self.sleeps_to.store(next.unwrap_or(NO_DEADLINE), SeqCst);", "self.sleeps_to.store(next.unwrap_or(NO_DEADLINE), SeqCst);", "", "timers::a_timer_armed_while_somebody_goes_to_sleep_ends_that_sleep"),
    ("driver/mod.rs", "        let key = either!(&mut timers.queue, timers => timers.insert(tick, waker));\n        let sleeps_to = self.sleeps_to.load(SeqCst);\n        drop(timers);\n        if sleeps_to != 0 && tick < sleeps_to {\n            self.unpark();\n        }\n        Some(key)\n    }\n\n    /// Has another", "self.unpark();", "", "timers::a_timer_armed_while_somebody_goes_to_sleep_ends_that_sleep"),
    ("driver/mod.rs", "        if timers.shut_down {", "timers.shut_down", "false", "timers::a_timer_armed_against_the_shutdown_is_refused_or_handed_out"),
    ("driver/mod.rs", "        let old = match either!(&mut timers.queue, timers => timers.waker_mut(key)) {\n            None => return false,", "return false", "return true", "timers::a_timer_fires_once_with_the_waker_it_has_then"),
]
