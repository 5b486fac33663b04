//! Each planted fault, and the cases that find it.

use ferrokit_conformance::{Machine, cases, check_case};

use crate::{Fault, JournalFactory};

/// How often a case whose find depends on how threads interleave may run until it finds.
const RUNS_MAX: usize = 50;

/// Asserts that each of these cases passes on the whole engine and fails on the broken one.
fn assert_found(fault: Fault, found_by: &[(&'static ferrokit_conformance::Group, &str)]) {
    for (group, name) in found_by {
        let whole = check_case(JournalFactory(None), Machine::Sim, group, name);
        assert_eq!(whole, Ok(()), "{}::{name} fails on the whole engine", group.name);
        let races = ["concurrency", "linearizability"].contains(&group.name);
        let finds = |_| check_case(JournalFactory(Some(fault)), Machine::Sim, group, name).is_err();
        let is_found = (0..if races { RUNS_MAX } else { 1 }).any(finds);
        assert!(is_found, "{}::{name} does not find {fault:?}", group.name);
    }
}

macro_rules! mutants {
    ($($test:ident: $fault:ident by $($group:ident :: $case:ident),+;)*) => {
        $(
            #[test]
            fn $test() {
                assert_found(Fault::$fault, &[$((&cases::$group::GROUP, stringify!($case))),+]);
            }
        )*
    };
}

mutants! {
    a_skipped_sync_is_found: SyncSkipped by
        durability::a_synced_write_survives_a_power_cut, crash::a_power_cut_at_every_io;
    a_delayed_write_is_found: WriteDelayed by
        durability::an_os_write_survives_the_process,
        crash::a_death_of_the_process_at_every_io;
    a_split_batch_is_found: BatchSplit by
        durability::a_batch_is_whole_wherever_it_is_cut, crash::a_power_cut_at_every_io;
    a_batch_seen_half_is_found: BatchSeenHalf by
        concurrency::a_batch_is_seen_whole_by_get_many,
        concurrency::a_batch_is_seen_whole_by_scans;
    a_dropped_tombstone_is_found: TombstoneDropped by
        durability::deleted_keys_stay_away, model::random_sequences_with_reopening;
    an_uncovered_older_version_is_found: ExpiredUncovers by
        ttl::the_expired_does_not_uncover_it_after_reopening;
    expiry_ignored_in_scans_is_found: ExpiryIgnoredInScans by
        ttl::scans_skip_the_expired, model::random_sequences;
    a_forgotten_clock_is_found: ClockForgotten by
        ttl::a_clock_that_steps_back_at_reopening_revives_nothing;
    an_unchecked_checksum_is_found: ChecksumUnchecked by
        errors::a_flipped_bit_is_never_believed;
    a_commit_dropped_with_its_caller_is_found: CommitByCaller by
        cancellation::a_dropped_put_happened_or_not,
        cancellation::the_followers_of_a_dropped_leader_commit;
    a_read_that_does_not_wait_is_found: ReadTooEarly by
        durability::a_read_shows_only_what_is_durable;
    a_forgotten_failure_is_found: PoisonForgotten by
        durability::a_failed_sync_poisons, faults::a_lost_sync_at_every_write;
    a_lost_update_is_found: UpdateLost by
        concurrency::counters_lose_nothing, linearizability::updates_of_one_key;
    a_stale_read_is_found: StaleRead by
        linearizability::reads_and_writes_of_hot_keys, concurrency::a_key_never_goes_back;
    a_sweep_that_misses_is_found: SweepMisses by
        sweep::what_is_overwritten_meanwhile_is_visited;
    a_believed_torn_tail_is_found: TornTailBelieved by
        crash::a_power_cut_at_every_io;
    a_wrong_existed_is_found: ExistedWrong by
        point::existence_is_told_when_asked, model::random_sequences;
    a_torn_batched_read_is_found: BatchedReadTorn by
        concurrency::a_batch_is_seen_whole_by_get_many;
}
