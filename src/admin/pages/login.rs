//! The login form.

use maud::{Markup, html};

use super::frame::outside;
use crate::admin::assets::ICON;

/// The form, which leads to `next`; `refused` says why the last try was none.
pub(in crate::admin) fn login(next: &str, refused: Option<&str>) -> Markup {
    outside(
        "Log in",
        html! {
            div.login {
                h1 { img src=(ICON.path) alt="" width="28" height="28"; "natshook" }
                @if let Some(refused) = refused {
                    p.notice.bad #refused role="alert" { (refused) }
                }
                form method="post" action="/login" {
                    label for="token" { "Admin token" }
                    input #token type="password" name="token" autocomplete="current-password" required autofocus
                        aria-describedby=[refused.map(|_| "refused")];
                    input type="hidden" name="next" value=(next);
                    button type="submit" { "Log in" }
                }
                p.hint { "The token is what " code { "admin.token" } " of the config says." }
            }
        },
    )
}
