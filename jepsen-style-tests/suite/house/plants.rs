//! Seeded bugs: each has a place in the code, and no release can have one.

use std::fs;

use super::{root, sources};

const TABLE: &str = "src/seam/plant.rs";

/// The variants of the table.
fn plants(table: &str) -> Vec<&str> {
    let rows = table.lines().filter(|line| line.contains(" breaks \"") && line.trim_end().ends_with(';'));
    rows.filter_map(|row| row.trim().split_once(" = ")).map(|(plant, _)| plant).collect()
}

fn table() -> String {
    fs::read_to_string(root().join(TABLE)).unwrap_or_else(|error| panic!("{TABLE}: {error}"))
}

#[test]
fn every_plant_has_a_place_in_the_code() {
    let (table, sources) = (table(), sources());
    let plants = plants(&table);
    assert!(plants.len() >= 20, "only {} plants", plants.len());
    let code: Vec<&str> = sources
        .iter()
        .filter(|(path, _)| path.starts_with("src/") && path != TABLE)
        .map(|(_, text)| text.as_str())
        .collect();
    let asks = |text: &&&str, plant: &str| text.contains(&format!("plant::on(Plant::{plant})"));
    let homeless: Vec<_> = plants.iter().filter(|plant| !code.iter().any(|text| asks(&text, plant))).collect();
    assert!(homeless.is_empty(), "nobody asks whether these are planted: {homeless:?}");
}

/// A release has no debug assertions; and nobody gets the feature without asking for it.
#[test]
fn no_release_has_a_plant() {
    let refusal = "#[cfg(all(feature = \"seeded-bugs\", not(debug_assertions)))]\ncompile_error!(";
    assert!(table().contains(refusal), "{TABLE} refuses no build without debug assertions");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let default = manifest.lines().find(|line| line.starts_with("default = ")).expect("default features");
    assert!(!default.contains("seeded-bugs"), "{default}");
    let release = manifest.split("[profile.release]").nth(1).expect("a release profile");
    assert!(!release.contains("debug-assertions"), "a release with debug assertions could have plants");
}
