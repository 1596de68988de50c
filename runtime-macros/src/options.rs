//! What stands in the brackets of the attribute: parsed, checked, and turned into calls of the builder.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, LitBool, LitInt, LitStr, Path, Result, Token};

const KNOWN: &str = "known options: `workers`, `name`, `grace`, `settle`, `on_leak`, `quiescence`, `baseline`, \
                     `crate`, and in tests `paused`, `seed`, `schedules`";

/// The options of one attribute, each checked.
#[derive(Default)]
pub(crate) struct Options {
    workers: Option<LitInt>,
    name: Option<LitStr>,
    grace: Option<Nanos>,
    settle: Option<Nanos>,
    on_leak: Option<OnLeak>,
    quiescence: Option<Quiescence>,
    baseline: Option<LitStr>,
    paused: Option<Paused>,
    seed: Option<LitInt>,
    schedules: Option<LitInt>,
    krate: Option<Path>,
}

/// A duration and where it was written.
struct Nanos {
    nanos: u64,
    span: Span,
}

/// Whether the clock is paused, and where that was written.
struct Paused {
    paused: bool,
    span: Span,
}

/// After how long without anything that can run to give up; `None` is never.
struct Quiescence {
    nanos: Option<u64>,
    span: Span,
}

/// A variant of the runtime's own `OnLeak`, and where it was written.
struct OnLeak {
    variant: &'static str,
    span: Span,
}

