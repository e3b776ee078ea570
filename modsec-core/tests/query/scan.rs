//! A scan hands out what memory hands out, in the same order.

use modsec_core::query::{Answer, Query, Question, Scanned};
use modsec_core::store::StoreError;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

/// All transactions of a scan. Numbers are left out, as each place has its own.
pub(crate) async fn scan(
    query: &mut dyn Query,
    question: &Question,
) -> Result<(Answer<u64>, Vec<Scanned>), StoreError> {
    let mut seen: Vec<Scanned> = Vec::new();
    let mut visit = |scanned: &Scanned| {
        let mut scanned = scanned.clone();
        scanned.number = 0;
        seen.push(scanned);
    };
    let answer = query.scan(question, &mut visit).await?;
    Ok((answer, seen))
}

pub(crate) async fn compare(
    memory: &mut dyn Query,
    stored: &mut dyn Query,
    question: &Question,
) -> Result<(), TestCaseError> {
    let want = scan(memory, question).await.unwrap();
    let got = scan(stored, question)
        .await
        .map_err(|e| super::failed(&e))?;
    prop_assert_eq!(got, want, "{} {:?}", question.filter, question);
    Ok(())
}
