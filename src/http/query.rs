//! What stands behind the `?`: few names, short values, and a sentence for whatever is not understood.

use std::collections::BTreeMap;

use super::{limits, problem::Problem, records::Wanted, units};
use crate::{
    broker::BrowseFrom,
    types::{BrokerId, Offset, PartitionId},
};

/// The query of one request. A name that occurs twice keeps its last value; unknown ones are ignored.
pub struct Query(BTreeMap<String, String>);

impl Query {
    pub fn new(pairs: BTreeMap<String, String>) -> Query {
        Query(pairs)
    }

    /// A value; forms send empty ones for fields that were left empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub fn required(&self, name: &str) -> Result<&str, Problem> {
        // As it is: names of groups may have blanks around them.
        let value = self.0.get(name).map(String::as_str).filter(|value| !value.is_empty());
        value.ok_or_else(|| Problem::bad(format!("{name:?} is missing: write ?{name}=...")))
    }

    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Problem::bad(format!("{name:?} is {text:?}, not a number in its range")))
    }

    /// The row that a table begins with.
    pub fn first(&self) -> Result<usize, Problem> {
        Ok(self.number("first")?.unwrap_or(0))
    }

    pub fn node(&self) -> Result<Option<BrokerId>, Problem> {
        Ok(self.number("node")?.map(BrokerId))
    }

    /// A page of records: `topic`, `partition`, and one of `offset`, `time` and `from=start|end`.
    pub fn records(&self) -> Result<Wanted, Problem> {
        let topic = self.required("topic")?.to_string();
        let partition = PartitionId(self.number("partition")?.unwrap_or(0));
        let limit: u32 = self.number("limit")?.unwrap_or(limits::RECORDS_DEFAULT);
        if !(1..=limits::RECORDS_MAX).contains(&limit) {
            return Err(Problem::bad(format!("\"limit\" is {limit}; it must be 1 to {}", limits::RECORDS_MAX)));
        }
        let from = match (self.number("offset")?, self.text("time"), self.text("from")) {
            (Some(offset), None, None) => BrowseFrom::Offset(Offset(offset)),
            (None, Some(time), None) => BrowseFrom::Time(units::parse_time(time).ok_or_else(|| {
                Problem::bad(format!("\"time\" is {time:?}: write for example 2026-11-24T12:00:00Z or milliseconds"))
            })?),
            (None, None, Some("start")) => BrowseFrom::Start,
            (None, None, Some("end") | None) => BrowseFrom::BeforeEnd(limit),
            (None, None, Some(other)) => {
                return Err(Problem::bad(format!("\"from\" is {other:?}: write start or end")));
            }
            (Some(_), _, _) | (None, Some(_), Some(_)) => {
                return Err(Problem::bad("give one of offset, time and from, not several"));
            }
        };
        Ok(Wanted { topic, partition, from, limit })
    }
}

/// Percent-encoded for a query's value: whatever is not a letter, a digit or one of `-._~`.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WallMs;

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query::new(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    fn from(pairs: &[(&str, &str)]) -> Result<BrowseFrom, Problem> {
        query(&[&[("topic", "t")], pairs].concat()).records().map(|wanted| wanted.from)
    }

    #[test]
    fn a_page_begins_where_it_is_asked_to() {
        assert_eq!(from(&[]), Ok(BrowseFrom::BeforeEnd(50)));
        assert_eq!(from(&[("from", "end"), ("limit", "5")]), Ok(BrowseFrom::BeforeEnd(5)));
        assert_eq!(from(&[("from", "start"), ("offset", "")]), Ok(BrowseFrom::Start));
        assert_eq!(from(&[("offset", " 7 ")]), Ok(BrowseFrom::Offset(Offset(7))));
        assert_eq!(from(&[("time", "1970-01-01T00:00:02")]), Ok(BrowseFrom::Time(WallMs(2_000))));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (pairs, named) in [
            (&[("offset", "x")][..], "\"x\""),
            (&[("offset", "99999999999999999999")], "9999"),
            (&[("time", "noon")], "\"noon\""),
            (&[("from", "middle")], "\"middle\""),
            (&[("offset", "1"), ("time", "2")], "one of"),
            (&[("partition", "-x")], "partition"),
            (&[("limit", "0")], "limit"),
            (&[("limit", "501")], "501"),
        ] {
            let problem = from(pairs).expect_err(named);
            assert!(problem.message.contains(named) && problem.status == 400, "{pairs:?}: {problem:?}");
        }
        assert!(query(&[]).records().is_err());
        assert_eq!(from(&[("limit", "500")]), Ok(BrowseFrom::BeforeEnd(500)));
    }

    #[test]
    fn names_survive_a_query() {
        assert_eq!(encoded("a b&c=d/ä?#%"), "a%20b%26c%3Dd%2F%C3%A4%3F%23%25");
    }
}
