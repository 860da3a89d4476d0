//! Addresses as users write them.

/// `host:port` as a user writes it; IPv6 hosts in brackets.
pub(super) fn host_port(text: &str) -> Result<(&str, u16), String> {
    let rule = "write host:port, for example 127.0.0.1:7071";
    let (host, port) = text.rsplit_once(':').ok_or(rule)?;
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    // 253 bytes is the longest host name; metadata bounds addresses.
    if host.is_empty() || host.len() > 253 || bare_v6 || host.contains(|c: char| c.is_whitespace() || c == '@') {
        return Err(rule.to_string());
    }
    let port = port.parse().map_err(|_| format!("the port {port:?} is not a number from 0 to 65535"))?;
    Ok((host, port))
}
