//! The same operations under different options and on different machines give the same answers.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::case::{group, say};
use crate::factory::Options;
use crate::lab::{Lab, Machine};
use crate::model::{Features, Run, Step, sequences};
use crate::world::{KS, key, value};

group! { metamorphic, __suite_metamorphic:
    every_option_set_answers_alike,
    every_machine_answers_alike,
    options_may_change_at_reopening: Durable,
}

/// The sequences that are compared: drawn once, from the seed.
fn drawn(lab: &Lab, features: Features) -> Vec<Vec<Step>> {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&lab.seed().to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = sequences(features);
    let number = (lab.random_cases() / 3).max(3);
    (0..number)
        .map(|_| strategy.new_tree(&mut runner).unwrap_or_else(|why| panic!("{why}")).current())
        .collect()
}

/// The answers of an engine with these options to a sequence.
fn answers(lab: &Lab, options: &Options, steps: &[Step]) -> Vec<String> {
    let mut run = Run::new(lab.open_with(options, lab.seed()), lab.seed());
    if let Err(why) = run.all(steps) {
        panic!("{} with {options:?}: {why}\nFERROKIT_SEED={}", lab.title(), lab.seed());
    }
    run.world().close();
    std::mem::take(&mut run.trace)
}

fn features(lab: &Lab) -> Features {
    Features { reopen: lab.factory().durable(), ..Features::default() }
}

fn every_option_set_answers_alike(lab: &Lab) {
    let sets = lab.factory().option_sets();
    assert!(!sets.is_empty(), "a factory names at least one set of options");
    for steps in drawn(lab, features(lab)) {
        let first = answers(lab, &sets[0], &steps);
        for options in &sets[1..] {
            assert!(answers(lab, options, &steps) == first, "{options:?} answers otherwise");
        }
    }
}

fn every_machine_answers_alike(lab: &Lab) {
    let sequences = drawn(lab, features(lab));
    let options = lab.default_options();
    let expected: Vec<_> = sequences.iter().map(|steps| answers(lab, &options, steps)).collect();
    for machine in [Machine::Sim, Machine::Threads, Machine::Uring] {
        let other = Lab::new(lab.factory_handle(), machine, "metamorphic".to_owned());
        if let Err(reason) = other.check_machine() {
            say(&format!("{}: {machine:?} not compared: {reason}", lab.title()));
            continue;
        }
        for (steps, expected) in sequences.iter().zip(&expected).take(4) {
            assert!(&answers(&other, &options, steps) == expected, "{machine:?} answers otherwise");
        }
    }
}

fn options_may_change_at_reopening(lab: &Lab) {
    let sets = lab.factory().option_sets();
    let mut world = lab.open_with(&sets[0], lab.seed());
    let mut expected = std::collections::BTreeMap::new();
    for round in 0..sets.len() * 3 {
        for n in 0..60 {
            if (n + round) % 5 == 0 {
                world.delete(&key(n));
                expected.remove(&key(n));
            } else if (n + round) % 5 < 3 {
                world.put(&key(n), &value(round, 20 + n));
                expected.insert(key(n), value(round, 20 + n));
            }
        }
        if round % 2 == 0 {
            world.churn(KS);
        }
        world.close();
        world.open_again_with(&sets[(round + 1) % sets.len()]);
        assert_eq!(world.contents(KS), expected, "round {round}");
    }
}
