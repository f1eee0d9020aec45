//! `events`: what happened to checks, services, weights and the configuration.

use serde::{Deserialize, Serialize};

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Go on with what happens from now on: further answers follow this one on the connection, until it is closed.
    #[serde(default)]
    pub follow: bool,
    /// Of those that the director still knows, at most so many of the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// Of those that the director still knows, the ones of so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_s: Option<u64>,
}

/// Some events, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// So many before these are lost: they were asked for, or not read, too late.
    #[serde(default)]
    pub lost: u64,
    /// Them.
    pub events: Vec<Event>,
}

/// Something that happened. What does not go with its type is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Ascending by 1 from 1, since the director started.
    pub number: u64,
    /// When, in RFC 3339 and UTC, with milliseconds.
    pub time: String,
    /// What kind of thing.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Of which service, as `uvs status` names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Of which destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Of which check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// What a check said before; of a quorum `unknown`, where first results tell of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The weight now: of a destination, or what is in service of a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u64>,
    /// The weight before, or that of all destinations of a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Of a drain: so many connections and flows of UDP are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// Of a drain that is over: so many connections were ended at its deadline, with a reset for both ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<u64>,
    /// Of which virtual router, or sync group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vrrp: Option<String>,
    /// Which of both it is: `INSTANCE` or `GROUP`, as keepalived says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vrrp_type: Option<String>,
    /// What that is now, in keepalived's words, such as `MASTER`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Its priority now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Event {
    /// What happened, by whom and why, in words for people.
    pub fn what(&self) -> String {
        let weight = self.weight.unwrap_or_default();
        let what = match self.kind {
            Kind::Ready => "the director is ready".to_owned(),
            Kind::Stopping => "the director stops".to_owned(),
            Kind::CheckUp => "is up".to_owned(),
            Kind::CheckDown => "is down".to_owned(),
            Kind::CheckUnmade => "cannot be made".to_owned(),
            Kind::CheckUnchecked => "has no result".to_owned(),
            Kind::CheckOverdue => "gave no result in time and was given up".to_owned(),
            Kind::Certificate => "the certificate expires soon".to_owned(),
            Kind::DestinationUp => "in service".to_owned(),
            Kind::DestinationDown => "out of service".to_owned(),
            Kind::DestinationHeld => "held out of service".to_owned(),
            // Its first results have come.
            Kind::QuorumUp if self.from.is_some() => {
                format!("quorum held, {weight} of {}", self.of.unwrap_or_default())
            }
            Kind::QuorumUp => format!("quorum regained, {weight} of {}", self.of.unwrap_or_default()),
            Kind::QuorumDown => format!("quorum lost, {weight} of {}", self.of.unwrap_or_default()),
            Kind::BackupUp => "the backups serve".to_owned(),
            Kind::BackupDown => "the backups serve no longer".to_owned(),
            Kind::Weight => format!("weight {weight}"),
            Kind::WeightMended => format!("weight {weight} again, was {}", self.of.unwrap_or_default()),
            Kind::DrainStarted => format!("drains, {} left", connections(self.left)),
            Kind::DrainEnded => match self.reset {
                Some(reset) => format!("drained, {} left, {reset} reset", connections(self.left)),
                None => format!("drained, {} left", connections(self.left)),
            },
            Kind::Reloaded => "configuration reloaded".to_owned(),
            Kind::ReloadFailed => "configuration not reloaded".to_owned(),
            Kind::Notified => "told".to_owned(),
            Kind::NotifyFailed => "not told".to_owned(),
            Kind::NotifyDropped => "not told".to_owned(),
            Kind::VrrpMaster => "is active".to_owned(),
            Kind::VrrpBackup => "is a backup".to_owned(),
            Kind::VrrpFault => "takes no part".to_owned(),
            Kind::VrrpStop => "stops".to_owned(),
            Kind::VrrpDeleted => "is configured no more".to_owned(),
            Kind::VrrpLowerPriority => "stays active".to_owned(),
            Kind::VrrpPriority => format!("priority {}", self.priority.unwrap_or_default()),
            Kind::VrrpMismatch => "is configured otherwise on another router".to_owned(),
            Kind::Other => "something that this uvs does not know".to_owned(),
        };
        let mut text = what;
        if let Some(by) = &self.by {
            text.push_str(&format!(" ({by})"));
        }
        if let Some(reason) = &self.reason {
            text.push_str(&format!(": {reason}"));
        }
        text
    }

    /// When it happened, to what, and what: a line for people.
    pub fn line(&self) -> String {
        let mut words = vec![self.time.clone()];
        words.extend(self.service.clone());
        words.extend(self.destination.clone());
        words.extend(self.check.as_ref().map(|check| format!("check {check}")));
        words.extend(self.vrrp.as_ref().map(|name| match self.vrrp_type.as_deref() {
            Some("GROUP") => format!("vrrp group {name}"),
            _ => format!("vrrp {name}"),
        }));
        words.push(self.what());
        words.join(" ")
    }
}

fn connections(count: Option<u64>) -> String {
    match count.unwrap_or_default() {
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    }
}

