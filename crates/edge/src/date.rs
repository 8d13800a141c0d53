//! The Date field (RFC 9110 section 5.6.7), written once a second and not for each response.

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const BYTES: usize = 29;

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub(crate) fn format(now: SystemTime) -> [u8; BYTES] {
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = seconds / 86_400;
    let (year, month, day) = civil_date(days);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    two_digits(&mut text[5..7], day);
    let month = month as usize * 3;
    text[8..11].copy_from_slice(&MONTHS[month - 3..month]);
    two_digits(&mut text[12..14], year / 100);
    two_digits(&mut text[14..16], year % 100);
    two_digits(&mut text[17..19], seconds / 3_600 % 24);
    two_digits(&mut text[20..22], seconds / 60 % 60);
    two_digits(&mut text[23..25], seconds % 60);
    text
}

fn two_digits(out: &mut [u8], number: u64) {
    out[0] = b'0' + (number / 10 % 10) as u8;
    out[1] = b'0' + (number % 10) as u8;
}

/// Year, month and day (both from 1) of a day counted from 1970-01-01, in the Gregorian calendar. Counts years from
/// March, so that the leap day is the last of its year.
pub fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let shifted = days + 719_468;
    let era = shifted / DAYS_IN_400_YEARS;
    let day_of_era = shifted % DAYS_IN_400_YEARS;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            let text = format(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(std::str::from_utf8(&text), Ok(expected));
        }
    }
}
