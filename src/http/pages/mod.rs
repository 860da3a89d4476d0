//! The console's pages: view models here, HTML in the templates beside them.
//!
//! A page is whole without its script, which only draws it again now and then and follows the pointer
//! over charts. Every text that a user chose goes through askama's escaping: no template uses `safe`.

mod group;
mod kafka;
mod overview;
mod records;
mod topics;

use askama::Template;
use axum::http::StatusCode;

pub use group::{group, groups};
pub use kafka::kafka;
pub use overview::overview;
pub use records::records;
pub use topics::{topic, topics};

use super::{backend::Backend, limits, problem::Problem, query::encoded, units};

/// What every page has around its content.
struct Shell {
    title: String,
    section: Section,
    broker: u64,
    version: &'static str,
    /// When it was drawn.
    now: String,
    /// How often it is drawn again; 0: never.
    refresh_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Overview,
    Topics,
    Groups,
    Kafka,
    None,
}

struct Link {
    name: &'static str,
    href: &'static str,
    is_current: bool,
}

impl Shell {
    fn new<B: Backend>(backend: &B, section: Section, title: impl Into<String>, refresh_s: u32) -> Shell {
        Shell {
            title: title.into(),
            section,
            broker: backend.id().0,
            version: env!("CARGO_PKG_VERSION"),
            now: units::time_of_day(backend.now()),
            refresh_s,
        }
    }

    fn links(&self) -> [Link; 4] {
        let link = |name, href, section| Link { name, href, is_current: self.section == section };
        [
            link("Overview", "/", Section::Overview),
            link("Topics", "/topics", Section::Topics),
            link("Groups", "/groups", Section::Groups),
            link("Kafka", "/kafka", Section::Kafka),
        ]
    }
}

/// Which rows of a long table a page shows.
struct Pager {
    text: String,
    previous: Option<String>,
    next: Option<String>,
}

impl Pager {
    /// `base`: a link that already has a query. The rows are `first..first + rows` of `total`.
    fn new(base: &str, first: usize, rows: usize, total: usize) -> Pager {
        let link = |first: usize| format!("{base}&first={first}");
        Pager {
            text: format!("{} to {} of {total}", first + 1, first + rows),
            previous: (first > 0).then(|| link(first.saturating_sub(limits::ROWS_MAX))),
            next: (first + rows < total).then(|| link(first + rows)),
        }
    }

    fn is_needed(&self) -> bool {
        self.previous.is_some() || self.next.is_some()
    }
}

/// The part of a list that a page shows, and the number of its first element.
fn window<T>(all: &[T], first: usize, rows_max: usize) -> (usize, &[T]) {
    let first = if first < all.len() { first } else { 0 };
    (first, &all[first..all.len().min(first + rows_max)])
}

fn rendered(template: impl Template) -> Result<String, Problem> {
    template.render().map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

#[derive(Template)]
#[template(path = "problem.html", config = "src/http/askama.toml")]
struct ProblemPage {
    shell: Shell,
    heading: &'static str,
    message: String,
}

/// The page that stands in for one that cannot be shown.
pub fn problem<B: Backend>(backend: &B, problem: &Problem) -> String {
    let heading = match problem.status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::BAD_REQUEST => "That cannot be shown",
        _ => "Not available now",
    };
    let page = ProblemPage {
        shell: Shell::new(backend, Section::None, heading, 0),
        heading,
        message: problem.message.clone(),
    };
    // Text is all that can be left to say when not even this page renders.
    page.render().unwrap_or_else(|_| heading.to_string())
}

/// The name's place in a list: what was typed, in any case.
fn is_found(name: &str, find: &str) -> bool {
    find.is_empty() || name.to_lowercase().contains(&find.to_lowercase())
}

/// Where a partition's records are browsed.
fn records_href(topic: &str, partition: i32) -> String {
    format!("/records?topic={}&partition={partition}", encoded(topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pager_leads_through_all_rows() {
        let all: Vec<usize> = (0..250).collect();
        let (first, rows) = window(&all, 100, limits::ROWS_MAX);
        let pager = Pager::new("/topics?find=", first, rows.len(), all.len());
        assert_eq!((pager.text.as_str(), rows[0]), ("101 to 200 of 250", 100));
        assert_eq!(pager.previous.as_deref(), Some("/topics?find=&first=0"));
        assert_eq!(pager.next.as_deref(), Some("/topics?find=&first=200"));
        let (first, rows) = window(&all, 200, limits::ROWS_MAX);
        assert_eq!((Pager::new("", first, rows.len(), all.len()).next, rows.len()), (None, 50));
        assert_eq!(window(&all, usize::MAX, 10), (0, &all[..10]), "a place that is gone is the start");
        assert!(!Pager::new("", 0, 3, 3).is_needed());
    }
}
