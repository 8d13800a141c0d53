//! Quantities with units: one parser for `30s`, `7d`, `128Mi` and `99.9`.

use std::time::Duration;

/// Why a text is no quantity of the wanted kind; one sentence with an example.
pub type BadQuantity = String;

/// Gateway API duration (GEP-2257: `1h30m`, units h, m, s, ms, at most 5 digits each), and `d` for days.
pub fn parse_duration(text: &str) -> Result<Duration, BadQuantity> {
    let bad = || format!("\"{text}\" is no duration; write it like 30s, 1m30s, 500ms, 12h or 7d");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 5 {
            return Err(bad());
        }
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let unit = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(unit);
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        total += Duration::from_millis(number * milliseconds);
        rest = tail;
    }
    Ok(total)
}

/// Bytes as Kubernetes writes them: `1024`, `128Mi`, `1.5Gi`, `10k`, `2M`.
pub fn parse_bytes(text: &str) -> Result<u64, BadQuantity> {
    let bad = || format!("\"{text}\" is no amount of bytes; write it like 1024, 64Ki, 128Mi or 2G");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(bad()),
    };
    let thousandths = parse_thousandths(number).ok_or_else(bad)?;
    let product = u128::from(thousandths) * u128::from(factor) / 1_000;
    u64::try_from(product).map_err(|_| bad())
}

/// A share of a hundred in thousandths of a percent: `99.9` is 99 900. At most three decimals.
pub fn parse_percent(text: &str) -> Result<u32, BadQuantity> {
    let bad = || format!("\"{text}\" is no percentage; write it like 99.9 or 20%");
    let number = text.strip_suffix('%').unwrap_or(text);
    let thousandths = parse_thousandths(number).ok_or_else(bad)?;
    if thousandths > 100_000 { Err(bad()) } else { Ok(thousandths as u32) }
}

/// A decimal number with at most three decimals, in thousandths.
fn parse_thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("7d", Some(604_800_000)),
            ("1h30m", Some(5_400_000)),
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("", None),
            ("30", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("100000s", None),
            ("1y", None),
        ] {
            assert_eq!(
                parse_duration(text).ok().map(|d| d.as_millis() as u64),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn bytes_and_percentages() {
        for (text, expected) in [
            ("128Mi", Some(128 << 20)),
            ("1.5Gi", Some(3 << 29)),
            ("10k", Some(10_000)),
            ("7", Some(7)),
            ("99999999999999999999Ti", None),
            ("1Xi", None),
            ("", None),
            ("1.", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), expected, "{text:?}");
        }
        for (text, expected) in
            [("99.9", Some(99_900)), ("20%", Some(20_000)), ("100.001", None), ("x", None)]
        {
            assert_eq!(parse_percent(text).ok(), expected, "{text:?}");
        }
    }
}
