//! Amounts of memory as Kubernetes writes them: `256Mi`, `1G`, `1048576`.

/// Why a text is not an amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuantityError {
    /// It has no digits, or something between or behind them that is not a known suffix.
    #[error("write whole bytes, or a number with one of the suffixes Ki, Mi, Gi, Ti, k, M, G, T")]
    Form,
    /// It is zero.
    #[error("it must be more than zero")]
    Zero,
    /// It does not fit in 64 bits.
    #[error("it is too large")]
    Range,
}

/// Bytes per unit, by suffix (a subset of Kubernetes' `resource.Quantity`: no fractions).
const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
];

/// Reads an amount of memory, in bytes.
///
/// # Errors
///
/// When it has another form, is zero, or does not fit.
pub(crate) fn parse(text: &str) -> Result<u64, QuantityError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == suffix).ok_or(QuantityError::Form)?;
    if number.is_empty() {
        return Err(QuantityError::Form);
    }
    let number: u64 = number.parse().map_err(|_| QuantityError::Range)?;
    match number.checked_mul(*unit) {
        Some(0) => Err(QuantityError::Zero),
        Some(bytes) => Ok(bytes),
        None => Err(QuantityError::Range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_writes() {
        for (text, bytes) in [
            ("1", 1),
            ("1048576", 1 << 20),
            ("64Ki", 64 << 10),
            ("256Mi", 256 << 20),
            ("2Gi", 2 << 30),
            ("1Ti", 1 << 40),
            ("5k", 5_000),
            ("100M", 100_000_000),
            ("1G", 1_000_000_000),
            ("1T", 1_000_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        use QuantityError::{Form, Range, Zero};
        for (text, error) in [
            ("", Form),
            ("Mi", Form),
            ("-1", Form),
            ("+1", Form),
            (" 1", Form),
            ("1 Mi", Form),
            ("1.5Gi", Form),
            ("256mi", Form),
            ("256MiB", Form),
            ("1e3", Form),
            ("0x10", Form),
            ("0", Zero),
            ("0Gi", Zero),
            ("18446744073709551616", Range),
            ("16777216Ti", Range),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
