//! Events.

use k8s_openapi::api::core::v1 as core;

use super::meta::{
    from_meta, from_micro, from_reference, from_time, to_meta, to_micro, to_reference, to_time_unless_zero,
};
use super::{Convert, ConvertError, name, name_or_empty, nonempty, nonzero, text};
use crate::api::event::{Event, EventClass, EventType, Involved, Occurrence, Reporter};
use crate::api::meta::MicroTime;

impl EventType {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

impl Convert for Event {
    type Full = core::Event;

    fn to_full(&self) -> core::Event {
        let EventClass { kind, reason, reporter, .. } = &*self.class;
        let Reporter { component, host, instance, source_only } = &**reporter;
        let Occurrence { count, first, last, event_time, action, series, related } = self.occurrence().into_owned();
        let event_time = (event_time != MicroTime::default()).then(|| to_micro(event_time));
        let source = core::EventSource {
            component: if event_time.is_some() { None } else { nonempty(component) },
            host: nonempty(host),
        };
        core::Event {
            metadata: to_meta(&self.meta),
            involved_object: to_reference(&self.reference()),
            type_: Some(kind.as_str().to_owned()),
            reason: nonempty(reason),
            message: nonempty(&self.message),
            source: Some(source),
            reporting_component: Some(if *source_only { String::new() } else { String::from(component) }),
            reporting_instance: Some(String::from(instance)),
            count: nonzero(count),
            first_timestamp: to_time_unless_zero(first),
            last_timestamp: to_time_unless_zero(last),
            event_time,
            action: text(&action),
            series: series.map(|series| core::EventSeries {
                count: Some(series.0),
                last_observed_time: Some(to_micro(series.1)),
            }),
            related: related.as_deref().map(to_reference),
        }
    }

    fn from_full(full: core::Event) -> Result<Self, ConvertError> {
        let source = full.source.unwrap_or_default();
        let reporting = full.reporting_component.filter(|component| !component.is_empty());
        let component = source.component.filter(|component| !component.is_empty());
        let occurrence = Occurrence {
            count: full.count.unwrap_or(0),
            first: full.first_timestamp.map(from_time).unwrap_or_default(),
            last: full.last_timestamp.map(from_time).unwrap_or_default(),
            event_time: full.event_time.map(from_micro).unwrap_or_default(),
            action: name(full.action),
            series: full.series.map(|series| {
                let last = series.last_observed_time.map_or(MicroTime::default(), from_micro);
                Box::new((series.count.unwrap_or(0), last))
            }),
            related: full.related.map(from_reference).map(Box::new),
        };
        let reporter = Reporter {
            source_only: component.is_some() && reporting.is_none(),
            component: name_or_empty(component.or(reporting)),
            host: name_or_empty(source.host),
            instance: name_or_empty(full.reporting_instance),
        };
        let involved = from_reference(full.involved_object);
        let class = EventClass {
            kind: if full.type_.as_deref() == Some("Warning") { EventType::Warning } else { EventType::Normal },
            reason: name_or_empty(full.reason),
            reporter: reporter.into(),
            involved_api_version: involved.api_version.clone(),
            involved_kind: involved.kind.clone(),
            field_path: involved.field_path.clone(),
        };
        let (meta, message) = (from_meta(full.metadata)?, name_or_empty(full.message));
        let involved = (Involved::of(&involved).into(), involved.resource_version);
        Ok(Event::new(meta, involved, class.into(), message, occurrence))
    }
}
