//! `events.csv`: what components said through Kubernetes events, one row for each time they said it.

use std::io;

use crate::api::event::Event;
use crate::api::object::Object;
use crate::cluster::news::Write;

const HEADER: [&str; 9] = ["time", "type", "reason", "object", "component", "host", "count", "message", "event"];

/// Writes rows while the run goes on.
pub struct EventRows<W: io::Write> {
    csv: csv::Writer<W>,
}

impl<W: io::Write> EventRows<W> {
    /// Begins with the header.
    pub fn new(to: W) -> io::Result<Self> {
        let mut csv = csv::Writer::from_writer(to);
        csv.write_record(HEADER)?;
        Ok(EventRows { csv })
    }

    /// A row if the write is one of an event; removals are not told of.
    pub fn write(&mut self, write: &Write) -> io::Result<()> {
        let Some(Object::Event(event)) = &write.new else { return Ok(()) };
        let Event { involved, class, message, .. } = &**event;
        let kind = &class.involved_kind;
        let object = if involved.namespace.is_empty() {
            format!("{kind}/{}", involved.name)
        } else {
            format!("{kind}/{}/{}", involved.namespace, involved.name)
        };
        let count = event.series().map_or_else(|| event.occurrence().count.max(1), |(count, _)| count);
        Ok(self.csv.write_record([
            &write.at.to_string(),
            &format!("{:?}", class.kind),
            class.reason.as_str(),
            &object,
            &class.reporter.component,
            &class.reporter.host,
            &count.to_string(),
            message,
            &event.meta.name,
        ])?)
    }

    /// Hands everything written to the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.csv.flush()
    }
}
