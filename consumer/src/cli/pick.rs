//! Which accounts a command is about: what `query` and `hydrate` are told alike.

use clap::{Args, ValueEnum};
use common::account::{ClientId, TenantId, Username};
use common::event::UsernamePolicy;
use common::index::{AccountState, Filter};
use common::program::WrongUsage;

#[derive(Args)]
pub(super) struct FilterArgs {
    /// Only accounts of this home tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Only accounts of this app
    #[arg(long)]
    client: Option<ClientId>,
    /// Only accounts in this state
    #[arg(long)]
    state: Option<State>,
}

impl FilterArgs {
    pub(super) fn filter(self) -> Filter {
        Filter { tenant: self.tenant, client: self.client, state: self.state.map(AccountState::from) }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Ready,
    BackingOff,
    Parked,
}

impl From<State> for AccountState {
    fn from(state: State) -> Self {
        match state {
            State::Ready => Self::Ready,
            State::BackingOff => Self::BackingOff,
            State::Parked => Self::Parked,
        }
    }
}

/// The username as the index has it.
pub(super) fn looked_up(username: &Username, usernames: &UsernamePolicy) -> Result<Username, WrongUsage> {
    let left_out = || WrongUsage("the setting --usernames omitted keeps no usernames to look for".to_owned());
    usernames.apply(username).ok_or_else(left_out)
}
