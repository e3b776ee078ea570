//! A scan: one statement, its rows as they come.

use std::time::Instant;

use super::statement::Statement;
use super::{SqlQuery, deadline, decode};
use crate::query::scan::Visit;
use crate::query::{Answer, Question};
use crate::store::StoreError;

impl SqlQuery {
    /// Calls `visit` with each transaction of a known time, oldest first, and returns how many there
    /// were. Of the one whose rows the deadline cuts off, nothing is seen.
    pub(super) async fn visit_all(
        &mut self,
        question: &Question,
        visit: &mut Visit<'_>,
    ) -> Result<Answer<u64>, StoreError> {
        question.check()?;
        let deadline = deadline(question);
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Answer::late(0, None));
        }
        let (sql, params) = self.checked(Statement::scan(self.0.dialect(), question))?;
        let mut scan = decode::Scan::default();
        let mut see = |row| scan.row(row, &mut *visit);
        if !self.0.each_row(sql, params, deadline, &mut see).await? {
            return Ok(Answer::late(scan.seen, scan.reached));
        }
        scan.end(visit);
        Ok(Answer::complete(scan.seen))
    }
}
