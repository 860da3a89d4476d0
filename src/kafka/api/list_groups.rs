//! ListGroups: all groups of the cluster, whichever broker is asked.

use super::super::{
    call::KafkaApi,
    client::{Asked, CALLER},
    codes::{self, GroupAsk},
    group_views,
    wire::{ListGroupsRequest, ListGroupsResponse, StrBytes, list_groups_response::ListedGroup, message},
};

pub struct ListGroups;

impl KafkaApi for ListGroups {
    type Request = ListGroupsRequest;
    const VERSIONS: (i16, i16) = (0, 5);

    async fn answer(asked: &Asked, request: ListGroupsRequest) -> ListGroupsResponse {
        let groups = match asked.client.shared.broker.list_groups(&CALLER).await {
            Ok(groups) => groups,
            Err(error) => {
                return message!(ListGroupsResponse { error_code: codes::of_group(&error, GroupAsk::Admin).value() });
            }
        };
        let groups = groups.into_iter().filter_map(|group| {
            let (state, kind) = (group_views::state(group.phase), group_views::group_type(&group));
            let is_wanted = passes(&request.states_filter, state) && passes(&request.types_filter, kind);
            is_wanted.then(|| {
                message!(ListedGroup {
                    protocol_type: group_views::protocol_type(&group),
                    group_id: group.group.0.into(),
                    group_state: state.into(),
                    group_type: kind.into(),
                })
            })
        });
        message!(ListGroupsResponse { groups: groups.collect() })
    }
}

/// An empty filter lets everything through; case does not count, as in Kafka.
fn passes(filter: &[StrBytes], word: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
}
