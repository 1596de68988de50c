//! `join!` and `try_join!`: futures side by side in one task.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, Path, Result, Token};

use crate::arms::{Biased, krate, poll_arm};

/// Which of the two macros is expanded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    Join,
    TryJoin,
}

struct Join {
    krate: Path,
    biased: Biased,
    futures: Punctuated<Expr, Token![,]>,
}

impl Parse for Join {
    fn parse(input: ParseStream<'_>) -> Result<Join> {
        let krate = krate(input)?;
        let biased = input.parse()?;
        let futures = Punctuated::parse_terminated(input)?;
        Ok(Join { krate, biased, futures })
    }
}

pub(crate) fn expand(flavor: Flavor, input: TokenStream) -> TokenStream {
    match syn::parse2::<Join>(input) {
        Ok(join) => join.expand(flavor),
        Err(error) => error.into_compile_error(),
    }
}

impl Join {
    fn expand(&self, flavor: Flavor) -> TokenStream {
        let Join { krate, biased, futures: expressions } = self;
        let count = expressions.len();
        if count == 0 {
            return match flavor {
                Flavor::Join => quote!(async {}.await),
                Flavor::TryJoin => quote!(::core::result::Result::Ok(())),
            };
        }
        let mixed = Span::mixed_site();
        let names = |prefix: &str| -> Vec<Ident> {
            (0..count).map(|at| format_ident!("{prefix}{at}", span = mixed)).collect()
        };
        let (inputs, futures, outputs) = (names("input"), names("future"), names("output"));
        let name = |name| Ident::new(name, mixed);
        let (cx, pending, arm, value) = (name("cx"), name("pending"), name("arm"), name("value"));
        let into_futures = expressions.iter().zip(&inputs).map(|(expression, input)| {
            quote_spanned! {expression.span()=>
                ::core::option::Option::Some(::core::future::IntoFuture::into_future(#input))
            }
        });
        let polls = expressions.iter().enumerate().map(|(at, expression)| {
            let (future, output) = (&futures[at], &outputs[at]);
            let poll = poll_arm(expression.span(), &arm, &cx);
            let result = quote_spanned!(expression.span()=> let #value = __leakfree::result(#value););
            let ready = match flavor {
                Flavor::Join => quote_spanned!(mixed=> #output = ::core::option::Option::Some(#value)),
                Flavor::TryJoin => quote_spanned! {mixed=>
                    #result
                    match #value {
                        ::core::result::Result::Ok(#value) => {
                            #output = ::core::option::Option::Some(#value);
                        }
                        ::core::result::Result::Err(error) => {
                            return ::core::task::Poll::Ready(::core::result::Result::Err(error));
                        }
                    }
                },
            };
            quote_spanned! {mixed=>
                #at => if let ::core::option::Option::Some(mut #arm) = #future.as_mut().as_pin_mut() {
                    match #poll {
                        ::core::task::Poll::Ready(#value) => {
                            // What it held on to is let go now, not with the slowest.
                            #future.set(::core::option::Option::None);
                            #ready
                        }
                        ::core::task::Poll::Pending => #pending = true,
                    }
                },
            }
        });
        let all = quote_spanned!(mixed=> (#(#outputs.take().expect("every future was ready once"),)*));
        let all = match flavor {
            Flavor::Join => all,
            Flavor::TryJoin => quote_spanned!(mixed=> ::core::result::Result::Ok(#all)),
        };
        let turn = match biased {
            // Each poll begins one further on, so that the first does not use up the task's budget each time.
            Biased::No => quote_spanned!(mixed=> start = __leakfree::turn(start + 1, #count);),
            Biased::Yes => quote!(),
        };
        let expressions = expressions.iter();
        quote_spanned! {mixed=> {
            #[allow(unused_imports)]
            use #krate::__private as __leakfree;
            #(let #inputs = #expressions;)*
            #(let mut #futures = ::core::pin::pin!(#into_futures);)*
            #(let mut #outputs = ::core::option::Option::None;)*
            #[allow(unused_mut)]
            let mut start = 0usize;
            let joined = ::core::future::poll_fn(|#cx: &mut ::core::task::Context<'_>| {
                let mut #pending = false;
                for step in 0..#count {
                    match __leakfree::turn(start + step, #count) {
                        #(#polls)*
                        _ => {}
                    }
                }
                #turn
                if #pending {
                    ::core::task::Poll::Pending
                } else {
                    ::core::task::Poll::Ready(#all)
                }
            })
            .await;
            joined
        } }
    }
}
