//! What `select!`, `join!` and `try_join!` have in common.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream};
use syn::{Path, Result, Token, parenthesized};

/// The path of the crate, in parentheses, which the macros' declarative fronts put first.
pub(crate) fn krate(input: ParseStream<'_>) -> Result<Path> {
    let inner;
    parenthesized!(inner in input);
    inner.parse()
}

/// Whether the macro begins with `biased;`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Biased {
    Yes,
    No,
}

impl Parse for Biased {
    fn parse(input: ParseStream<'_>) -> Result<Biased> {
        let ahead = input.fork();
        let said =
            ahead.parse::<Ident>().is_ok_and(|ident| ident == "biased") && ahead.parse::<Token![;]>().is_ok();
        if said {
            input.advance_to(&ahead);
        }
        Ok(if said { Biased::Yes } else { Biased::No })
    }
}

/// The poll of one arm. It is spelled where the user wrote the arm, so that a wait which takes its place from who polls it
/// has the arm's.
pub(crate) fn poll_arm(span: Span, future: &Ident, cx: &Ident) -> TokenStream {
    quote_spanned!(span=> __leakfree::poll_arm(#future.as_mut(), #cx))
}
