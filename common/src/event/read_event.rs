//! One CloudEvent as it is read: its attributes in any order, and its data by its type.

use std::fmt;

use jiff::Timestamp;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::wire::{ContractError, SpecVersion, field, parse_data};
use super::{AccountDetails, Activity, ActivityEvent, EventDraft, EventId, EventSource, EventType, TraceParent};
use crate::account::CacheKey;

/// The attributes of an event, or of a draft, which has no time.
pub(super) struct ReadEvent<'a> {
    id: EventId,
    source: EventSource,
    event_type: EventType,
    subject: CacheKey,
    time: Option<Timestamp>,
    traceparent: Option<TraceParent>,
    data: Data<'a>,
}

/// What an event says.
enum Data<'a> {
    /// Read at once, since the type stood before it.
    Read(Activity),
    /// Yet to be read.
    Raw(&'a RawValue),
}

impl ReadEvent<'_> {
    pub(super) fn into_event(self) -> Result<ActivityEvent, ContractError> {
        let Some(time) = self.time else {
            return Err(field("time", "is missing"));
        };
        Ok(self.into_draft()?.at(time))
    }

    pub(super) fn into_draft(self) -> Result<EventDraft, ContractError> {
        let activity = match self.data {
            Data::Read(activity) => activity,
            Data::Raw(raw) => read_late(self.event_type, raw.get().as_bytes())?,
        };
        let Self { id, source, subject, traceparent, .. } = self;
        Ok(EventDraft { id, source, subject, traceparent, activity })
    }
}

fn read_late(event_type: EventType, data: &[u8]) -> Result<Activity, ContractError> {
    Ok(match event_type {
        EventType::UserActivity => Activity::UserActivity(complete(parse_data(data)?)),
        EventType::Hydrated => Activity::Hydrated(complete(parse_data(data)?)),
        EventType::AcquisitionFailed => Activity::AcquisitionFailed(parse_data(data)?),
        EventType::Removed => Activity::Removed(parse_data(data)?),
    })
}

fn read_now<'a, A: MapAccess<'a>>(event_type: EventType, map: &mut A) -> Result<Activity, A::Error> {
    Ok(match event_type {
        EventType::UserActivity => Activity::UserActivity(complete(map.next_value()?)),
        EventType::Hydrated => Activity::Hydrated(complete(map.next_value()?)),
        EventType::AcquisitionFailed => Activity::AcquisitionFailed(map.next_value()?),
        EventType::Removed => Activity::Removed(map.next_value()?),
    })
}

fn complete(mut details: AccountDetails) -> AccountDetails {
    details.fill_in_halves();
    details
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Attribute {
    SpecVersion,
    Id,
    Source,
    Type,
    Subject,
    Time,
    TraceParent,
    Data,
    #[serde(other)]
    Extension,
}

impl<'de> Deserialize<'de> for ReadEvent<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Attributes)
    }
}

struct Attributes;

impl<'de> Visitor<'de> for Attributes {
    type Value = ReadEvent<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvents object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ReadEvent<'de>, A::Error> {
        let (mut version, mut id, mut source, mut event_type) = (None, None, None, None);
        let (mut subject, mut time, mut traceparent, mut data) = (None, None, None, None);
        while let Some(attribute) = map.next_key()? {
            match attribute {
                Attribute::SpecVersion => once("specversion", &mut version, map.next_value::<SpecVersion>()?)?,
                Attribute::Id => once("id", &mut id, map.next_value()?)?,
                Attribute::Source => once("source", &mut source, map.next_value()?)?,
                Attribute::Type => once("type", &mut event_type, map.next_value()?)?,
                Attribute::Subject => once("subject", &mut subject, map.next_value()?)?,
                Attribute::Time => once("time", &mut time, map.next_value()?)?,
                Attribute::TraceParent => once("traceparent", &mut traceparent, map.next_value()?)?,
                Attribute::Data => {
                    let read = match event_type {
                        Some(event_type) => Data::Read(read_now(event_type, &mut map)?),
                        None => Data::Raw(map.next_value()?),
                    };
                    once("data", &mut data, read)?;
                }
                Attribute::Extension => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        version.ok_or_else(|| A::Error::missing_field("specversion"))?;
        Ok(ReadEvent {
            id: id.ok_or_else(|| A::Error::missing_field("id"))?,
            source: source.ok_or_else(|| A::Error::missing_field("source"))?,
            event_type: event_type.ok_or_else(|| A::Error::missing_field("type"))?,
            subject: subject.ok_or_else(|| A::Error::missing_field("subject"))?,
            time: time.flatten(),
            traceparent: traceparent.flatten(),
            data: data.ok_or_else(|| A::Error::missing_field("data"))?,
        })
    }
}

fn once<T, E: serde::de::Error>(name: &'static str, place: &mut Option<T>, value: T) -> Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(name)),
    }
}
