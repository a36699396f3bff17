use super::*;

/// A self-signed certificate for `CN=alice`, valid from 2020-01-01 to 2020-12-31.
const EXPIRED_CERT: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJDRENCcmdJQkFUQUtCZ2dxaGtqT1BRUURBakFRTVE0d0RBWURWUVFEREFWaGJHbGpaVEFlRncweU1EQXgKTURFd01EQXdNREJhRncweU1ERXlNekV3TURBd01EQmFNQkF4RGpBTUJnTlZCQU1NQldGc2FXTmxNRmt3RXdZSApLb1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FFdUxWMDRNdFVMWHF2NkZKNHhnRE5zU3U2ZEs5NDNpRDN2QjZZClFmMVAwZlRjWEk1Tjdta3NJV2JhSHlZZW15WGx4KzBpYllOUVZsVG5WMEpvbWpPeTRqQUtCZ2dxaGtqT1BRUUQKQWdOSkFEQkdBaUVBcitLaEgvVitUSk5ZcUxTc01EN2gyVkhETklhcHZ1b05td0NKclp0WTRUMENJUURQbWtpSgo1Z01LL0cwUFpoemtGR0NhRUFzSHE5ZzZkVjNkMEZpS3ZiMnNFdz09Ci0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K";

fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: k, user: alice}}\n\
         clusters:\n- name: k\n  cluster:\n    server: https://127.0.0.1:1\n{cluster}\
         users:\n- name: alice\n  user:\n{user}"
    )
}

fn secret(text: &str) -> Result<kube::Config, String> {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    from_secret("Secret civo/c1-kubeconfig, key kubeconfig", &SecretString::from(text.to_owned()), now)
        .map_err(|error| error.to_string())
}

#[test]
fn a_token_is_enough() {
    let config = secret(&kubeconfig("", "    token: s3cret\n")).unwrap();
    assert_eq!(config.cluster_url.to_string(), "https://127.0.0.1:1/");
    assert_eq!(config.auth_info.token.unwrap().expose_secret(), "s3cret");
}

#[test]
fn what_would_run_or_read_is_refused_by_name() {
    for (cluster, user, field) in [
        (
            "",
            "    exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/hostile}\n",
            "users[\"alice\"].exec",
        ),
        ("", "    auth-provider: {name: hostile}\n", "users[\"alice\"].auth-provider"),
        ("", "    tokenFile: /etc/hostile\n", "users[\"alice\"].tokenFile"),
        ("", "    token: a\n    tokenFile: /etc/hostile\n", "users[\"alice\"].tokenFile"),
        ("", "    client-certificate: /etc/hostile\n", "users[\"alice\"].client-certificate"),
        ("", "    client-key: /etc/hostile\n", "users[\"alice\"].client-key"),
        (
            "    certificate-authority: /etc/hostile\n",
            "    token: a\n",
            "clusters[\"k\"].certificate-authority",
        ),
    ] {
        let error = secret(&kubeconfig(cluster, user)).unwrap_err();
        assert!(error.starts_with("Secret civo/c1-kubeconfig, key kubeconfig: "), "{error}");
        assert!(error.contains(&format!("{field} would ")), "{error}");
        assert!(!error.contains("hostile"), "content shows: {error}");
    }
}

#[test]
fn each_fault_says_what_and_where() {
    let token = "    token: s3cret\n";
    for (text, expected) in [
        (String::new(), "has no clusters"),
        ("s3cret".to_owned(), "this is no kubeconfig: line 1"),
        ("apiVersion: v1\nclusters: [s3cret".to_owned(), "this is no kubeconfig: line 2"),
        (kubeconfig("", token).replace("current-context: c\n", ""), "has no current-context"),
        (
            kubeconfig("", token).replace("current-context: c\n", "current-context: d\n"),
            "has no context \"d\"",
        ),
        (
            kubeconfig("", token).replace("- name: k\n", "- name: x\n"),
            "cluster \"k\", which it does not have",
        ),
        (
            kubeconfig("", token).replace("- name: alice\n", "- name: bob\n"),
            "user \"alice\", which it does not",
        ),
        (
            kubeconfig("", token).replace("    server: https://127.0.0.1:1\n", "    tls-server-name: x\n"),
            "clusters[\"k\"].server is missing",
        ),
        (
            kubeconfig("", token).replace("https://127.0.0.1:1", "nonsense s3cret"),
            "clusters[\"k\"].server is malformed",
        ),
        (
            kubeconfig("    proxy-url: http://s3cret@proxy:1\n", token),
            "clusters[\"k\"].proxy-url is not supported",
        ),
        (
            kubeconfig("    certificate-authority-data: s3cret!\n", token),
            "certificate-authority-data is malformed in the kubeconfig; expected base64",
        ),
        (kubeconfig("    certificate-authority-data: czNjcmV0\n", token), "expected a certificate"),
        (
            kubeconfig("", &format!("    client-certificate-data: {EXPIRED_CERT}\n")),
            "client-key-data is missing",
        ),
        (
            kubeconfig(
                "",
                &format!("    client-certificate-data: {EXPIRED_CERT}\n    client-key-data: czNjcmV0\n"),
            ),
            "expired at 2020-12-31T00:00:00Z",
        ),
        (kubeconfig("", "    client-key-data: czNjcmV0\n"), "client-certificate-data is missing"),
    ] {
        let error = secret(&text).unwrap_err();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
        assert!(!error.contains("s3cret"), "content shows: {error}");
    }
}

#[test]
fn a_file_may_name_files_next_to_it_and_is_made_self_contained() {
    let folder = tempfile::tempdir().unwrap();
    let pem = |base64: &str| STANDARD.decode(base64).unwrap();
    std::fs::write(folder.path().join("ca.pem"), pem(EXPIRED_CERT)).unwrap();
    std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig("    certificate-authority: ca.pem\n", "    tokenFile: token\n"))
        .unwrap();
    let now = Timestamp::UNIX_EPOCH;

    let config = from_file(&path, now).unwrap();
    assert!(config.root_cert.is_some());
    let alone = self_contained(&path, None, now).unwrap();
    assert_eq!(alone.credential_plugin(), None);
    let text = alone.to_yaml().unwrap();
    let config = from_secret("again", &text, now).unwrap();
    assert!(config.root_cert.is_some());
    assert_eq!(config.auth_info.token.unwrap().expose_secret(), "s3cret");
    assert!(!format!("{alone:?}").contains("s3cret"));

    std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
    let error = from_file(&path, now).unwrap_err().to_string();
    assert!(
        error.contains("clusters[\"k\"].certificate-authority: ") && error.contains("ca.pem cannot be read"),
        "{error}"
    );
    assert!(
        self_contained(&path, Some("other"), now).unwrap_err().to_string().contains("no context \"other\"")
    );
    let missing = from_file(&folder.path().join("none"), now).unwrap_err().to_string();
    assert!(missing.contains("none: the kubeconfig cannot be read"), "{missing}");
}

#[test]
fn a_plugin_in_a_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let exec =
        "    exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}\n";
    std::fs::write(&path, kubeconfig("", exec)).unwrap();
    let alone = self_contained(&path, None, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(alone.credential_plugin(), Some("aws"));
    let with_token = alone.with_token(SecretString::from("t".to_owned()));
    assert_eq!(with_token.credential_plugin(), None);
    assert!(secret(with_token.to_yaml().unwrap().expose_secret()).is_ok());
}
