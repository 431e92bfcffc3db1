//! Every method of the schema, called with every role over real mTLS: what the table does not allow is refused.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod harness;

use harness::agent::Identity;
use harness::{Coordinator, call};
use prost::Message as _;
use tonic::transport::Channel;
use tonic::{Code, Status};
use windlass_coordinator::rpc::auth::{Role, TABLE};
use windlass_proto::rpc::DESCRIPTORS;
use windlass_proto::tls::{self, Credentials};

/// All methods of the schema.
fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                methods.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    methods
}

/// What the design says of a method, written down a second time.
fn may(role: Role, method: &str) -> bool {
    let agents = method.starts_with("/windlass.v1.AgentService/");
    match role {
        Role::Anonymous => {
            ["Enroll", "Challenge"].iter().any(|call| *method == format!("/windlass.v1.AgentService/{call}"))
        }
        Role::Agent => agents,
        Role::Operator => !agents,
    }
}

fn refused(answer: &Result<(), Status>) -> bool {
    answer
        .as_ref()
        .is_err_and(|status| matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated))
}

async fn channel(address: &str, ca: &str, own: Option<&Credentials>) -> Option<Channel> {
    tls::connect(address, tls::client_config(ca, own).unwrap()).await.ok()
}

#[test]
fn every_method_is_in_the_table_and_nothing_else_is() {
    let methods = methods();
    assert!(methods.len() > 30);
    for method in &methods {
        assert!(TABLE.iter().any(|(known, ..)| known == method), "{method} has no row in the table");
    }
    for (method, roles, _) in TABLE {
        assert!(
            methods.iter().any(|m| m == method) || method.starts_with("/grpc."),
            "{method} is not in the schema"
        );
        for role in [Role::Anonymous, Role::Agent, Role::Operator] {
            assert_eq!(roles.contains(&role), may(role, method), "{method} {role:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_called_with_every_role() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let join = operator.token().await;
    let agent = Identity::new(&coordinator.agent, &join, "host-1").await;
    let (operator_ca, ana) = coordinator.operator_credentials("ana");
    let anonymous = channel(&coordinator.agent, &agent.ca, None).await.unwrap();
    let as_agent = channel(&coordinator.agent, &agent.ca, Some(&agent.own)).await.unwrap();
    let as_operator = channel(&coordinator.operator, &operator_ca, Some(&ana)).await.unwrap();
    let mut all = methods();
    all.extend(TABLE.iter().map(|(method, ..)| (*method).to_owned()));
    all.extend(
        ["/windlass.v1.FleetService/Nonsense", "/nonsense.Service/Method", "/", "/windlass.v1.FleetService/"]
            .map(String::from),
    );
    all.sort();
    all.dedup();
    let known = |method: &str| TABLE.iter().any(|(known, ..)| *known == method);
    for method in &all {
        for (role, channel) in
            [(Role::Anonymous, &anonymous), (Role::Agent, &as_agent), (Role::Operator, &as_operator)]
        {
            let answer = call(channel.clone(), method).await;
            let allowed = known(method) && may(role, method);
            // An empty enrolment is refused by the handler, for its content.
            let by_content = method.ends_with("/Enroll");
            assert_eq!(refused(&answer), !allowed, "{method} as {role:?}: {answer:?}");
            assert!(!allowed || !by_content || answer.is_err());
        }
    }
    // The other door's certificate does not even get through the handshake, nor does none at the operators' door.
    let strangers = [
        (&coordinator.operator, &operator_ca, Some(&agent.own)),
        (&coordinator.operator, &operator_ca, None),
        (&coordinator.agent, &agent.ca, Some(&ana)),
    ];
    for (address, ca, own) in strangers {
        if let Some(channel) = channel(address, ca, own).await {
            for method in [
                "/windlass.v1.FleetService/Info",
                "/windlass.v1.AgentService/Session",
                "/grpc.health.v1.Health/Check",
            ] {
                assert!(call(channel.clone(), method).await.is_err(), "{method}");
            }
        }
    }
    // And who trusts the wrong CA does not believe the coordinator.
    assert!(channel(&coordinator.operator, &agent.ca, Some(&ana)).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_and_health_answer_operators() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let coordinator = Coordinator::start().await;
    let channel = coordinator.channel("ana").await;
    let ask = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let questions = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("windlass.v1.RolloutService".into())),
    ];
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter(questions)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in [
        "windlass.v1.RolloutService",
        "windlass.v1.FleetService",
        "windlass.v1.BundleService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let file = answers.message().await.unwrap().unwrap().message_response;
    assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");

    let mut health = HealthClient::new(channel);
    for service in ["", "windlass.v1.RolloutService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service}");
    }
}