impl Options {
    /// The path to the leakfree crate.
    pub(crate) fn krate(&self) -> TokenStream {
        match &self.krate {
            Some(path) => quote!(#path),
            None => quote!(::leakfree),
        }
    }

    /// Refuses what only tests may have.
    pub(crate) fn check_main(self) -> Result<Options> {
        if let Some(Paused { span, .. }) = &self.paused {
            return Err(Error::new(
                *span,
                "`paused` is for tests: `#[leakfree::test(paused)]`; elsewhere call `Builder::start_paused`",
            ));
        }
        if let Some(seed) = &self.seed {
            return Err(Error::new(
                seed.span(),
                "`seed` is for tests: `#[leakfree::test(seed = 1)]`; elsewhere call `Builder::seed`",
            ));
        }
        if let Some(schedules) = &self.schedules {
            return Err(Error::new(
                schedules.span(),
                "`schedules` is for tests: `#[leakfree::test(schedules = 100)]`",
            ));
        }
        Ok(self)
    }

    /// Refuses what does not go together in a test.
    pub(crate) fn check_test(self) -> Result<Options> {
        if self.simulation().is_none() {
            return Ok(self);
        }
        if let Some(Paused { paused: false, span }) = &self.paused {
            return Err(Error::new(
                *span,
                "a test with `seed` or `schedules` is a simulation, whose clock is always paused: remove `paused = false`",
            ));
        }
        if let Some(Nanos { span, .. }) = &self.settle {
            return Err(Error::new(
                *span,
                "a test with `seed` or `schedules` is a simulation, which settles without waiting: remove `settle`",
            ));
        }
        Ok(self)
    }

    /// The first seed and the number of schedules, if the test is a simulation.
    pub(crate) fn simulation(&self) -> Option<(TokenStream, TokenStream)> {
        if self.seed.is_none() && self.schedules.is_none() {
            return None;
        }
        let seed = self.seed.as_ref().map_or_else(|| quote!(0), |seed| quote!(#seed));
        let schedules = self.schedules.as_ref().map_or_else(|| quote!(1), |schedules| quote!(#schedules));
        Some((seed, schedules))
    }

    /// An expression that makes the builder. What was not given is not called, so that the builder's defaults hold.
    pub(crate) fn builder(&self) -> TokenStream {
        let krate = self.krate();
        let mut builder = quote!(#krate::runtime::Builder::new());
        if let Some(workers) = &self.workers {
            builder.extend(quote!(.workers(#workers)));
        }
        if let Some(name) = &self.name {
            builder.extend(quote!(.name(#name)));
        }
        if let Some(Nanos { nanos, span }) = &self.grace {
            builder.extend(quote_spanned!(*span=> .grace(::core::time::Duration::from_nanos(#nanos))));
        }
        if let Some(Nanos { nanos, span }) = &self.settle {
            builder.extend(quote_spanned!(*span=> .settle(::core::time::Duration::from_nanos(#nanos))));
        }
        if let Some(OnLeak { variant, span }) = &self.on_leak {
            let variant = Ident::new(variant, *span);
            builder.extend(quote!(.on_leak(#krate::runtime::OnLeak::#variant)));
        }
        if let Some(Quiescence { nanos, span }) = &self.quiescence {
            let patience = match nanos {
                Some(nanos) => quote!(::core::time::Duration::from_nanos(#nanos)),
                None => quote!(::core::option::Option::None),
            };
            builder.extend(quote_spanned!(*span=> .quiescence(#patience)));
        }
        if let Some(baseline) = &self.baseline {
            builder.extend(quote!(.baseline(#baseline)));
        }
        if let Some(Paused { paused, span }) = &self.paused {
            builder.extend(quote_spanned!(*span=> .start_paused(#paused)));
        }
        builder
    }
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Options> {
        let mut options = Options::default();
        while !input.is_empty() {
            if !input.peek(Ident::peek_any) {
                return Err(input.error(format!("expected `option = value`; {KNOWN}")));
            }
            // `crate` is a keyword, and an option all the same.
            let key = Ident::parse_any(input)?;
            let word = key.to_string();
            match word.as_str() {
                "workers" => once(&key, &mut options.workers, || workers(value(&key, input)?))?,
                "name" => once(&key, &mut options.name, || string(&key, value(&key, input)?))?,
                "grace" => once(&key, &mut options.grace, || duration(&key, value(&key, input)?))?,
                "settle" => once(&key, &mut options.settle, || duration(&key, value(&key, input)?))?,
                "on_leak" => once(&key, &mut options.on_leak, || on_leak(value(&key, input)?))?,
                "quiescence" => {
                    once(&key, &mut options.quiescence, || quiescence(&key, value(&key, input)?))?;
                }
                "baseline" => once(&key, &mut options.baseline, || string(&key, value(&key, input)?))?,
                "paused" => once(&key, &mut options.paused, || paused(&key, input))?,
                "seed" => once(&key, &mut options.seed, || seed(value(&key, input)?))?,
                "schedules" => once(&key, &mut options.schedules, || schedules(value(&key, input)?))?,
                "crate" => once(&key, &mut options.krate, || Path::parse_mod_style(value(&key, input)?))?,
                _ => return Err(Error::new(key.span(), format!("unknown option `{word}`; {KNOWN}"))),
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

/// Fills the slot of an option, unless it was filled before.
fn once<T>(key: &Ident, slot: &mut Option<T>, parse: impl FnOnce() -> Result<T>) -> Result<()> {
    if slot.is_some() {
        return Err(Error::new(key.span(), format!("the option `{key}` is given twice")));
    }
    *slot = Some(parse()?);
    Ok(())
}

/// Passes the `=` after a key.
fn value<'a>(key: &Ident, input: ParseStream<'a>) -> Result<ParseStream<'a>> {
    if input.parse::<Token![=]>().is_err() {
        return Err(Error::new(key.span(), format!("the option `{key}` needs a value: `{key} = ...`")));
    }
    Ok(input)
}

fn workers(input: ParseStream<'_>) -> Result<LitInt> {
    const MESSAGE: &str = "`workers` is a whole number, at least 1";
    let literal: LitInt = input.parse().map_err(|error| Error::new(error.span(), MESSAGE))?;
    match literal.base10_parse::<usize>() {
        Ok(1..) => Ok(literal),
        Ok(0) | Err(_) => Err(Error::new(literal.span(), MESSAGE)),
    }
}

fn seed(input: ParseStream<'_>) -> Result<LitInt> {
    const MESSAGE: &str = "`seed` is a whole number of 64 bits";
    let literal: LitInt = input.parse().map_err(|error| Error::new(error.span(), MESSAGE))?;
    match literal.base10_parse::<u64>() {
        Ok(_) => Ok(literal),
        Err(_) => Err(Error::new(literal.span(), MESSAGE)),
    }
}

fn schedules(input: ParseStream<'_>) -> Result<LitInt> {
    const MESSAGE: &str = "`schedules` is a whole number, at least 1";
    let literal: LitInt = input.parse().map_err(|error| Error::new(error.span(), MESSAGE))?;
    match literal.base10_parse::<u64>() {
        Ok(1..) => Ok(literal),
        Ok(0) | Err(_) => Err(Error::new(literal.span(), MESSAGE)),
    }
}

fn string(key: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    input.parse().map_err(|error| Error::new(error.span(), format!("`{key}` is a string: `{key} = \"...\"`")))
}

/// A duration, or `off`.
fn quiescence(key: &Ident, input: ParseStream<'_>) -> Result<Quiescence> {
    let word: Option<Ident> = input.parse()?;
    match word {
        None => {
            let Nanos { nanos, span } = duration(key, input)?;
            if nanos == 0 {
                return Err(Error::new(
                    span,
                    "`quiescence` is longer than zero; `quiescence = off` is never",
                ));
            }
            Ok(Quiescence { nanos: Some(nanos), span })
        }
        Some(word) if word == "off" => Ok(Quiescence { nanos: None, span: word.span() }),
        Some(word) => {
            Err(Error::new(word.span(), "`quiescence` is a duration in a string, such as \"2s\", or `off`"))
        }
    }
}

fn duration(key: &Ident, input: ParseStream<'_>) -> Result<Nanos> {
    let message = format!(
        "`{key}` is a whole number and a unit (ns, us, ms, s, min) in a string, such as \"5s\" or \"200ms\""
    );
    let literal: LitStr = input.parse().map_err(|error| Error::new(error.span(), &message))?;
    match nanos(&literal.value()) {
        Some(nanos) => Ok(Nanos { nanos, span: literal.span() }),
        None => Err(Error::new(literal.span(), &message)),
    }
}

/// Reads a duration such as `200ms`; `None` if it is no duration, or too long for 64 bits.
fn nanos(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let unit: u64 = match unit.trim_start() {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "min" => 60_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// `paused`, alone or with a value.
fn paused(key: &Ident, input: ParseStream<'_>) -> Result<Paused> {
    let span = key.span();
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(Paused { paused: true, span });
    }
    const MESSAGE: &str = "`paused` stands alone, or is `true` or `false`";
    let literal: LitBool = value(key, input)?.parse().map_err(|error| Error::new(error.span(), MESSAGE))?;
    Ok(Paused { paused: literal.value, span })
}

fn on_leak(input: ParseStream<'_>) -> Result<OnLeak> {
    const MESSAGE: &str = "`on_leak` is `report` or `fail`";
    let (word, span) = if input.peek(LitStr) {
        let literal: LitStr = input.parse()?;
        (literal.value(), literal.span())
    } else {
        let ident = input.call(Ident::parse_any).map_err(|error| Error::new(error.span(), MESSAGE))?;
        (ident.to_string(), ident.span())
    };
    match word.as_str() {
        "report" => Ok(OnLeak { variant: "Report", span }),
        "fail" => Ok(OnLeak { variant: "Fail", span }),
        _ => Err(Error::new(span, MESSAGE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_nanos(text: &str, expected: Option<u64>) {
        assert_eq!(nanos(text), expected, "{text:?}");
    }

    #[test]
    fn durations() {
        check_nanos("5s", Some(5_000_000_000));
        check_nanos("200ms", Some(200_000_000));
        check_nanos(" 7 us ", Some(7_000));
        check_nanos("1ns", Some(1));
        check_nanos("2min", Some(120_000_000_000));
        check_nanos("0s", Some(0));
        check_nanos("", None);
        check_nanos("5", None);
        check_nanos("s", None);
        check_nanos("1.5s", None);
        check_nanos("-1s", None);
        check_nanos("5sec", None);
        check_nanos("99999999999999999999s", None);
        check_nanos("18446744073709551615s", None);
    }

    #[track_caller]
    fn check_builder(options: &str, expected: &str) {
        let options: Options = syn::parse_str(options).unwrap();
        assert_eq!(options.builder().to_string().replace(' ', ""), expected);
    }

    #[test]
    fn builders() {
        check_builder("", "::leakfree::runtime::Builder::new()");
        check_builder("workers = 2,", "::leakfree::runtime::Builder::new().workers(2)");
        check_builder("crate = a::b, name = \"n\"", "a::b::runtime::Builder::new().name(\"n\")");
        check_builder(
            "grace = \"1ms\", settle = \"2us\"",
            "::leakfree::runtime::Builder::new().grace(::core::time::Duration::from_nanos(1000000u64))\
             .settle(::core::time::Duration::from_nanos(2000u64))",
        );
        check_builder("paused", "::leakfree::runtime::Builder::new().start_paused(true)");
        check_builder(
            "paused, workers = 1",
            "::leakfree::runtime::Builder::new().workers(1).start_paused(true)",
        );
        check_builder(
            "quiescence = off",
            "::leakfree::runtime::Builder::new().quiescence(::core::option::Option::None)",
        );
        check_builder("paused = false,", "::leakfree::runtime::Builder::new().start_paused(false)");
        check_builder(
            "on_leak = fail",
            "::leakfree::runtime::Builder::new().on_leak(::leakfree::runtime::OnLeak::Fail)",
        );
        check_builder(
            "crate = crate, on_leak = \"report\"",
            "crate::runtime::Builder::new().on_leak(crate::runtime::OnLeak::Report)",
        );
    }

    #[track_caller]
    fn check_error(options: &str, expected: &str) {
        let error = syn::parse_str::<Options>(options).err().expect("must not parse");
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn errors() {
        check_error("threads = 2", "unknown option `threads`; known options: `workers`");
        check_error("workers = 1, workers = 1", "`workers` is given twice");
        check_error("workers = 0", "at least 1");
        check_error("workers = -1", "at least 1");
        check_error("workers", "needs a value");
        check_error("quiescence = \"0s\"", "longer than zero");
        check_error("quiescence = never", "a duration in a string, such as \"2s\", or `off`");
        check_error("\"5s\"", "expected `option = value`");
        check_error("name = 5", "`name` is a string");
        check_error("grace = 5", "in a string");
        check_error("settle = \"soon\"", "`settle` is a whole number and a unit");
        check_error("paused = 1", "`paused` stands alone, or is `true` or `false`");
        check_error("paused, paused = true", "`paused` is given twice");
        check_error("on_leak = panic", "`report` or `fail`");
        check_error("seed = -1", "`seed` is a whole number");
        check_error("seed = 18446744073709551616", "of 64 bits");
        check_error("schedules = 0", "at least 1");
        check_error("workers = 1 name = \"n\"", "expected `,`");
    }
}
