//! The attribute macros of leakfree: `#[leakfree::main]` and `#[leakfree::test]`.

mod options;

use proc_macro::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{ItemFn, parse_macro_input};

use options::Options;

/// Which of the two macros is at work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Main,
    Test,
}

impl Entry {
    fn name(self) -> &'static str {
        match self {
            Entry::Main => "#[leakfree::main]",
            Entry::Test => "#[leakfree::test]",
        }
    }
}

/// Runs an `async fn main` on a leakfree runtime, and prints the leak report when it has returned.
///
/// ```ignore
/// #[leakfree::main(workers = 2, grace = "1s", on_leak = fail)]
/// async fn main() {
///     leakfree::scope(async |s| {
///         s.spawn(async { println!("hello") });
///     })
///     .await;
/// }
/// ```
///
/// | option | what | default |
/// |---|---|---|
/// | `workers = 2` | number of worker threads, at least 1 | one per core |
/// | `name = "api"` | what the names of threads begin with | `"leakfree"` |
/// | `grace = "5s"` | how long a shutdown waits for tasks that were asked to end | 5 s |
/// | `settle = "100ms"` | how long runnable tasks may go on before the report's snapshot | 100 ms |
/// | `on_leak = report` or `fail` | after a leak, exit as main did, or with status 1 | `report` |
/// | `crate = path` | where leakfree is, if it was renamed | `::leakfree` |
///
/// Durations are an integer and `ms` or `s`.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(Entry::Main, args, item)
}

/// Runs an `async fn` as a test on a runtime of its own; the test fails, with the report, if a task leaked.
///
/// ```ignore
/// #[leakfree::test]
/// async fn nothing_leaks() {
///     let handle = leakfree::spawn(async { 3 });
///     assert_eq!(handle.await.unwrap(), 3);
/// }
/// ```
///
/// It takes the options of `#[leakfree::main]`; here `workers` is 1, `grace` zero and `on_leak` `fail` unless
/// said otherwise.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(Entry::Test, args, item)
}

fn expand(entry: Entry, args: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(args as Options);
    let function = match syn::parse::<ItemFn>(item) {
        Ok(function) => function,
        Err(error) => {
            let message = format!("{} goes on an `async fn` without arguments", entry.name());
            return syn::Error::new(error.span(), message).to_compile_error().into();
        }
    };
    match generate(entry, &options, &function) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.to_compile_error().into(),
    }
}

fn generate(
    entry: Entry,
    options: &Options,
    function: &ItemFn,
) -> syn::Result<proc_macro2::TokenStream> {
    let name = entry.name();
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        let message = format!("{name} goes on an `async fn`: add the keyword `async`");
        return Err(syn::Error::new(signature.fn_token.span(), message));
    }
    if let Some(argument) = signature.inputs.first() {
        let message = format!("{name} calls this function itself: it takes no arguments");
        return Err(syn::Error::new(argument.span(), message));
    }
    if !signature.generics.params.is_empty() {
        let message = format!("{name} calls this function itself: it cannot be generic");
        return Err(syn::Error::new(signature.generics.span(), message));
    }

    let ItemFn { attrs, vis, block, .. } = function;
    let (ident, output) = (&signature.ident, &signature.output);
    let krate = options.krate();
    let calls = options.calls();
    let returns = match output {
        syn::ReturnType::Default => quote!(()),
        syn::ReturnType::Type(_, ty) => quote!(#ty),
    };
    // The return type is said once more inside, so that a mismatch is shown in the user's own code.
    let body = quote_spanned! {block.span()=>
        #[allow(unreachable_code, clippy::diverging_sub_expression)]
        async move {
            let output: #returns = #block;
            output
        }
    };
    Ok(match entry {
        Entry::Main => quote! {
            #(#attrs)*
            #vis fn #ident() #output {
                #krate::__private::run_main(#krate::runtime::Builder::new() #calls, #body)
            }
        },
        Entry::Test => quote! {
            #[::core::prelude::v1::test]
            #(#attrs)*
            #vis fn #ident() #output {
                let name = ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#ident));
                #krate::__private::run_test(
                    name,
                    #krate::__private::test_builder() #calls,
                    #body,
                )
            }
        },
    })
}
