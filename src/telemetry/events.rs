//! The numbers of events in the process log, by which a monitor tells them apart.

use super::alarms::AlarmKind;

/// Something that happened, besides alarms.
///
/// 1005, 1006 and 1008 are the numbers of Microsoft's Exchange mitigation service, for monitors that know them: it
/// counts an applied mitigation, a success and an error by them. From 1010 on the numbers are this program's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// An alarm's condition no longer holds.
    AlarmEnded,
    /// A mitigation only reports what it would do.
    Audit,
    /// A mitigation waits for somebody's approval.
    AwaitingApproval,
    /// A mitigation was blocked here.
    Blocked,
    /// A mitigation is off for this server or organisation.
    Disabled,
    /// A mitigation's effect is not the one that it should have.
    Drifted,
    /// Somebody added or deleted an exception from a mitigation.
    ExceptionChanged,
    /// An exception is over.
    ExceptionLapsed,
    /// An exception will soon be over.
    ExceptionLapsing,
    /// A mitigation could not be put in force.
    Failed,
    /// A feed's document was fetched and taken.
    FeedTaken,
    /// A mitigation was put in force.
    MitigationApplied,
    /// A mitigation is not for what runs here.
    NotApplicable,
    /// A mitigation is no longer in force.
    Removed,
    /// Every server is fixed, and a mitigation may be retired.
    Retirable,
}

impl Event {
    /// Its number, which never changes.
    pub const fn number(self) -> u16 {
        match self {
            Self::MitigationApplied => 1005,
            Self::FeedTaken => 1006,
            Self::Blocked => 1010,
            Self::Removed => 1011,
            Self::NotApplicable => 1012,
            Self::AwaitingApproval => 1013,
            Self::Drifted => 1015,
            Self::Audit => 1040,
            Self::Disabled => 1041,
            Self::Failed => 1042,
            Self::Retirable => 1043,
            Self::ExceptionChanged => 1046,
            Self::ExceptionLapsing => 1047,
            Self::ExceptionLapsed => 1048,
            Self::AlarmEnded => 1049,
        }
    }

    /// Every event, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::MitigationApplied,
        Self::FeedTaken,
        Self::Blocked,
        Self::Removed,
        Self::NotApplicable,
        Self::AwaitingApproval,
        Self::Drifted,
        Self::Audit,
        Self::Disabled,
        Self::Failed,
        Self::Retirable,
        Self::ExceptionChanged,
        Self::ExceptionLapsing,
        Self::ExceptionLapsed,
        Self::AlarmEnded,
    ];
}

impl AlarmKind {
    /// The number of its event in the process log, which never changes.
    ///
    /// 1008 is what Microsoft's service writes when it brings no mitigations home.
    pub const fn event(self) -> u16 {
        match self {
            Self::Unreachable => 1008,
            Self::Stale => 1014,
            Self::SignatureRefused => 1016,
            Self::SignerChanged => 1017,
            Self::Rollback => 1018,
            Self::Equivocation => 1019,
            Self::DoesNotCompile => 1020,
            Self::VectorsFailed => 1021,
            Self::Refused => 1022,
            Self::WrongFeed => 1023,
            Self::Future => 1024,
            Self::RootRefused => 1025,
            Self::RootExpired => 1026,
            Self::Conflict => 1027,
            Self::UnknownContent => 1028,
            Self::State => 1029,
            Self::Certificate => 1030,
            Self::AdminUnavailable => 1031,
            Self::Drifted => 1032,
            Self::Sidecar => 1033,
        }
    }

    /// Every kind, in the order of their events.
    pub const ALL: [Self; 20] = [
        Self::Unreachable,
        Self::Stale,
        Self::SignatureRefused,
        Self::SignerChanged,
        Self::Rollback,
        Self::Equivocation,
        Self::DoesNotCompile,
        Self::VectorsFailed,
        Self::Refused,
        Self::WrongFeed,
        Self::Future,
        Self::RootRefused,
        Self::RootExpired,
        Self::Conflict,
        Self::UnknownContent,
        Self::State,
        Self::Certificate,
        Self::AdminUnavailable,
        Self::Drifted,
        Self::Sidecar,
    ];
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_distinct_and_in_range() {
        let events = Event::ALL.map(Event::number);
        let alarms = AlarmKind::ALL.map(AlarmKind::event);
        assert!(events.is_sorted() && alarms.is_sorted());
        let all: BTreeSet<u16> = events.into_iter().chain(alarms).collect();
        assert_eq!(all.len(), events.len() + alarms.len());
        for number in all {
            assert!(
                matches!(number, 1005 | 1006 | 1008 | 1010..1050),
                "{number}"
            );
        }
    }
}
