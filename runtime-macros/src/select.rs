//! `select!`: from branches to one future that polls them in turn, and a `match` over which one was ready.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, Expr, Pat, Path, Result, Token};

use crate::arms::{Biased, krate, poll_arm};

/// How many branches one `select!` may have. Nobody reads a longer one, and a task's record keeps sixteen waits of a poll.
const BRANCHES_MAX: usize = 64;

struct Select {
    krate: Path,
    biased: Biased,
    branches: Vec<Branch>,
    otherwise: Option<Expr>,
}

/// `pattern = future, if condition => handler`.
struct Branch {
    pattern: Pat,
    future: Expr,
    condition: Option<Expr>,
    handler: Expr,
}

impl Parse for Select {
    fn parse(input: ParseStream<'_>) -> Result<Select> {
        let krate = krate(input)?;
        let biased = input.parse()?;
        let mut branches = Vec::new();
        let mut otherwise = None;
        while !input.is_empty() {
            if input.peek(Token![else]) {
                input.parse::<Token![else]>()?;
                input.parse::<Token![=>]>()?;
                otherwise = Some(handler(input)?);
                if !input.is_empty() {
                    return Err(
                        input.error("`else` is the last branch of a `select!`: nothing may follow it")
                    );
                }
                break;
            }
            let branch: Branch = input.parse()?;
            if branches.len() == BRANCHES_MAX {
                return Err(Error::new(
                    branch.pattern.span(),
                    "a `select!` has at most 64 branches: put some of them into a `select!` of their own",
                ));
            }
            branches.push(branch);
        }
        if branches.is_empty() {
            return Err(Error::new(
                Span::call_site(),
                "a `select!` needs at least one branch: `pattern = future => handler`",
            ));
        }
        Ok(Select { krate, biased, branches, otherwise })
    }
}

impl Parse for Branch {
    fn parse(input: ParseStream<'_>) -> Result<Branch> {
        let pattern = Pat::parse_multi_with_leading_vert(input)?;
        if !input.peek(Token![=]) || input.peek(Token![=>]) {
            return Err(input.error("expected `=` and a future: a branch is `pattern = future => handler`"));
        }
        input.parse::<Token![=]>()?;
        let future: Expr = input.parse()?;
        let mut condition = None;
        if input.peek(Token![,]) {
            let comma: Token![,] = input.parse()?;
            if !input.peek(Token![if]) {
                return Err(Error::new(
                    comma.span,
                    "expected `=> handler` after the future, or `, if condition` and then the handler",
                ));
            }
            input.parse::<Token![if]>()?;
            condition = Some(input.parse()?);
        }
        if !input.peek(Token![=>]) {
            let message = "expected `=>` and a handler: a branch is `pattern = future => handler`";
            return Err(match input.is_empty() {
                true => Error::new(future.span(), message),
                false => input.error(message),
            });
        }
        input.parse::<Token![=>]>()?;
        Ok(Branch { pattern, future, condition, handler: handler(input)? })
    }
}

/// What stands behind `=>`, with the comma that ends it: as the arms of a `match` do.
fn handler(input: ParseStream<'_>) -> Result<Expr> {
    if input.is_empty() {
        return Err(input.error("expected a handler after `=>`"));
    }
    let handler = Expr::parse_with_earlier_boundary_rule(input)?;
    if input.peek(Token![,]) {
        input.parse::<Token![,]>()?;
    } else if !input.is_empty() && !is_block_like(&handler) {
        return Err(input.error("expected `,` after the handler, for it is no block"));
    }
    Ok(handler)
}

fn is_block_like(handler: &Expr) -> bool {
    matches!(
        handler,
        Expr::Block(_)
            | Expr::If(_)
            | Expr::Match(_)
            | Expr::Loop(_)
            | Expr::While(_)
            | Expr::ForLoop(_)
            | Expr::Unsafe(_)
    )
}

pub(crate) fn expand(input: TokenStream) -> TokenStream {
    match syn::parse2::<Select>(input) {
        Ok(select) => select.expand(),
        Err(error) => error.into_compile_error(),
    }
}

