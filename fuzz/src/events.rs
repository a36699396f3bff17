//! An event in the JSON format, or a batch of them. What is accepted is a CloudEvent, and comes back as it was.

use fleet_core::event::{Data, Event};

use crate::{Outcome, specification};

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let mut taken = Vec::new();
    match Event::from_json(input) {
        Ok(event) => taken.push(event),
        Err(error) => assert!(!error.reason.is_empty()),
    }
    if let Ok(entries) = Event::batch_from_json(input) {
        for (raw, event) in entries {
            let alone = Event::from_json(&raw);
            assert_eq!(alone, event, "an event of a batch is what it is alone");
            taken.extend(event);
        }
    }
    for event in &taken {
        specification::hold(event);
        specification::comes_back(event);
        through_the_sdk(event);
    }
    if taken.is_empty() { Outcome::Refused } else { Outcome::Taken }
}

/// What the SDK's type can hold is not changed by it. Bytes that are said to be JSON are taken for JSON on the way back.
fn through_the_sdk(event: &Event) {
    let are_bytes = matches!(event.data(), Some(Data::Binary(_)));
    let Ok(back) = Event::try_from(cloudevents::Event::from(event.clone())) else {
        assert!(are_bytes, "what the SDK was given is no event any more");
        return;
    };
    assert_eq!((back.id(), back.source(), back.ty()), (event.id(), event.source(), event.ty()));
    assert_eq!((back.subject(), back.data_content_type()), (event.subject(), event.data_content_type()));
    assert!(are_bytes || back.data() == event.data());
    let again = cloudevents::Event::from(back.clone());
    assert!(
        Event::try_from(again).is_ok_and(|again| again == back),
        "the second time is another than the first"
    );
}
