//! The client against a scripted server.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use provium_qmp::{Client, CloseReason, Events, QmpError};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 1, "minor": 2, "major": 8}, "package": ""}, "capabilities": []}}"#;

struct Server(BufReader<UnixStream>);

impl Server {
    async fn say(&mut self, line: &str) {
        self.0
            .write_all(format!("{line}\r\n").as_bytes())
            .await
            .unwrap();
    }

    /// The next command's name and id.
    async fn hear(&mut self) -> (String, u64) {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        let command: Value = serde_json::from_str(&line).unwrap();
        (
            command["execute"].as_str().unwrap().to_owned(),
            command["id"].as_u64().unwrap(),
        )
    }

    async fn reply(&mut self, id: u64, value: Value) {
        self.say(&json!({ "return": value, "id": id }).to_string())
            .await;
    }
}

async fn connected() -> (Client, Events, Server) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut server = Server(BufReader::new(theirs));
    let serve = async {
        server.say(GREETING).await;
        let (name, id) = server.hear().await;
        assert_eq!(name, "qmp_capabilities");
        server.reply(id, json!({})).await;
        server
    };
    let (client, server) = tokio::join!(Client::connect(ours), serve);
    let (client, events) = client.unwrap();
    (client, events, server)
}

#[tokio::test]
async fn the_greeting_has_the_version() {
    let (client, _events, _server) = connected().await;
    assert_eq!(client.greeting().version.to_string(), "8.2.1");
}

