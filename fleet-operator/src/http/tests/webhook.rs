//! What a sender of webhooks is told when it asks.

use super::*;

async fn lab_for(origins: &[&str], rate: Option<u32>) -> Lab {
    let origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
    let webhook = Webhook { origins, rate: rate.map(|rate| rate.try_into().unwrap()) };
    let lab = lab_of(Limits::default(), &AccessOptions { webhook, ..AccessOptions::default() }).await;
    lab.store_all().await;
    lab
}

/// Status, and the headers of the handshake.
async fn asks(lab: &Lab, headers: &str) -> (String, Option<String>, Option<String>) {
    let answer =
        lab.raw(format!("OPTIONS /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")).await;
    let header = |name: &str| {
        let mut lines = answer.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    assert!(header("allow").is_some_and(|allow| allow.contains("POST")), "{answer}");
    let allowed = (header("webhook-allowed-origin"), header("webhook-allowed-rate"));
    (status(&answer).to_owned(), allowed.0, allowed.1)
}

#[tokio::test]
async fn a_sender_that_is_expected_is_told_so() {
    let lab = lab_for(&["events.example.com"], None).await;
    let (status, origin, rate) = asks(&lab, "WebHook-Request-Origin: Events.example.com\r\n").await;
    assert_eq!(status, "200");
    assert_eq!((origin.as_deref(), rate.as_deref()), (Some("Events.example.com"), Some("*")));
    // The callback is not needed, and never called.
    let asked = "WebHook-Request-Origin: events.example.com\r\nWebHook-Request-Callback: http://127.0.0.1:1/\r\nWebHook-Request-Rate: 120\r\n";
    assert_eq!(asks(&lab, asked).await.2.as_deref(), Some("*"));
}

#[tokio::test]
async fn the_rate_is_what_was_asked_for_up_to_what_is_permitted() {
    let lab = lab_for(&["*"], Some(100)).await;
    for (asked, expected) in
        [("", "100"), ("WebHook-Request-Rate: 60\r\n", "60"), ("WebHook-Request-Rate: 600\r\n", "100")]
    {
        let asked = format!("WebHook-Request-Origin: anybody.example\r\n{asked}");
        let (_, origin, rate) = asks(&lab, &asked).await;
        assert_eq!((origin.as_deref(), rate.as_deref()), (Some("anybody.example"), Some(expected)));
    }
    for bad in ["0", "-1", "many"] {
        let asked = format!("WebHook-Request-Origin: anybody.example\r\nWebHook-Request-Rate: {bad}\r\n");
        assert_eq!(asks(&lab, &asked).await, ("400".to_owned(), None, None));
    }
}

/// Consent is in the headers alone: a status is none.
#[tokio::test]
async fn nobody_else_gets_consent() {
    let lab = lab_for(&["events.example.com"], None).await;
    let evil = "WebHook-Request-Origin: events.example.com.evil.example\r\n";
    assert_eq!(asks(&lab, evil).await, ("403".to_owned(), None, None));
    assert_eq!(asks(&lab, "").await, ("400".to_owned(), None, None));
    let silent = lab_for(&[], None).await;
    let expected = "WebHook-Request-Origin: events.example.com\r\n";
    assert_eq!(asks(&silent, expected).await, ("405".to_owned(), None, None));

    assert_eq!(status(&lab.raw(event_request("/events", evil)).await), "403");
    for headers in [expected, ""] {
        assert_eq!(status(&lab.raw(event_request("/events", headers)).await), "202", "{headers}");
    }
    assert_eq!(status(&silent.raw(event_request("/events", evil)).await), "202");
}
