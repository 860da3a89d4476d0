//! A group or a member that is not there, and where those that are can be seen.

use crate::{
    cli::exit::Failure,
    client::{ClientError, ErrorCode},
};

/// A failure that says where groups are listed, if there is no such group.
pub fn no_group(to_failure: impl Fn(ClientError) -> Failure, error: ClientError) -> Failure {
    let is_unknown = error.code() == Some(ErrorCode::UnknownGroup);
    let mut failure = to_failure(error);
    if is_unknown {
        failure.message.push_str("; `flotilla group list` shows those that do");
    }
    failure
}

pub fn no_member(group: &str, error: ClientError) -> Failure {
    match error.code() {
        Some(ErrorCode::UnknownMember) => Failure::not_found(format!(
            "group {group} has no such member; `flotilla group describe {group} --members` shows those that it has"
        )),
        Some(_) | None => Failure::from(error),
    }
}
