//! Evidence: a statement for the counts, and one for each spot of which clients did nothing else.

use super::statement::Statement;
use super::{SqlQuery, deadline, decode};
use crate::query::{Answer, Evidence, Question, Spot};
use crate::store::StoreError;

impl SqlQuery {
    /// Returns the evidence about one spot, or about the `most` with the most clients; none if the
    /// deadline passes before all of it is known.
    pub(super) async fn evidence_of(
        &mut self,
        question: &Question,
        spot: Option<&Spot>,
        most: usize,
    ) -> Result<Answer<Option<Vec<Evidence>>>, StoreError> {
        question.check()?;
        let deadline = deadline(question);
        let dialect = self.0.dialect();
        let statement = Statement::evidence(dialect, question, spot, most);
        let make = |cells| Some(decode::evidence(cells));
        let mut answer = self.ask(statement, deadline, make).await?;
        for evidence in answer.value.iter_mut().flatten() {
            let statement = Statement::lone_clients(dialect, question, &evidence.spot);
            let lone = self.ask(statement, deadline, decode::number).await?;
            if !lone.is_complete {
                return Ok(Answer::late(None, None));
            }
            evidence.lone_clients = lone.value;
        }
        Ok(answer)
    }
}