impl Select {
    fn expand(&self) -> TokenStream {
        let Select { krate, biased, branches, otherwise } = self;
        let count = branches.len();
        let mixed = Span::mixed_site();
        let names = |prefix: &str| -> Vec<Ident> {
            (0..count).map(|at| format_ident!("{prefix}{at}", span = mixed)).collect()
        };
        let (inputs, futures, enabled, types, ready) =
            (names("input"), names("future"), names("enabled"), names("T"), names("Ready"));
        let (cx, pending) = (Ident::new("cx", mixed), Ident::new("pending", mixed));

        let conditions = branches.iter().map(|branch| match &branch.condition {
            Some(condition) => {
                // A `bool` is asked for where the condition stands, so that another type is an error there.
                let span = condition.span();
                quote_spanned!(span=> { let condition: bool = #condition; condition })
            }
            None => quote!(true),
        });
        let expressions = branches.iter().map(|branch| &branch.future);
        let into_futures = branches.iter().zip(&inputs).map(|(branch, input)| {
            quote_spanned!(branch.future.span()=> ::core::future::IntoFuture::into_future(#input))
        });
        let polls = branches.iter().enumerate().map(|(at, branch)| {
            let (future, enabled, ready) = (&futures[at], &enabled[at], &ready[at]);
            let poll = poll_arm(branch.future.span(), future, &cx);
            let pattern = checked(&branch.pattern);
            quote_spanned! {mixed=>
                #at if #enabled => match #poll {
                    ::core::task::Poll::Ready(output) => {
                        #enabled = false;
                        #[allow(unused_variables, unreachable_patterns, clippy::all)]
                        let fits = match &output { #pattern => true, _ => false };
                        if fits {
                            return ::core::task::Poll::Ready(__LeakfreeSelected::#ready(output));
                        }
                    }
                    ::core::task::Poll::Pending => #pending = true,
                },
            }
        });
        let handlers = branches.iter().zip(&ready).map(|(Branch { pattern, handler, .. }, ready)| {
            quote_spanned!(mixed=> __LeakfreeSelected::#ready(#pattern) => #handler,)
        });
        let otherwise = match otherwise {
            Some(otherwise) => quote!(#otherwise),
            None => quote_spanned! {mixed=>
                ::core::panic!("every branch of a `select!` is disabled, and it has no `else`")
            },
        };
        let start = match biased {
            Biased::Yes => quote_spanned!(mixed=> 0usize),
            Biased::No => quote_spanned!(mixed=> __leakfree::first_branch(#count)),
        };
        quote_spanned! {mixed=> {
            #[allow(unused_imports)]
            use #krate::__private as __leakfree;
            enum __LeakfreeSelected<#(#types),*> { #(#ready(#types),)* Disabled }
            let selected = {
                #(let mut #enabled = #conditions;)*
                #(let #inputs = #expressions;)*
                #(let mut #futures = ::core::pin::pin!(#into_futures);)*
                let selected = ::core::future::poll_fn(|#cx: &mut ::core::task::Context<'_>| {
                    let mut #pending = false;
                    let start = #start;
                    for step in 0..#count {
                        match __leakfree::turn(start + step, #count) {
                            #(#polls)*
                            _ => {}
                        }
                    }
                    if #pending {
                        ::core::task::Poll::Pending
                    } else {
                        ::core::task::Poll::Ready(__LeakfreeSelected::Disabled)
                    }
                })
                .await;
                selected
            };
            match selected {
                #(#handlers)*
                __LeakfreeSelected::Disabled => #otherwise,
                #[allow(unreachable_patterns)]
                _ => ::core::unreachable!("the branch's pattern was tried before"),
            }
        } }
    }
}

/// The pattern as it is tried on a reference to the output: what it takes by value or by reference plays no part.
fn checked(pattern: &Pat) -> Pat {
    let mut pattern = pattern.clone();
    by_reference(&mut pattern);
    pattern
}

fn by_reference(pattern: &mut Pat) {
    match pattern {
        Pat::Ident(ident) => {
            (ident.by_ref, ident.mutability) = (None, None);
            if let Some((_, inner)) = &mut ident.subpat {
                by_reference(inner);
            }
        }
        // The pattern behind it sees through the reference by itself.
        Pat::Reference(reference) => {
            let mut inner = (*reference.pat).clone();
            by_reference(&mut inner);
            *pattern = inner;
        }
        Pat::Or(or) => or.cases.iter_mut().for_each(by_reference),
        Pat::Paren(paren) => by_reference(&mut paren.pat),
        Pat::Slice(slice) => slice.elems.iter_mut().for_each(by_reference),
        Pat::Struct(of) => of.fields.iter_mut().for_each(|field| {
            // `Point { mut x }` would be `Point { x }`: the name of a field stays.
            by_reference(&mut field.pat);
        }),
        Pat::Tuple(tuple) => tuple.elems.iter_mut().for_each(by_reference),
        Pat::TupleStruct(of) => of.elems.iter_mut().for_each(by_reference),
        Pat::Type(of) => by_reference(&mut of.pat),
        _ => {}
    }
}