#[tokio::test]
async fn replies_find_their_command_in_any_order_with_events_between() {
    let (client, mut events, mut server) = connected().await;
    let serve = async {
        let (first, second) = (server.hear().await, server.hear().await);
        server.reply(second.1, json!(second.0)).await;
        server
            .say(r#"{"event": "STOP", "timestamp": {"seconds": 0, "microseconds": 0}}"#)
            .await;
        server.reply(first.1, json!(first.0)).await;
    };
    let (one, two, ()) = tokio::join!(
        client.execute("one", Value::Null),
        client.execute("two", Value::Null),
        serve
    );
    assert_eq!((one.unwrap(), two.unwrap()), (json!("one"), json!("two")));
    assert_eq!(events.next().await.unwrap().name, "STOP");
}

#[tokio::test]
async fn a_refusal_has_the_text_of_qemu() {
    let (client, _events, mut server) = connected().await;
    let serve = async {
        let (_, id) = server.hear().await;
        let error = json!({"class": "CommandNotFound", "desc": "The command x has not been found"});
        server
            .say(&json!({ "error": error, "id": id }).to_string())
            .await;
    };
    let (result, ()) = tokio::join!(client.execute("x", json!({"a": 1})), serve);
    let error = result.unwrap_err();
    assert!(matches!(&error, QmpError::Refused { error, .. } if error.class == "CommandNotFound"));
    assert_eq!(
        error.to_string(),
        "QEMU refused `x`: The command x has not been found"
    );
}

#[tokio::test]
async fn a_cancelled_command_does_not_affect_others() {
    let (client, _events, mut server) = connected().await;
    let given_up = client.execute("slow", Value::Null);
    assert!(
        tokio::time::timeout(Duration::ZERO, given_up)
            .await
            .is_err()
    );
    let serve = async {
        let (slow, quick) = (server.hear().await, server.hear().await);
        server.reply(slow.1, json!("late")).await;
        server.reply(quick.1, json!("right")).await;
    };
    let (result, ()) = tokio::join!(client.execute("quick", Value::Null), serve);
    assert_eq!(result.unwrap(), json!("right"));
}

#[tokio::test]
async fn a_queued_command_follows_a_cancelled_one() {
    let (client, _events, mut server) = connected().await;
    let cancelled = client.execute("stop", Value::Null);
    assert!(
        tokio::time::timeout(Duration::ZERO, cancelled)
            .await
            .is_err()
    );
    client.queue("cont", &Value::Null);
    assert_eq!(server.hear().await.0, "stop");
    let (name, id) = server.hear().await;
    assert_eq!(name, "cont");
    server.reply(id, json!({})).await;
    let serve = async {
        let (_, id) = server.hear().await;
        server.reply(id, json!("right")).await;
    };
    let (result, ()) = tokio::join!(client.execute("query", Value::Null), serve);
    assert_eq!(
        result.unwrap(),
        json!("right"),
        "the reply to it is dropped"
    );
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_command_fails_it() {
    let (client, mut events, mut server) = connected().await;
    let serve = async {
        server.hear().await;
        server
            .say(r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#)
            .await;
        drop(server);
    };
    let (result, ()) = tokio::join!(client.execute("x", Value::Null), serve);
    assert!(
        matches!(result, Err(QmpError::Closed(CloseReason::Ended))),
        "{result:?}"
    );
    assert!(matches!(
        *client.closed().borrow(),
        Some(CloseReason::Ended)
    ));
    assert_eq!(
        events.next().await.unwrap().name,
        "SHUTDOWN",
        "what was said before still counts"
    );
    let later = client.execute("y", Value::Null).await.unwrap_err();
    assert_eq!(
        later.to_string(),
        "the connection to QEMU is closed: QEMU closed its end"
    );
}

#[tokio::test]
async fn garbage_closes_the_connection_with_its_text() {
    let (client, _events, mut server) = connected().await;
    let serve = async {
        server.hear().await;
        server.say("Segmentation fault").await;
        server
    };
    let (result, _server) = tokio::join!(client.execute("x", Value::Null), serve);
    let text = result.unwrap_err().to_string();
    assert_eq!(
        text,
        "the connection to QEMU is closed: `Segmentation fault` is not a QMP message"
    );
}

#[tokio::test]
async fn a_server_that_ends_before_its_greeting_is_an_error() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let error = Client::connect(ours).await.unwrap_err();
    assert!(
        matches!(error, QmpError::Closed(CloseReason::Ended)),
        "{error}"
    );
}

#[tokio::test]
async fn a_descriptor_travels_with_its_command() {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::{IoSliceMut, Read, Write};

    let (client, _events, server) = connected().await;
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let passed = client.execute_with_fd("getfd", json!({"fdname": "x"}), theirs.into());
    assert!(tokio::time::timeout(Duration::ZERO, passed).await.is_err());
    let server = server.0.into_inner();
    let mut bytes = [0; 256];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = server.async_io(tokio::io::Interest::READABLE, || {
        let into = &mut [IoSliceMut::new(&mut bytes)];
        Ok(recvmsg(
            &server,
            into,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?)
    });
    let received = received.await.unwrap();
    let line: Value = serde_json::from_slice(&bytes[..received.bytes]).unwrap();
    assert_eq!(line["arguments"]["fdname"], "x");
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let mut fds: Vec<_> = fds.flatten().collect();
    assert_eq!(fds.len(), 1);
    let mut theirs = std::os::unix::net::UnixStream::from(fds.remove(0));
    ours.write_all(b"hi").unwrap();
    let mut said = [0; 2];
    theirs.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hi");
    drop(theirs);
    assert_eq!(ours.read(&mut said).unwrap(), 0, "no copy of it is kept");
}

#[tokio::test]
async fn events_end_with_the_last_handle() {
    let (client, mut events, mut server) = connected().await;
    drop(client);
    assert!(events.next().await.is_none());
    let mut line = String::new();
    assert_eq!(
        server.0.read_line(&mut line).await.unwrap(),
        0,
        "the stream is closed"
    );
}

/// The reader's task does not run meanwhile: this test's runtime has one thread, which does not await.
#[tokio::test]
async fn events_can_be_taken_without_the_runtime() {
    use std::io::Write;

    let (client, _events, server) = connected().await;
    let mut events = client.events();
    let mut server = server.0.into_inner().into_std().unwrap();
    let mut say = |name: &str| {
        let line =
            format!(r#"{{"event": "{name}", "timestamp": {{"seconds": 0, "microseconds": 0}}}}"#);
        server.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    };
    events.catch_up();
    assert!(events.try_next().is_none());
    say("GUEST_PANICKED");
    say("STOP");
    let outside = std::thread::spawn(move || {
        events.catch_up();
        let names: Vec<_> = std::iter::from_fn(|| events.try_next())
            .map(|event| event.name)
            .collect();
        (names, events)
    });
    let (names, mut events) = outside.join().unwrap();
    assert_eq!(names, ["GUEST_PANICKED", "STOP"]);
    // The task continues where that has ended.
    say("RESUME");
    assert_eq!(events.next().await.unwrap().name, "RESUME");
    drop(server);
    events.catch_up();
    assert!(events.try_next().is_none());
    assert!(events.next().await.is_none());
    assert!(matches!(
        *client.closed().borrow(),
        Some(CloseReason::Ended)
    ));
}
