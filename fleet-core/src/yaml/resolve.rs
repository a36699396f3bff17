//! What a scalar means: the rules of kubectl's decoder (sigs.k8s.io/yaml 1.6.0, which is YAML 1.1 with Go's integers),
//! so that a file means here what it means to `kubectl apply`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

/// The value of a plain scalar without a tag.
///
/// # Errors
/// For `.inf` and `.nan`: JSON has no such numbers.
pub(super) fn plain(text: &str) -> Result<Value, String> {
    match text.as_bytes().first() {
        None => Ok(Value::Null),
        Some(b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~') => Ok(word(text)),
        Some(b'.') => match text {
            ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN" => Err(no_json_number(text)),
            _ => Ok(float(text).unwrap_or_else(|| text.into())),
        },
        Some(b'0'..=b'9' | b'+' | b'-') => match text {
            "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" => Err(no_json_number(text)),
            _ => {
                let digits = text.replace('_', "");
                Ok(integer(&digits).or_else(|| float(&digits)).unwrap_or_else(|| text.into()))
            }
        },
        Some(_) => Ok(text.into()),
    }
}

/// The value of a scalar with an explicit tag, named by its part after `tag:yaml.org,2002:`. Tags of other kinds, and
/// `!`, mean a string.
///
/// # Errors
/// When the text cannot be read as the tag says. The reason does not quote it.
pub(super) fn tagged(tag: Option<&str>, text: &str) -> Result<Value, String> {
    let wrong = |tag: &str| format!("the value cannot be read as !!{tag}");
    match tag {
        Some(tag @ "int") => match plain(text) {
            Ok(Value::Number(number)) if integer(&text.replace('_', "")).is_some() => {
                Ok(Value::Number(number))
            }
            _ => Err(wrong(tag)),
        },
        Some(tag @ "float") => match plain(text) {
            Ok(Value::Number(number)) => Ok(Value::Number(number)),
            _ => Err(wrong(tag)),
        },
        Some(tag @ "bool") => match plain(text) {
            Ok(Value::Bool(flag)) => Ok(Value::Bool(flag)),
            _ => Err(wrong(tag)),
        },
        Some(tag @ "null") => match plain(text) {
            Ok(Value::Null) => Ok(Value::Null),
            _ => Err(wrong(tag)),
        },
        Some("binary") => {
            let text: String = text.chars().filter(|char| !char.is_ascii_whitespace()).collect();
            let bytes =
                STANDARD.decode(text).map_err(|_| "the value of !!binary is not base64".to_owned())?;
            let text = String::from_utf8(bytes)
                .map_err(|_| "the value of !!binary is not UTF-8 text, which JSON cannot hold".to_owned())?;
            Ok(Value::String(text))
        }
        _ => Ok(text.into()),
    }
}

/// What a value is as a key: JSON has only strings.
pub(super) fn key(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err("null cannot be a key; quote it".to_owned()),
        Value::Array(_) | Value::Object(_) => Err("a list or mapping cannot be a key".to_owned()),
    }
}

fn no_json_number(text: &str) -> String {
    format!("{text} is a number that JSON does not have; quote it if it is meant as text")
}

fn word(text: &str) -> Value {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => true.into(),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => false.into(),
        "~" | "null" | "Null" | "NULL" => Value::Null,
        _ => text.into(),
    }
}

/// Go's `strconv.ParseInt(text, 0, 64)`, and `ParseUint` beyond it.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        // The smallest i64 has no positive counterpart.
        0_i64.checked_sub_unsigned(magnitude).map(Value::from)
    } else if text.starts_with('+') && i64::try_from(magnitude).is_err() {
        None
    } else {
        Some(magnitude.into())
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`. A whole number becomes an integer, as in Go's JSON: an integer
/// field takes `1e3`.
fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let lawful = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => !mantissa.is_empty() && digits(mantissa),
    };
    if !lawful || exponent.is_some_and(|exponent| exponent.is_empty() || !digits(exponent)) {
        return None;
    }
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if number.fract() == 0.0 && number.abs() < BEYOND {
        #[allow(clippy::cast_possible_truncation)]
        return Some((number as i64).into());
    }
    Number::from_f64(number).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What kubectl's decoder gave, one by one.
    #[test]
    fn plain_scalars_are_what_kubectl_sees() {
        for (texts, expected) in [
            ("yes Yes YES on On ON y Y true True TRUE", json!(true)),
            ("no No NO off Off OFF n N false False FALSE", json!(false)),
            ("~ null Null NULL", Value::Null),
            ("0755", json!(493)),
            ("0o7 07 7 +7 7. 7.0 0.7e1 0b111 0x7 0X7", json!(7)),
            ("-0o7 -7 -0x7 -0b111", json!(-7)),
            ("08", json!(8)),
            ("09.5", json!(9.5)),
            ("0x1F 0X1f +0x1F 0x_1F", json!(31)),
            ("1_000 1e3 1E3 1e+3 1.e3 1000.0", json!(1000)),
            ("1__0", json!(10)),
            ("1_", json!(1)),
            ("0 00 -0 -0.0 0. 0e0", json!(0)),
            (".5 +.5", json!(0.5)),
            ("-.5", json!(-0.5)),
            (".5e1", json!(5)),
            ("0.1_5", json!(0.15)),
            ("1_0.5", json!(10.5)),
            ("1e-7", json!(1e-7)),
            ("9223372036854775807", json!(i64::MAX)),
            ("9223372036854775808", json!(9_223_372_036_854_775_808_u64)),
            ("18446744073709551615", json!(u64::MAX)),
            ("18446744073709551616", json!(18_446_744_073_709_551_616.0)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("-9223372036854775809", json!(-9_223_372_036_854_775_809.0)),
            ("1e21", json!(1e21)),
            ("0777777777777777777777777", json!(7.777777777777778e+23)),
        ] {
            for text in texts.split(' ') {
                assert_eq!(plain(text), Ok(expected.clone()), "{text}");
            }
        }
        assert_eq!(plain(""), Ok(Value::Null));
        for text in
            "yEs tRue nULL _1 1e400 12:30:45 1:30 2001-01-01 2001-01-01T00:00:00Z = << . + 0b 0x 0o8 0b12 \
            0x1p4 0xfffffffffffffffff Infinity inf NaN .5_0 +-5 0x-1 --1 e5 .e5 1e 1e+ a 5a"
                .split(' ')
                .filter(|text| !text.is_empty())
        {
            assert_eq!(plain(text), Ok(json!(text)), "{text}");
        }
        for text in [".inf", "-.inf", "+.INF", ".nan"] {
            assert!(plain(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_explicit_tag_wins() {
        for (tag, text, expected) in [
            ("str", "5", json!("5")),
            ("str", "", json!("")),
            ("int", "5", json!(5)),
            ("int", "0x1F", json!(31)),
            ("float", "5", json!(5)),
            ("float", "1.5", json!(1.5)),
            ("bool", "yes", json!(true)),
            ("null", "", Value::Null),
            ("binary", "aGVs\nbG8=", json!("hello")),
            ("timestamp", "2001-01-01", json!("2001-01-01")),
        ] {
            assert_eq!(tagged(Some(tag), text), Ok(expected), "!!{tag} {text}");
        }
        assert_eq!(tagged(None, "5"), Ok(json!("5")));
        for (tag, text) in [
            ("int", "x"),
            ("int", "5.5"),
            ("float", "x"),
            ("bool", "x"),
            ("null", "x"),
            ("binary", "*"),
            ("binary", "/w=="),
        ] {
            let error = tagged(Some(tag), text).unwrap_err();
            assert!(error.contains(tag), "{error}");
        }
    }
}
