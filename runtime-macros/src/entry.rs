//! From an `async fn` to a plain function that starts a runtime.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{AttrStyle, Attribute, Error, Item, ItemFn, Meta, Result, ReturnType, Visibility};

use crate::options::Options;

/// Which of the two attributes is expanded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    Main,
    Test,
}

impl Flavor {
    fn attribute(self) -> &'static str {
        match self {
            Flavor::Main => "#[leakfree::main]",
            Flavor::Test => "#[leakfree::test]",
        }
    }
}

/// Expands the attribute, or says what is wrong.
pub(crate) fn expand(flavor: Flavor, options: TokenStream, item: TokenStream) -> TokenStream {
    let function = match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Fn(function)) => function,
        Ok(other) => {
            let message = format!("{} goes on an `async fn`", flavor.attribute());
            let error = Error::new_spanned(other, message).into_compile_error();
            return quote!(#error #item);
        }
        // rustc's parser accepts what syn's does not (a method without a body, newer syntax): say what syn said.
        Err(error) => {
            let error = error.into_compile_error();
            return quote!(#error #item);
        }
    };
    let options = syn::parse2::<Options>(options).and_then(|options| match flavor {
        Flavor::Main => options.check_main(),
        Flavor::Test => options.check_test(),
    });
    match (check(flavor, &function), options) {
        (Ok(()), Ok(options)) => entry_point(flavor, &options, &function),
        (Ok(()), Err(error)) | (Err(error), Ok(_)) => failure(&function, error),
        (Err(mut error), Err(other)) => {
            error.combine(other);
            failure(&function, error)
        }
    }
}

/// The errors, with an empty function of the same name: without it the compiler would add that `main` is missing, or
/// complain of the `async` that the macro takes away.
fn failure(function: &ItemFn, error: Error) -> TokenStream {
    let (vis, name) = (&function.vis, &function.sig.ident);
    let error = error.into_compile_error();
    quote!(#error #[allow(missing_docs, dead_code)] #vis fn #name() {})
}

/// Whether the attribute may stand on this function; if not, everything that is wrong with it.
fn check(flavor: Flavor, function: &ItemFn) -> Result<()> {
    let attribute = flavor.attribute();
    let sig = &function.sig;
    let mut errors: Option<Error> = None;
    let mut refuse = |span: Span, message: String| {
        let error = Error::new(span, message);
        match &mut errors {
            Some(errors) => errors.combine(error),
            None => errors = Some(error),
        }
    };

    if sig.asyncness.is_none() {
        refuse(
            sig.fn_token.span(),
            format!("{attribute} goes on an `async fn`: write `async fn {}`", sig.ident),
        );
    }
    if let Some(receiver) = sig.receiver() {
        refuse(receiver.span(), format!("{attribute} goes on a free function, not on a method"));
    } else if !sig.inputs.is_empty() || sig.variadic.is_some() {
        let inputs = (&sig.inputs).into_token_stream();
        let span = if inputs.is_empty() { sig.variadic.span() } else { inputs.span() };
        refuse(span, format!("{attribute} goes on a function without arguments"));
    }
    if !sig.generics.params.is_empty() {
        refuse(
            sig.generics.params.span(),
            format!("{attribute} goes on a function without generic parameters"),
        );
    } else if let Some(clause) = &sig.generics.where_clause {
        refuse(clause.span(), format!("{attribute} goes on a function without generic parameters"));
    }
    let before = [sig.constness.to_token_stream(), sig.safety.to_token_stream(), sig.abi.to_token_stream()];
    for qualifier in before.iter().filter(|tokens| !tokens.is_empty()) {
        refuse(qualifier.span(), format!("{attribute} goes on a plain `async fn`: remove `{qualifier}`"));
    }
    if flavor == Flavor::Test {
        if let Some(test) = function.attrs.iter().find(|attribute| is_test(attribute)) {
            refuse(test.span(), format!("{attribute} adds `#[test]` itself: remove this one"));
        }
    }
    match errors {
        Some(errors) => Err(errors),
        None => Ok(()),
    }
}

fn is_test(attribute: &Attribute) -> bool {
    matches!(&attribute.meta, Meta::Path(path) if path.is_ident("test"))
}

/// The function that replaces the user's. The user's own stays inside it, unchanged: so its types, its `return`s and
/// its `?`s are checked as in any async function, and what is wrong with them is shown where it was written.
fn entry_point(flavor: Flavor, options: &Options, function: &ItemFn) -> TokenStream {
    let vis = &function.vis;
    let name = &function.sig.ident;
    let output = &function.sig.output;
    let (outer, inner): (Vec<_>, Vec<_>) =
        function.attrs.iter().cloned().partition(|attribute| matches!(attribute.style, AttrStyle::Outer));
    // Attributes inside the body (`#![allow(...)]`) are the body's, all others are of the function that is seen.
    let body = ItemFn { attrs: inner, vis: Visibility::Inherited, ..function.clone() };
    let krate = options.krate();
    let builder = options.builder();
    // The result's type meets the runtime's demands here, so an error about them points to the type, not to the attribute.
    let span = match output {
        ReturnType::Default => name.span(),
        ReturnType::Type(_, ty) => ty.span(),
    };
    let (test, run) = match flavor {
        Flavor::Main => (None, quote_spanned!(span=> #krate::__private::run_main(#builder, #name()))),
        Flavor::Test => {
            let full_name = quote!(::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)));
            let run = match options.simulation() {
                None => quote_spanned!(span=> #krate::__private::run_test(#full_name, #builder, #name())),
                Some((seed, schedules)) => quote_spanned! {span=> {
                    #[allow(clippy::redundant_closure)]
                    let builder = || #builder;
                    #krate::__private::run_simulated_test(#full_name, builder, #seed, #schedules, #name)
                }},
            };
            (Some(quote!(#[::core::prelude::v1::test])), run)
        }
    };
    quote! {
        #test
        #(#outer)*
        #vis fn #name() #output {
            #[allow(clippy::unused_async)]
            #body
            #run
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(flavor: Flavor, options: &str, item: &str, expected: &str) {
        let expanded = expand(flavor, options.parse().unwrap(), item.parse().unwrap());
        let expected: Item = syn::parse_str(expected).unwrap();
        assert_eq!(expanded.to_string(), expected.to_token_stream().to_string());
    }

    #[test]
    fn main_keeps_attributes_visibility_and_return_type() {
        check(
            Flavor::Main,
            "workers = 3",
            "#[cold] pub async fn go() -> Result<(), E> { #![allow(unused)] body }",
            "#[cold]
             pub fn go() -> Result<(), E> {
                 #[allow(clippy::unused_async)]
                 async fn go() -> Result<(), E> { #![allow(unused)] body }
                 ::leakfree::__private::run_main(::leakfree::runtime::Builder::new().workers(3), go())
             }",
        );
    }

    #[test]
    fn a_test_bears_its_full_name() {
        check(
            Flavor::Test,
            "crate = lf",
            "#[ignore] async fn t() { body }",
            "#[::core::prelude::v1::test]
             #[ignore]
             fn t() {
                 #[allow(clippy::unused_async)]
                 async fn t() { body }
                 lf::__private::run_test(
                     ::core::concat!(::core::module_path!(), \"::\", ::core::stringify!(t)),
                     lf::runtime::Builder::new(),
                     t()
                 )
             }",
        );
    }
}
