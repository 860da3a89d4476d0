//! DeleteGroups: groups without members go, with what they have committed.

use futures_util::{StreamExt, stream};

use super::super::{
    call::KafkaApi,
    client::{Asked, CALLER},
    codes::{self, Code, GroupAsk},
    wire::{
        DeleteGroupsRequest, DeleteGroupsResponse, StrBytes, delete_groups_response::DeletableGroupResult, message,
    },
};

/// Groups of one request that are deleted at once.
const AT_ONCE: usize = 16;

pub struct DeleteGroups;

impl KafkaApi for DeleteGroups {
    type Request = DeleteGroupsRequest;
    const VERSIONS: (i16, i16) = (0, 2);

    async fn answer(asked: &Asked, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let deleting = stream::iter(request.groups_names).map(|group| delete(asked, group));
        message!(DeleteGroupsResponse { results: deleting.buffered(AT_ONCE).collect().await })
    }
}

async fn delete(asked: &Asked, group: StrBytes) -> DeletableGroupResult {
    let deleted = asked.client.shared.broker.delete_group(&CALLER, &group.to_string().into(), false).await;
    let code = deleted.map_or_else(|error| codes::of_group(&error, GroupAsk::Admin), |()| Code::None);
    message!(DeletableGroupResult { group_id: group, error_code: code.value() })
}
