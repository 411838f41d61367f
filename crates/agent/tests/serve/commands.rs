//! The agent driven by frames: commands.

use crate::host::{Host, shell};
use provium_protocol::message::Exit;
use provium_protocol::op::{Exec, Program, SignalTarget, Stdin, WindowSize};
use provium_protocol::{CallId, ErrorKind, Frame, Lane, Op, Reply, StreamId};

const LANE: Lane = Lane::VM;

fn exit(heard: &crate::host::Heard) -> Exit {
    match heard.reply.as_ref().unwrap() {
        Ok(Reply::Exited(exit)) => *exit,
        other => panic!("no exit: {other:?}"),
    }
}

#[test]
fn output_error_and_exit_code_come_back() {
    let mut host = Host::new();
    let heard = host.sh(LANE, "echo out; echo err >&2; exit 3");
    assert_eq!(
        (&heard.output[..], &heard.error[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!((exit(&heard).code, exit(&heard).signal), (Some(3), None));
    assert_eq!(exit(&host.sh(LANE, "kill -9 $$")).signal, Some(9));
}

#[test]
fn a_large_output_arrives_whole_and_in_order() {
    let mut host = Host::new();
    let heard = host.sh(LANE, "seq 1 400000");
    let expected: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
    assert!(heard.output == expected.as_bytes());
}

#[test]
fn without_credit_a_command_waits_and_others_continue() {
    let mut host = Host::new();
    host.grants = false;
    let call = host.request(LANE, &Op::Exec(shell("seq 1 400000")));
    while host.calls[&call].output.len() < 256 * 1024 {
        host.hear();
    }
    assert_eq!(host.sh(LANE, "echo free").output, b"free\n");
    assert_eq!(host.calls[&call].output.len(), 256 * 1024);
    host.grants = true;
    host.send(&Frame::credit(LANE, call, StreamId::Output, 256 * 1024));
    assert_eq!(exit(&host.finish(call)).code, Some(0));
}

#[test]
fn input_goes_through_a_command_both_ways_at_once() {
    let mut host = Host::new();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let call = host.request(
        LANE,
        &Op::Exec(Exec {
            stdin: Stdin::Channel,
            ..shell("cat")
        }),
    );
    host.input(LANE, call, &bytes);
    assert!(host.finish(call).output == bytes);
    let given = Exec {
        stdin: Stdin::Bytes(bytes[..200_000].to_vec().into()),
        ..shell("cat")
    };
    let call = host.request(LANE, &Op::Exec(given));
    assert!(host.finish(call).output == bytes[..200_000]);
}

#[test]
fn a_command_that_does_not_read_does_not_hold_up_its_writer() {
    let mut host = Host::new();
    let ends_early = Exec {
        stdin: Stdin::Channel,
        ..shell("exec <&-; sleep 0.2; exit 4")
    };
    let call = host.request(LANE, &Op::Exec(ends_early));
    host.input(LANE, call, &vec![0; 2_000_000]);
    assert_eq!(exit(&host.finish(call)).code, Some(4));
}

#[test]
fn a_background_child_that_holds_the_pipes_holds_nothing_up() {
    let mut host = Host::new();
    let heard = host.sh(LANE, "echo first; sleep 300 & echo $!");
    let text = String::from_utf8(heard.output).unwrap();
    let child = text.strip_prefix("first\n").unwrap().trim();
    // The command has ended before its child did.
    let killed = host.sh(LANE, &format!("kill {child} && echo killed"));
    assert_eq!(killed.output, b"killed\n");
}

#[test]
fn cancelling_kills_the_group_and_keeps_its_output() {
    let mut host = Host::new();
    let call = host.request(LANE, &Op::Exec(shell("sleep 100 & echo $!; wait")));
    while host.calls[&call].output.is_empty() {
        host.hear();
    }
    host.cancel(LANE, call);
    let heard = host.finish(call);
    assert_eq!(heard.reply.unwrap().unwrap_err().kind, ErrorKind::Cancelled);
    let child = String::from_utf8(heard.output).unwrap();
    let gone = format!(
        "for i in $(seq 100); do kill -0 {} || exit 0; sleep 0.05; done; exit 1",
        child.trim()
    );
    assert_eq!(exit(&host.sh(LANE, &gone)).code, Some(0));
}

#[test]
fn a_command_that_cannot_run_is_reported_with_the_reason() {
    let mut host = Host::new();
    let argv = |words: &[&str]| {
        Program::Argv(
            words
                .iter()
                .map(|word| word.as_bytes().to_vec().into())
                .collect(),
        )
    };
    let mut ask = |exec: Exec| host.ask(LANE, &Op::Exec(exec));
    let error = ask(Exec {
        program: argv(&["/bin/nope"]),
        ..shell("")
    })
    .unwrap_err();
    assert_eq!(
        (error.errno, error.message.as_str()),
        (libc::ENOENT, "exec /bin/nope")
    );
    let error = ask(Exec {
        program: argv(&["/etc"]),
        ..shell("")
    })
    .unwrap_err();
    assert_eq!(error.errno, libc::EACCES);
    let error = ask(Exec {
        cwd: Some(b"/nowhere".to_vec().into()),
        ..shell("")
    })
    .unwrap_err();
    assert_eq!(
        (error.errno, error.message.as_str()),
        (libc::ENOENT, "chdir /nowhere")
    );
    let error = ask(Exec {
        user: Some("nobody-like-this".into()),
        ..shell("")
    })
    .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(
        ask(Exec {
            program: argv(&["sh", "-c", "exit 0"]),
            ..shell("")
        })
        .is_ok()
    );
}

#[test]
fn environment_folder_and_signals_are_as_a_command_expects() {
    let mut host = Host::new();
    let exec = Exec {
        env: vec![(b"A".to_vec().into(), b"1 2".to_vec().into())],
        cwd: Some(b"/tmp".to_vec().into()),
        ..shell(
            "echo \"$A $HOME $TERM\"; pwd; grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd",
        )
    };
    let call = host.request(LANE, &Op::Exec(exec));
    let text = String::from_utf8(host.finish(call).output).unwrap();
    let lines: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(lines[..5], ["1", "2", "/root", "linux", "/tmp"]);
    assert_eq!(
        lines[5..9],
        ["SigBlk:", "0000000000000000", "SigIgn:", "0000000000000000"]
    );
    assert_eq!(
        lines[9..13],
        ["0", "1", "2", "3"],
        "3 is the folder that ls reads"
    );
    assert_eq!(
        lines.len(),
        13,
        "no descriptor of the agent's leaks: {text}"
    );
    let clear = Exec {
        env_clear: true,
        ..shell("env | cut -d= -f1 | sort | tr '\\n' ' '")
    };
    let call = host.request(LANE, &Op::Exec(clear));
    let text = String::from_utf8(host.finish(call).output).unwrap();
    assert!(!text.contains("HOME") && !text.contains("TERM"), "{text}");
}

#[test]
fn a_terminal_is_one() {
    let mut host = Host::new();
    let tty = |text: &str, stdin| {
        Op::Exec(Exec {
            tty: true,
            stdin,
            ..shell(text)
        })
    };
    let call = host.request(
        LANE,
        &tty(
            "test -t 0 && test -t 1 && test -t 2 && echo yes; cat",
            Stdin::Channel,
        ),
    );
    host.input(LANE, call, b"line\n");
    let heard = host.finish(call);
    assert_eq!(exit(&heard).code, Some(0));
    let text = String::from_utf8(heard.output).unwrap();
    assert!(
        text.contains("yes\r\n") && text.matches("line").count() == 2,
        "{text:?}"
    );
    let call = host.request(LANE, &tty("cat; echo over", Stdin::Null));
    assert!(
        String::from_utf8(host.finish(call).output)
            .unwrap()
            .contains("over")
    );
}

#[test]
fn a_terminal_has_the_size_that_the_host_says() {
    let mut host = Host::new();
    let tty = |text: &str| Exec {
        tty: true,
        window: WindowSize {
            rows: 50,
            columns: 300,
        },
        ..shell(text)
    };
    let call = host.request(LANE, &Op::Exec(tty("stty size")));
    assert_eq!(host.finish(call).output, b"50 300\r\n");

    let waiting = Exec {
        stdin: Stdin::Channel,
        background: true,
        ..tty("cat; stty size")
    };
    let call = host.request(LANE, &Op::Exec(waiting));
    host.started(call);
    let window = WindowSize {
        rows: 30,
        columns: 90,
    };
    let resize = Op::ResizeTerminal { call, window };
    assert_eq!(host.ask(LANE, &resize), Ok(Reply::Done));
    host.input(LANE, call, b"");
    let output = host.finish(call).output;
    assert!(output.ends_with(b"30 90\r\n"), "{}", output.escape_ascii());
    let error = host.ask(LANE, &resize).unwrap_err();
    assert_eq!((error.kind, error.errno), (ErrorKind::Os, libc::ESRCH));

    let plain = Exec {
        background: true,
        ..shell("sleep 100")
    };
    let call = host.request(LANE, &Op::Exec(plain));
    host.started(call);
    let error = host
        .ask(LANE, &Op::ResizeTerminal { call, window })
        .unwrap_err();
    assert_eq!((error.kind, error.errno), (ErrorKind::Os, libc::ENOTTY));
}

#[test]
fn collecting_puts_the_output_into_the_reply() {
    let mut host = Host::new();
    let exec = Exec {
        collect: Some(5),
        ..shell("echo 123456789; echo e >&2")
    };
    match host.ask(LANE, &Op::Exec(exec)).unwrap() {
        Reply::Ran {
            stdout,
            stderr,
            exit,
            stdout_dropped,
            stderr_dropped: 0,
        } => {
            assert_eq!((&stdout[..], &stderr[..]), (&b"1289\n"[..], &b"e\n"[..]));
            assert_eq!((exit.code, stdout_dropped), (Some(0), 5));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn background_commands_are_signalled_and_joined() {
    let mut host = Host::new();
    let start = |host: &mut Host, text: &str| {
        let call = host.request(
            LANE,
            &Op::Exec(Exec {
                background: true,
                ..shell(text)
            }),
        );
        host.started(call);
        call
    };
    let one = start(&mut host, "exit 3");
    host.finish(one);
    let two = start(&mut host, "sleep 100");
    let three = start(&mut host, "sleep 100");
    let join = host.request(LANE, &Op::Join);
    let single = Op::Signal {
        call: two,
        signal: libc::SIGKILL,
        target: SignalTarget::Group,
    };
    assert_eq!(host.ask(LANE, &single), Ok(Reply::Done));
    assert_eq!(exit(&host.finish(two)).signal, Some(libc::SIGKILL));
    let gone = host.ask(LANE, &single).unwrap_err();
    assert_eq!((gone.kind, gone.errno), (ErrorKind::Os, libc::ESRCH));
    let all = Op::SignalAll {
        signal: libc::SIGTERM,
        everything: false,
    };
    assert_eq!(host.ask(LANE, &all), Ok(Reply::Count(1)));
    assert_eq!(exit(&host.finish(three)).signal, Some(libc::SIGTERM));
    let joined = host.finish(join).reply.unwrap();
    assert_eq!(
        joined,
        Ok(Reply::Joined {
            exit_code: 143,
            children: 3
        })
    );
    assert_eq!(
        host.ask(LANE, &Op::Join),
        Ok(Reply::Joined {
            exit_code: 0,
            children: 0
        })
    );
    assert_eq!(
        host.ask(
            LANE,
            &Op::Signal {
                call: CallId(9999),
                signal: 15,
                target: SignalTarget::Group
            }
        )
        .unwrap_err()
        .errno,
        libc::ESRCH
    );
}