/// What kind of thing happened. The names stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The director is ready.
    Ready,
    /// It stops.
    Stopping,
    /// A check is up.
    CheckUp,
    /// A check is down.
    CheckDown,
    /// A check cannot be made.
    CheckUnmade,
    /// A check has no result again.
    CheckUnchecked,
    /// A check gave no result in time.
    CheckOverdue,
    /// The certificate of a server expires soon.
    Certificate,
    /// A destination is in service.
    DestinationUp,
    /// A destination is out of service.
    DestinationDown,
    /// A destination that flaps is held out of service.
    DestinationHeld,
    /// Enough of a service is in service again.
    QuorumUp,
    /// Too little is.
    QuorumDown,
    /// The backups of a service serve.
    BackupUp,
    /// They do no longer.
    BackupDown,
    /// A destination has another weight.
    Weight,
    /// The director had another weight than it should, and has that now.
    WeightMended,
    /// A destination is to lose its connections.
    DrainStarted,
    /// That is over, or was taken back.
    DrainEnded,
    /// The configuration was read again and is in force.
    Reloaded,
    /// It is not, or in part only.
    ReloadFailed,
    /// A program was told what happened (`[[notify]]`).
    Notified,
    /// One could not be told, or failed.
    NotifyFailed,
    /// More happened than programs could be told of: what waited longest is left out.
    NotifyDropped,
    /// A virtual router is active.
    VrrpMaster,
    /// One is a backup.
    VrrpBackup,
    /// One takes no part.
    VrrpFault,
    /// One leaves, for the director stops.
    VrrpStop,
    /// One is configured no more.
    VrrpDeleted,
    /// Another router of a lower priority was active beside it.
    VrrpLowerPriority,
    /// The priority of one has changed.
    VrrpPriority,
    /// Another router of the same VRID is configured otherwise.
    VrrpMismatch,
    /// One that this client does not know.
    #[default]
    #[serde(other)]
    Other,
}

impl Kind {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::CheckUp => "check_up",
            Self::CheckDown => "check_down",
            Self::CheckUnmade => "check_unmade",
            Self::CheckUnchecked => "check_unchecked",
            Self::CheckOverdue => "check_overdue",
            Self::Certificate => "certificate",
            Self::DestinationUp => "destination_up",
            Self::DestinationDown => "destination_down",
            Self::DestinationHeld => "destination_held",
            Self::QuorumUp => "quorum_up",
            Self::QuorumDown => "quorum_down",
            Self::BackupUp => "backup_up",
            Self::BackupDown => "backup_down",
            Self::Weight => "weight",
            Self::WeightMended => "weight_mended",
            Self::DrainStarted => "drain_started",
            Self::DrainEnded => "drain_ended",
            Self::Reloaded => "reloaded",
            Self::ReloadFailed => "reload_failed",
            Self::Notified => "notified",
            Self::NotifyFailed => "notify_failed",
            Self::NotifyDropped => "notify_dropped",
            Self::VrrpMaster => "vrrp_master",
            Self::VrrpBackup => "vrrp_backup",
            Self::VrrpFault => "vrrp_fault",
            Self::VrrpStop => "vrrp_stop",
            Self::VrrpDeleted => "vrrp_deleted",
            Self::VrrpLowerPriority => "vrrp_lower_priority",
            Self::VrrpPriority => "vrrp_priority",
            Self::VrrpMismatch => "vrrp_mismatch",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use super::*;

    #[test]
    fn names_are_what_is_sent_and_unknown_ones_are_read() {
        for name in [
            "ready",
            "stopping",
            "check_up",
            "check_down",
            "check_unmade",
            "check_unchecked",
            "check_overdue",
            "certificate",
            "destination_up",
            "destination_down",
            "destination_held",
            "quorum_up",
            "quorum_down",
            "backup_up",
            "backup_down",
            "weight",
            "weight_mended",
            "drain_started",
            "drain_ended",
            "reloaded",
            "reload_failed",
            "notified",
            "notify_failed",
            "notify_dropped",
            "vrrp_master",
            "vrrp_backup",
            "vrrp_fault",
            "vrrp_stop",
            "vrrp_deleted",
            "vrrp_lower_priority",
            "vrrp_priority",
            "vrrp_mismatch",
        ] {
            let kind: Kind = serde_json::from_value(name.into()).unwrap();
            assert_eq!((kind.name(), kind == Kind::Other), (name, false));
        }
        let event: Event = serde_json::from_str(r#"{"number":7,"type":"eclipse","colour":"red"}"#).unwrap();
        assert_eq!(event, Event { number: 7, kind: Kind::Other, ..Event::default() });
        let text =
            serde_json::to_string(&Event { number: 1, kind: Kind::Ready, ..Event::default() }).unwrap();
        assert_eq!(text, r#"{"number":1,"time":"","type":"ready"}"#);
    }

    #[test]
    fn a_line_says_when_of_whom_what_and_why() {
        let event = Event {
            number: 3,
            time: "2026-11-30T22:04:05.678Z".into(),
            kind: Kind::CheckDown,
            service: Some("tcp 192.0.2.10:80".into()),
            destination: Some("10.0.0.1:80".into()),
            check: Some("web".into()),
            from: Some("up".into()),
            reason: Some("refused".into()),
            ..Event::default()
        };
        let text = "2026-11-30T22:04:05.678Z tcp 192.0.2.10:80 10.0.0.1:80 check web is down: refused";
        assert_eq!(event.line(), text);
        let event = Event {
            kind: Kind::Weight,
            check: None,
            reason: None,
            weight: Some(0),
            by: Some("health".into()),
            ..event
        };
        let text = "2026-11-30T22:04:05.678Z tcp 192.0.2.10:80 10.0.0.1:80 weight 0 (health)";
        assert_eq!(event.line(), text);
        let event = Event { kind: Kind::Ready, time: "then".into(), ..Event::default() };
        assert_eq!(event.line(), "then the director is ready");
    }
}
