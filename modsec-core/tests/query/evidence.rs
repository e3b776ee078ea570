//! Evidence of all spots, and of each by itself.

use modsec_core::query::{Query, Question, Spot};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

pub(crate) async fn compare(
    memory: &mut dyn Query,
    stored: &mut dyn Query,
    question: &Question,
) -> Result<(), TestCaseError> {
    for most in [2, 100] {
        let want = memory.candidates(question, most).await.unwrap();
        let got = stored.candidates(question, most).await;
        let got = got.map_err(|e| super::failed(&e))?;
        prop_assert_eq!(&got, &want, "{} {:?}", question.filter, question);
        for evidence in want.value.unwrap() {
            let one = stored.evidence(question, &evidence.spot).await;
            let one = one.map_err(|e| super::failed(&e))?;
            prop_assert_eq!(one.value.unwrap(), evidence);
        }
    }
    let nowhere = Spot::new("no rule");
    let want = memory.evidence(question, &nowhere).await.unwrap();
    let got = stored.evidence(question, &nowhere).await;
    prop_assert_eq!(got.map_err(|e| super::failed(&e))?, want);
    Ok(())
}
