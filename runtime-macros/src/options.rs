//! What stands in the parentheses.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, Lit, LitInt, LitStr, Path, Token};

const KNOWN: &str = "`workers`, `name`, `grace`, `settle`, `on_leak` and `crate`";

/// The options, each as the builder call it stands for.
#[derive(Default)]
pub(crate) struct Options {
    calls: Vec<TokenStream>,
    on_leak: Option<(Ident, &'static str)>,
    krate: Option<Path>,
}

impl Options {
    pub(crate) fn krate(&self) -> TokenStream {
        match &self.krate {
            Some(path) => quote!(#path),
            None => quote!(::leakfree),
        }
    }

    /// The builder calls; behind `__private::test_builder()` in a test.
    pub(crate) fn calls(&self) -> TokenStream {
        let calls = &self.calls;
        let on_leak = self.on_leak.as_ref().map(|(span, variant)| {
            let krate = self.krate();
            let variant = Ident::new(variant, span.span());
            quote!(.on_leak(#krate::runtime::OnLeak::#variant))
        });
        quote!(#(#calls)* #on_leak)
    }
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Options> {
        let mut options = Options::default();
        let mut seen: Vec<String> = Vec::new();
        while !input.is_empty() {
            let key: Ident = input.call(syn::ext::IdentExt::parse_any)?;
            let name = key.to_string();
            if seen.contains(&name) {
                return Err(Error::new(key.span(), format!("`{name}` is given twice")));
            }
            seen.push(name.clone());
            input.parse::<Token![=]>()?;
            match name.as_str() {
                "workers" => {
                    let workers: LitInt = input.parse()?;
                    if workers.base10_parse::<u16>()? == 0 {
                        return Err(Error::new(workers.span(), "a runtime needs at least one worker"));
                    }
                    options.calls.push(quote_spanned!(key.span()=> .workers(#workers)));
                }
                "name" => {
                    let name: LitStr = input.parse()?;
                    options.calls.push(quote_spanned!(key.span()=> .name(#name)));
                }
                "grace" | "settle" => {
                    let millis = duration_millis(&input.parse()?)?;
                    options.calls.push(quote_spanned! {key.span()=>
                        .#key(::core::time::Duration::from_millis(#millis))
                    });
                }
                "on_leak" => options.on_leak = Some((key, on_leak(input)?)),
                "crate" => options.krate = Some(input.call(Path::parse_mod_style)?),
                _ => {
                    let message = format!("unknown option `{name}`; there are {KNOWN}");
                    return Err(Error::new(key.span(), message));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

fn on_leak(input: ParseStream<'_>) -> syn::Result<&'static str> {
    let (word, span) = if input.peek(LitStr) {
        let text: LitStr = input.parse()?;
        (text.value(), text.span())
    } else {
        let word: Ident = input.parse()?;
        (word.to_string(), word.span())
    };
    match word.as_str() {
        "report" => Ok("Report"),
        "fail" => Ok("Fail"),
        _ => Err(Error::new(span, "`on_leak` is `report` or `fail`")),
    }
}

fn duration_millis(literal: &Lit) -> syn::Result<u64> {
    let wrong = || {
        Error::new(literal.span(), "a duration is an integer and `ms` or `s`, in quotes: \"200ms\", \"5s\"")
    };
    let Lit::Str(text) = literal else { return Err(wrong()) };
    let text = text.value();
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1000),
    };
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(unit).ok_or_else(wrong)
}
