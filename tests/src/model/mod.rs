//! Random sequences of operations against the reference: the answers of the engine are those of a
//! map. Failing sequences are shrunk; the smallest one is printed with the seed.
//!
//! A sequence that once failed is kept as a named case beside these.

mod ops;
mod reference;
mod run;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

pub(crate) use ops::{Features, Step, sequences};
pub(crate) use run::Run;

use crate::case::group;
use crate::lab::Lab;

group! { model, __suite_model:
    random_sequences,
    random_sequences_with_reopening: Durable,
    random_sequences_with_crashes: Synced | Simulated,
    random_sequences_with_snapshots: Snapshots,
    random_sequences_with_transactions: Transactions,
    random_sequences_with_everything: Synced | Simulated,
}

/// Runs random sequences with these features until one fails or all have passed.
fn check(lab: &Lab, features: Features) {
    let config = Config {
        cases: lab.random_cases(),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&lab.seed().to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&sequences(features).boxed(), |steps| {
        let options = lab.default_options();
        let mut run = Run::new(lab.open_with(&options, lab.seed()), lab.seed());
        run.all(&steps).map_err(TestCaseError::fail)?;
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => panic!(
            "{}: {reason}\nFERROKIT_SEED={}, the smallest sequence that fails:\n{steps:#?}",
            lab.title(),
            lab.seed()
        ),
        Err(TestError::Abort(reason)) => panic!("{}: gave up: {reason}", lab.title()),
    }
}

fn random_sequences(lab: &Lab) {
    check(lab, Features::default());
}

fn random_sequences_with_reopening(lab: &Lab) {
    check(lab, Features { reopen: true, ..Features::default() });
}

fn random_sequences_with_crashes(lab: &Lab) {
    check(lab, Features { reopen: true, crash: true, ..Features::default() });
}

fn random_sequences_with_snapshots(lab: &Lab) {
    check(lab, Features { snapshots: true, ..Features::default() });
}

fn random_sequences_with_transactions(lab: &Lab) {
    check(lab, Features { transactions: true, ..Features::default() });
}

fn random_sequences_with_everything(lab: &Lab) {
    let facts = lab.capabilities();
    let features = Features {
        reopen: true,
        crash: true,
        snapshots: facts.snapshots,
        transactions: facts.transactions.is_some(),
    };
    check(lab, features);
}
