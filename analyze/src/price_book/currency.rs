//! Currencies by ISO 4217 code.

use std::fmt;

use super::PriceBookError;

/// Active codes of ISO 4217 that have two decimals.
const TWO_DIGITS: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF \
    CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS \
    INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD \
    NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP \
    SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG";
/// Those without decimals.
const NO_DIGITS: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
/// Those with three decimals.
const THREE_DIGITS: &str = "BHD IQD JOD KWD LYD OMR TND";
/// What people write instead.
const NAMES: [(&str, &str); 9] = [
    ("$", "USD"),
    ("US$", "USD"),
    ("DOLLAR", "USD"),
    ("€", "EUR"),
    ("EURO", "EUR"),
    ("£", "GBP"),
    ("¥", "JPY"),
    ("YEN", "JPY"),
    ("RMB", "CNY"),
];

/// A currency by its code, such as `USD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Currency {
    code: &'static str,
    digits: u32,
}

impl Currency {
    /// The currency of an ISO 4217 code.
    ///
    /// # Errors
    /// [`PriceBookError::Currency`] with a hint where the code is not an active one.
    pub fn parse(code: &str) -> Result<Self, PriceBookError> {
        let known = all().find(|currency| currency.code == code);
        known.ok_or_else(|| PriceBookError::Currency { code: code.to_owned(), hint: hint(code) })
    }

    /// The code.
    pub fn as_str(self) -> &'static str {
        self.code
    }

    /// Decimals of its smallest unit: 2 for cents, 0 for yen.
    pub fn digits(self) -> u32 {
        self.digits
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

fn all() -> impl Iterator<Item = Currency> {
    let lists = [(TWO_DIGITS, 2), (NO_DIGITS, 0), (THREE_DIGITS, 3)];
    lists.into_iter().flat_map(|(codes, digits)| codes.split_whitespace().map(move |code| Currency { code, digits }))
}

fn hint(code: &str) -> String {
    let upper = code.trim().to_uppercase();
    let named = NAMES.iter().find(|(name, _)| *name == upper).map(|(_, code)| *code);
    let exact = all().find(|currency| currency.code == upper).map(|currency| currency.code);
    if let Some(code) = named.or(exact) {
        return format!("write {code:?}");
    }
    let near: Vec<&str> = all().map(|currency| currency.code).filter(|code| differ_by_one(code, &upper)).collect();
    match near.as_slice() {
        [] => "write an ISO 4217 code of three capital letters, such as \"USD\" or \"EUR\"".to_owned(),
        near => format!("near it are {}", near.join(", ")),
    }
}

fn differ_by_one(a: &str, b: &str) -> bool {
    a.chars().count() == b.chars().count() && a.chars().zip(b.chars()).filter(|(a, b)| a != b).count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_decimals() {
        for (code, digits) in [("USD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3)] {
            assert_eq!(Currency::parse(code).unwrap().digits(), digits);
        }
        assert_eq!(all().count(), all().map(|one| one.code).collect::<std::collections::BTreeSet<_>>().len());
        assert!(all().all(|currency| currency.code.len() == 3));
    }

    #[test]
    fn an_unknown_code_gets_a_hint() {
        let message = |code| Currency::parse(code).unwrap_err().to_string();
        for (code, hint) in [("usd", "write \"USD\""), ("€", "write \"EUR\""), ("US", "three capital letters")] {
            assert!(message(code).contains(hint), "{}", message(code));
        }
        assert!(message("EUS").contains("EUR"));
    }
}
