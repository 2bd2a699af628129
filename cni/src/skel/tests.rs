use super::*;

const CONF: &str = r#"{"cniVersion":"1.1.0","name":"net","type":"calico"}"#;

fn read(vars: &[(&str, &str)], stdin: &str) -> Result<Call> {
    let env = |key: &str| {
        let found = vars.iter().rev().find(|(name, _)| *name == key);
        found.map(|(_, value)| (*value).to_owned())
    };
    Call::read(env, stdin.as_bytes())
}

const ADD: &[(&str, &str)] = &[
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "abc"),
    ("CNI_NETNS", "/run/netns/x"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni"),
];

fn with<'a>(key: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut vars = ADD.to_vec();
    vars.push((key, value));
    vars
}

#[test]
fn a_call_is_read() {
    let call = read(ADD, CONF).unwrap();
    assert_eq!(call.command, Command::Add);
    assert_eq!(call.path.len(), 2);
    assert_eq!(call.conf.name, "net");
}

#[test]
fn missing_and_wrong_variables_are_named() {
    for (key, value, part) in [
        ("CNI_COMMAND", "", "CNI_COMMAND"),
        ("CNI_COMMAND", "PLUG", "PLUG"),
        ("CNI_CONTAINERID", "", "CNI_CONTAINERID"),
        ("CNI_CONTAINERID", "a/b", "a/b"),
        ("CNI_CONTAINERID", "-a", "-a"),
        ("CNI_NETNS", "", "CNI_NETNS"),
        ("CNI_IFNAME", "", "CNI_IFNAME"),
        ("CNI_IFNAME", "0123456789abcdef", "0123456789abcdef"),
        ("CNI_IFNAME", "a b", "a b"),
        ("CNI_PATH", "", "CNI_PATH"),
        ("CNI_ARGS", "X", "CNI_ARGS"),
    ] {
        let error = read(&with(key, value), CONF).unwrap_err();
        assert_eq!(error.code, Code::InvalidEnvironment, "{key}={value}");
        assert!(error.message.contains(part), "{key}={value}: {error}");
    }
}

#[test]
fn del_needs_no_namespace() {
    let mut vars = with("CNI_COMMAND", "DEL");
    vars.push(("CNI_NETNS", ""));
    assert!(read(&vars, CONF).is_ok());
}

#[test]
fn commands_need_their_version() {
    let conf = |version: &str| format!(r#"{{"cniVersion":"{version}","name":"n"}}"#);
    for (command, version, fine) in [
        ("CHECK", "0.3.1", false),
        ("CHECK", "0.4.0", true),
        ("GC", "1.0.0", false),
        ("GC", "1.1.0", true),
        ("STATUS", "1.0.0", false),
        ("STATUS", "1.1.0", true),
        ("ADD", "0.1.0", true),
        ("ADD", "1.2.0", false),
    ] {
        let result = read(&with("CNI_COMMAND", command), &conf(version));
        assert_eq!(result.is_ok(), fine, "{command} {version}");
        if let Err(error) = result {
            assert_eq!(error.code, Code::IncompatibleVersion, "{command} {version}");
        }
    }
}
