//! Wall-clock time as a value.

use std::fmt;
use std::time::Duration;

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted; shown as RFC 3339 in UTC.
///
/// The clock itself is read in `app` and `cli` only; every other part takes the time as an argument.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnixTime(u64);

impl UnixTime {
    /// Wraps a count of seconds.
    pub const fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The count of seconds.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// Reads a time in RFC 3339 form, in UTC and whole seconds: `2026-11-23T09:00:00Z`, from 1970 on.
    ///
    /// Exactly the form in which it is shown; `None` for anything else, so that a time has one spelling.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        const FORM: &[u8; 20] = b"0000-00-00T00:00:00Z";
        let fits = text.len() == FORM.len()
            && text.bytes().zip(FORM).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                other => byte == *other,
            });
        if !fits {
            return None;
        }
        let number = |from: usize, to: usize| text[from..to].parse::<u64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if year < 1970 || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        // Day count of a civil date, the inverse of what is shown below.
        let shifted_year = year - u64::from(month <= 2);
        let shifted_month = (month + 9) % 12;
        let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
        let day_of_year = (153 * shifted_month + 2) / 5 + day.checked_sub(1)?;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let time = Self(days * 86_400 + hour * 3_600 + minute * 60 + second);
        // A day that its month does not have is shown as one of the next.
        (time.to_string() == text).then_some(time)
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // Civil date from a day count, in eras of 400 years that begin on March 1st.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_rfc_3339() {
        let shown = |seconds| UnixTime::new(seconds).to_string();
        assert_eq!(shown(0), "1970-01-01T00:00:00Z");
        assert_eq!(shown(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(shown(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(shown(1_631_724_128), "2021-09-15T16:42:08Z");
        assert_eq!(shown(4_102_444_800), "2100-01-01T00:00:00Z");
    }
    #[test]
    fn rfc_3339_reads_back() {
        for seconds in [
            0,
            59,
            951_782_399,
            951_782_400,
            1_631_724_128,
            253_402_300_799,
        ] {
            let time = UnixTime::new(seconds);
            assert_eq!(UnixTime::parse_rfc3339(&time.to_string()), Some(time));
        }
        for text in [
            "",
            "2026-11-23",
            "2026-11-23T09:00:00",
            "2026-11-23T09:00:00+00:00",
            "2026-11-23T09:00:00.0Z",
            "2026-11-23t09:00:00z",
            "2026-11-23 09:00:00Z",
            "2026-11-23T09:00:60Z",
            "2026-11-23T09:60:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-31T09:00:00Z",
            "2026-02-29T09:00:00Z",
            "2026-00-23T09:00:00Z",
            "2026-13-23T09:00:00Z",
            "2026-11-00T09:00:00Z",
            "1969-12-31T23:59:59Z",
            "+026-11-23T09:00:00Z",
            "12026-11-23T09:00:00Z",
            "2026-11-23T09:00:0\u{0660}Z",
        ] {
            assert_eq!(UnixTime::parse_rfc3339(text), None, "{text}");
        }
    }
}
