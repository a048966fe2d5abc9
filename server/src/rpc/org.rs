//! `OrgService`.

use super::{Answer, Rpc, actor, convert, ok, page, page_size};
use crate::org;
use ringfence_proto::v1::org_service_server::OrgService;
use ringfence_proto::v1::{
    GetTreeRequest, GetTreeResponse, ListNodesRequest, ListNodesResponse, SyncOrgRequest,
    SyncOrgResponse,
};
use tonic::Request;

#[tonic::async_trait]
impl OrgService for Rpc {
    async fn sync_org(&self, request: Request<SyncOrgRequest>) -> Answer<SyncOrgResponse> {
        let who = actor(request.metadata())?;
        let synced = org::sync(&self.0, &who, !request.get_ref().validate_only).await?;
        ok(convert::synced(&synced))
    }

    async fn list_nodes(&self, request: Request<ListNodesRequest>) -> Answer<ListNodesResponse> {
        let asked = request.into_inner();
        let tree = self.0.tree().await?;
        let nodes = tree.nodes().map(|n| convert::node(n, &tree)).collect();
        let (nodes, next_page_token) = page(nodes, page_size(asked.page_size)?, &asked.page_token)?;
        ok(ListNodesResponse { nodes, next_page_token, as_of: tree.as_of.to_string() })
    }

    async fn get_tree(&self, _: Request<GetTreeRequest>) -> Answer<GetTreeResponse> {
        let tree = self.0.tree().await?;
        ok(GetTreeResponse { as_of: tree.as_of.to_string(), drawing: tree.draw() })
    }
}
