//! Durations, sizes, dates and numbers in words. Independent of time zone and locale, so that server and browser agree.

/// `3 s`, `1 min 05 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let total = seconds.max(0.0).round() as u64;
    match total {
        0..60 => format!("{total} s"),
        60..3600 => format!("{} min {:02} s", total / 60, total % 60),
        _ => format!("{} h {:02} min", total / 3600, total % 3600 / 60),
    }
}

/// Seconds a picture took, with a tenth where it matters: `0.8 s`, `2.4 s`, `75 s` as `1 min 15 s`.
pub fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1} s") } else { duration(seconds) }
}

/// `712 B`, `340 KB`, `4.2 MB`, `1.3 GB`, in powers of 1000 as files are sold.
pub fn bytes(count: u64) -> String {
    let value = count as f64;
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.0} KB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.1} GB", value / 1e9),
    }
}

/// `640 MiB`, `3.4 GiB`.
pub fn mib(count: f64) -> String {
    if count < 1024.0 { format!("{count:.0} MiB") } else { format!("{:.1} GiB", count / 1024.0) }
}

/// A day in UTC, `2 March 2026`, from seconds since 1970.
pub fn date(unix_seconds: i64) -> String {
    let (year, month, day) = civil_from_days(unix_seconds.div_euclid(86_400));
    format!("{day} {} {year}", MONTHS[month - 1])
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// Days since 1970-01-01 to year, month (1..=12) and day, in the Gregorian calendar.
/// Years are counted from March, so that the leap day is the last of its year.
fn civil_from_days(days: i64) -> (i64, usize, i64) {
    let since_0000_03_01 = days + 719_468;
    let era = since_0000_03_01.div_euclid(146_097);
    let day_of_era = since_0000_03_01.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month as usize, day)
}

/// A number as people write it: `1`, `0.75`, `3.5`, `0.0002`, never `1.0000` or `1e-9`.
pub fn number(value: f64) -> String {
    if value.abs() < 1e-3 {
        return value.to_string();
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1 picture`, `3 pictures`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A rate as a whole percentage: `63 %`.
pub fn percent(rate: f64) -> String {
    format!("{:.0} %", rate * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_naturally() {
        assert_eq!(duration(2.6), "3 s");
        assert_eq!(duration(65.0), "1 min 05 s");
        assert_eq!(duration(7_800.0), "2 h 10 min");
        assert_eq!(duration(-1.0), "0 s");
        assert_eq!(seconds(2.44), "2.4 s");
    }

    #[test]
    fn sizes_keep_two_digits() {
        assert_eq!(bytes(712), "712 B");
        assert_eq!(bytes(4_230_000), "4.2 MB");
        assert_eq!(mib(640.2), "640 MiB");
        assert_eq!(mib(3_482.0), "3.4 GiB");
    }

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(date(0), "1 January 1970");
        assert_eq!(date(951_782_400), "29 February 2000");
        assert_eq!(date(951_868_800), "1 March 2000");
        assert_eq!(date(1_772_409_600), "2 March 2026");
    }

    #[test]
    fn numbers_lose_their_trailing_zeros() {
        assert_eq!(number(1.0), "1");
        assert_eq!(number(0.750), "0.75");
        assert_eq!(number(0.0001), "0.0001");
        assert_eq!(number(100.0), "100");
        assert_eq!((number(0.0), number(1e-9)), ("0".into(), "0.000000001".into()));
    }
}
