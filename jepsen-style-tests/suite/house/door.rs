//! Whoever asks the broker for something says who it is: every public method of `Broker` that waits or may fail takes
//! a `Caller`, so that there is one place to tell what somebody may.

/// What a face asks for itself, and no client through it.
const OF_THE_FACE: &[&str] = &["start", "reserve_produce", "failed", "shutdown"];

/// `ships`: the code of a file without tests and prose.
pub fn without_caller(path: &str, ships: &str) -> Vec<(usize, String)> {
    if !path.starts_with("src/broker/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, _) in ships.match_indices("\nimpl Broker {") {
        let block = &ships[at..];
        let block = &block[..block.find("\n}").unwrap_or(block.len())];
        for (start, _) in block.match_indices("    pub ") {
            let signature = block[start..].split(" {").next().unwrap_or_default();
            let Some((_, rest)) = signature.split_once("fn ") else { continue };
            let name = rest.split('(').next().unwrap_or_default();
            let asks = signature.contains("async fn") || signature.contains("-> Result");
            if asks && !signature.contains("&Caller") && !OF_THE_FACE.contains(&name) {
                let line = ships[..at + start].lines().count();
                found.push((line, format!("Broker::{name} takes no Caller: who asks?")));
            }
        }
    }
    found
}
