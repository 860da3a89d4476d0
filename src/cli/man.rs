//! The manual pages, one a command, made from what its help says, so that they cannot say anything else.

use std::{collections::BTreeMap, io, path::Path};

use super::{exit::Failure, files::write_whole, global::WITHOUT_GLOBALS};

/// The text of each page by the name of its file.
type Pages = BTreeMap<String, Vec<u8>>;

/// Writes a page for every command that help shows.
pub fn write_all(command: clap::Command, directory: &Path) -> Result<(), Failure> {
    let pages = pages(command).map_err(|error| Failure::failed(format!("cannot make manual pages: {error}")))?;
    pages.iter().try_for_each(|(name, page)| write_whole(&directory.join(name), page))
}

fn pages(command: clap::Command) -> io::Result<Pages> {
    let mut command = command.disable_help_subcommand(true);
    // Taken out before clap hands the flags of clients down.
    let alone: Vec<clap::Command> = WITHOUT_GLOBALS
        .iter()
        .map(|name| command.find_subcommand(name).cloned().expect("there is such a command"))
        .map(|alone| {
            let name = alone.get_name().to_string();
            alone.display_name(format!("flotilla-{name}")).bin_name(format!("flotilla {name}"))
        })
        .collect();
    command.build();
    let mut pages = Pages::new();
    add(&command, &mut pages)?;
    alone.iter().try_for_each(|command| add(command, &mut pages))?;
    Ok(pages)
}

fn add(command: &clap::Command, pages: &mut Pages) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    pages.insert(page.get_filename(), text);
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.into_iter().try_for_each(|command| add(command, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_says_what_its_help_says() {
        let pages = pages(super::super::command()).expect("they are made");
        let text = |name: &str| {
            let page = pages.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", pages.keys()));
            String::from_utf8(page.clone()).expect("text")
        };
        assert!(text("flotilla.1").contains("produce(1)"), "{}", text("flotilla.1"));
        assert!(text("flotilla-produce.1").contains("receipts"), "{}", text("flotilla-produce.1"));
        assert!(text("flotilla-group-seek.1").contains("dry"), "{}", text("flotilla-group-seek.1"));
        let server = text("flotilla-server.1");
        assert!(server.contains("data\\-dir") && !server.contains("\\-\\-brokers"), "{server}");
        let chaos = text("flotilla-chaos.1");
        assert!(chaos.contains("flotilla chaos \\-\\-help") && !chaos.contains("\\-\\-brokers"), "{chaos}");
        assert!(!pages.contains_key("flotilla-man.1") && !pages.contains_key("flotilla-help.1"), "{:?}", pages.keys());
        assert!(pages.len() > 25, "{:?}", pages.keys());
    }
}
