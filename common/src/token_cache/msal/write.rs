//! Saving a token response and removing an account, so that every MSAL library can go on with the blob.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::blob::TokenCacheBlob;
use super::draft::Draft;
use super::entity::{Entry, Field};
use super::environment::same_environment;
use super::query::{CredentialQuery, newest_refresh_token};
use super::scopes;
use super::section::Section;
use super::views::{AccessToken, Account, AppMetadata, IdToken, RefreshToken};

/// What a token endpoint answered, and to whom.
#[derive(Debug, Clone)]
pub struct TokenResponse {
    /// Whose tokens: `uid.utid` of `client_info`, else the `sub` of the id token; empty for tokens of the app itself.
    pub home_account_id: String,
    /// The host of the identity provider; where the blob uses an alias of it, that is kept.
    pub environment: String,
    /// The client the tokens were issued to.
    pub client_id: String,
    /// The tenant that issued them, as the blob spells it; empty where there are no tenants.
    pub realm: String,
    /// The granted scopes.
    pub scopes: Vec<String>,
    /// The access token, a bearer token.
    pub access_token: SecretString,
    /// How long it is valid.
    pub expires_in: Duration,
    /// How long it may be used in an outage of the identity provider; as long as it is valid, if absent.
    pub ext_expires_in: Option<Duration>,
    /// After how long it should be renewed although it is valid.
    pub refresh_in: Option<Duration>,
    /// The refresh token; if absent, the one in the blob stays.
    pub refresh_token: Option<SecretString>,
    /// The family of clients (`foci`) that may use the refresh token.
    pub family_id: Option<String>,
    /// The id token.
    pub id_token: Option<SecretString>,
    /// The `client_info` of the response, as it came.
    pub client_info: Option<String>,
    /// What the user signs in with.
    pub username: Option<String>,
    /// The user's display name.
    pub name: Option<String>,
    /// The user's object id in the realm.
    pub local_account_id: Option<String>,
    /// `MSSTS`, `ADFS` or `Generic`; of an account in the blob the present one stays if this is absent.
    pub authority_type: Option<String>,
    /// What the tokens were had for, in on-behalf-of and long-running sessions.
    pub assertion_hash: Option<String>,
}

/// The entity's identity as the response and the blob give it.
struct Owner<'a> {
    response: &'a TokenResponse,
    environment: &'a str,
}

impl TokenCacheBlob {
    /// Saves a token response that came at `now` (Unix seconds).
    ///
    /// Access tokens with a scope in common are replaced, as are all refresh tokens of the account, client and family,
    /// and the id token of the realm; there is one client metadata entry afterwards. If the response has no refresh
    /// token, the one that [`find_refresh_token`](Self::find_refresh_token) takes stays, alone. Fields this library
    /// does not know stay where an entry is rewritten, and so does everything it has not superseded.
    pub fn save(&mut self, response: &TokenResponse, now: i64) {
        let environment = self.environment_for(response);
        let owner = Owner { response, environment: &environment };
        // The refresh tokens go first: which of them counts depends on the access tokens cached so far.
        self.save_refresh_token(&owner, now);
        self.save_access_token(&owner, now);
        self.save_id_token(&owner);
        self.save_account(&owner);
        self.save_app_metadata(&owner);
    }

    /// Removes everything of an account, in any environment, and says how many entries that was.
    ///
    /// Entries this library cannot use go too, if they name the account. Client metadata stays.
    pub fn remove_account(&mut self, home_account_id: &str) -> usize {
        let is_theirs = |entry: &Entry| entry.text(Field::HomeAccountId) == Some(home_account_id);
        let mut removed = 0;
        for section in Section::ALL {
            let count = self.entries(section).iter().filter(|entry| is_theirs(entry)).count();
            if count > 0 && !home_account_id.is_empty() {
                self.change(section, |entries| entries.retain(|entry| !is_theirs(entry)));
                removed += count;
            }
        }
        removed
    }

    /// The spelling of the environment that the blob uses for the account, else for anybody, else the response's.
    fn environment_for(&self, response: &TokenResponse) -> String {
        let used = |is_theirs: bool| {
            let sections = [Section::Account, Section::RefreshToken, Section::AccessToken, Section::IdToken];
            let entries = sections.into_iter().flat_map(|section| self.usable(section));
            let entries = entries.chain(self.usable(Section::AppMetadata).filter(move |_| !is_theirs));
            entries
                .filter(|entry| !is_theirs || entry.text_or_empty(Field::HomeAccountId) == response.home_account_id)
                .map(|entry| entry.text_or_empty(Field::Environment))
                .find(|environment| same_environment(environment, &response.environment))
        };
        used(true).or_else(|| used(false)).map_or_else(|| response.environment.to_lowercase(), str::to_owned)
    }

    fn save_refresh_token(&mut self, owner: &Owner<'_>, now: i64) {
        let superseded = self.places(Section::RefreshToken, |entry| owner.has_refresh_token(&RefreshToken::of(entry)));
        let newest = self.newest_of(&superseded, owner);
        let Some(secret) = &owner.response.refresh_token else {
            self.keep_only(newest, &superseded);
            return;
        };
        if owner.response.home_account_id.is_empty() {
            return;
        }
        let draft = owner
            .credential(Section::RefreshToken, secret)
            .text_or_none(Field::Target, None)
            .time(Field::LastModificationTime, now)
            .text_or_none(Field::FamilyId, owner.response.family_id.as_deref());
        let key = owner.key("refreshtoken", &[&owner.response.client_id, "", ""]);
        self.change(Section::RefreshToken, |entries| {
            draft.put(Section::RefreshToken, &key, entries, newest, &superseded);
        });
    }

    /// The place of the refresh token to use among those at `places`.
    fn newest_of(&self, places: &[usize], owner: &Owner<'_>) -> Option<usize> {
        let entries = self.entries(Section::RefreshToken);
        let tokens: Vec<_> = places.iter().filter_map(|place| entries.get(*place)).map(RefreshToken::of).collect();
        places.get(newest_refresh_token(&tokens, self.last_cached(&owner.query()))?).copied()
    }

    fn keep_only(&mut self, newest: Option<usize>, superseded: &[usize]) {
        if superseded.len() < 2 {
            return;
        }
        self.change(Section::RefreshToken, |entries| {
            let mut place = 0..;
            entries.retain(|_| {
                let place = place.next();
                place == newest || place.is_none_or(|place| superseded.binary_search(&place).is_err())
            });
        });
    }

    fn save_access_token(&mut self, owner: &Owner<'_>, now: i64) {
        let response = owner.response;
        let target = owner.target();
        let competing = scopes::competing(&target);
        let superseded = self.places(Section::AccessToken, |entry| {
            let token = AccessToken::of(entry);
            owner.has_access_token(&token) && scopes::competing(token.target).iter().any(|s| competing.contains(s))
        });
        let entries = self.entries(Section::AccessToken);
        let has_same_scopes = |place: &&usize| {
            let old = entries.get(**place).map(|entry| scopes::canonical(entry.text_or_empty(Field::Target)));
            old.is_some_and(|old| old == scopes::canonical(&target))
        };
        let replaced = superseded.iter().rev().find(has_same_scopes).copied();
        let after = |duration: Duration| now.saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX));
        let draft = owner
            .credential(Section::AccessToken, &response.access_token)
            .text(Field::Realm, &response.realm)
            .text(Field::Target, &target)
            .text(Field::TokenType, "Bearer")
            .time(Field::CachedAt, now)
            .time(Field::ExpiresOn, after(response.expires_in))
            .time(Field::ExtendedExpiresOn, after(response.ext_expires_in.unwrap_or(response.expires_in)))
            .text_or_none(Field::RefreshOn, response.refresh_in.map(|time| after(time).to_string()).as_deref());
        let key = owner.key("accesstoken", &[&response.client_id, &response.realm, &target]);
        self.change(Section::AccessToken, |entries| {
            draft.put(Section::AccessToken, &key, entries, replaced, &superseded);
        });
    }

    fn save_id_token(&mut self, owner: &Owner<'_>) {
        let Some(secret) = &owner.response.id_token else {
            return;
        };
        let superseded = self.places(Section::IdToken, |entry| owner.has_id_token(&IdToken::of(entry)));
        let draft = owner.credential(Section::IdToken, secret).text(Field::Realm, &owner.response.realm);
        let key = owner.key("idtoken", &[&owner.response.client_id, &owner.response.realm, ""]);
        self.change(Section::IdToken, |entries| {
            draft.put(Section::IdToken, &key, entries, superseded.last().copied(), &superseded);
        });
    }

    /// Writes the account of the realm; without news of the user, an account of another realm is enough.
    fn save_account(&mut self, owner: &Owner<'_>) {
        let response = owner.response;
        let same_user = self.places(Section::Account, |entry| owner.is_account(&Account::of(entry)));
        let entries = self.entries(Section::Account);
        let in_realm = |place: &usize| {
            let realm = entries.get(*place).map(|entry| entry.text_or_empty(Field::Realm));
            realm.is_some_and(|realm| realm.eq_ignore_ascii_case(&response.realm))
        };
        let superseded: Vec<usize> = same_user.iter().copied().filter(in_realm).collect();
        let says_nothing_new = superseded.is_empty() && !same_user.is_empty() && response.username.is_none();
        if response.home_account_id.is_empty() || says_nothing_new {
            return;
        }
        let draft = owner.account(superseded.is_empty());
        let key = format!("{}-{}-{}", response.home_account_id, owner.environment, response.realm).to_lowercase();
        self.change(Section::Account, |entries| {
            draft.put(Section::Account, &key, entries, superseded.last().copied(), &superseded);
        });
    }

    fn save_app_metadata(&mut self, owner: &Owner<'_>) {
        let response = owner.response;
        let superseded = self.places(Section::AppMetadata, |entry| owner.is_client(&AppMetadata::of(entry)));
        let entries = self.entries(Section::AppMetadata);
        let family = |place: &usize| entries.get(*place).and_then(|entry| AppMetadata::of(entry).family_id);
        let replaced = superseded.iter().copied().max_by_key(|place| (family(place).is_some(), *place));
        let family = response.family_id.as_deref().or_else(|| replaced.as_ref().and_then(family));
        if superseded.len() == 1
            && replaced.as_ref().and_then(|place| AppMetadata::of(&entries[*place]).family_id) == family
        {
            return;
        }
        let draft = Draft::default()
            .text(Field::ClientId, &response.client_id)
            .text(Field::Environment, owner.environment)
            .text_or_kept(Field::FamilyId, family);
        let key = format!("appmetadata-{}-{}", owner.environment, response.client_id).to_lowercase();
        self.change(Section::AppMetadata, |entries| {
            draft.put(Section::AppMetadata, &key, entries, replaced, &superseded);
        });
    }

    /// The places of the usable entries of a section that are chosen, ascending.
    fn places(&self, section: Section, is_chosen: impl Fn(&Entry) -> bool) -> Vec<usize> {
        let entries = self.entries(section).iter().enumerate();
        entries.filter(|(_, entry)| entry.is_usable() && is_chosen(entry)).map(|(place, _)| place).collect()
    }
}

impl Owner<'_> {
    fn query(&self) -> CredentialQuery<'_> {
        CredentialQuery {
            home_account_id: &self.response.home_account_id,
            client_id: &self.response.client_id,
            environment: self.environment,
            assertion_hash: self.response.assertion_hash.as_deref(),
        }
    }

    fn has_refresh_token(&self, token: &RefreshToken<'_>) -> bool {
        let family = self.response.family_id.as_deref().filter(|family| !family.is_empty());
        let is_own = token.client_id.eq_ignore_ascii_case(&self.response.client_id);
        let is_of_family = family.is_some() && token.family_id == family;
        (is_own || is_of_family)
            && token.home_account_id == self.response.home_account_id
            && token.assertion_hash == self.response.assertion_hash.as_deref()
            && same_environment(token.environment, self.environment)
    }

    fn has_access_token(&self, token: &AccessToken<'_>) -> bool {
        token.is_bearer() && token.realm.eq_ignore_ascii_case(&self.response.realm) && self.query().owns(token)
    }

    fn has_id_token(&self, token: &IdToken<'_>) -> bool {
        token.home_account_id == self.response.home_account_id
            && token.client_id.eq_ignore_ascii_case(&self.response.client_id)
            && token.realm.eq_ignore_ascii_case(&self.response.realm)
            && token.assertion_hash == self.response.assertion_hash.as_deref()
            && same_environment(token.environment, self.environment)
    }

    fn is_account(&self, account: &Account<'_>) -> bool {
        account.home_account_id == self.response.home_account_id
            && same_environment(account.environment, self.environment)
    }

    fn is_client(&self, metadata: &AppMetadata<'_>) -> bool {
        metadata.client_id.eq_ignore_ascii_case(&self.response.client_id)
            && same_environment(metadata.environment, self.environment)
    }

    /// The fields every credential has.
    fn credential(&self, section: Section, secret: &SecretString) -> Draft {
        Draft::default()
            .text(Field::CredentialType, section.name())
            .text(Field::Secret, secret.expose_secret())
            .text(Field::HomeAccountId, &self.response.home_account_id)
            .text(Field::Environment, self.environment)
            .text(Field::ClientId, &self.response.client_id)
            .assertion_hash(self.response.assertion_hash.as_deref())
    }

    fn account(&self, is_new: bool) -> Draft {
        let response = self.response;
        let uid = response.home_account_id.split('.').next();
        let or_new = |text: Option<&str>, new: &str| match text {
            None if is_new => Some(new.to_owned()),
            text => text.map(str::to_owned),
        };
        let local = or_new(response.local_account_id.as_deref(), uid.unwrap_or_default());
        let username = or_new(response.username.as_deref(), "");
        let authority = or_new(response.authority_type.as_deref(), "MSSTS");
        Draft::default()
            .text(Field::HomeAccountId, &response.home_account_id)
            .text(Field::Environment, self.environment)
            .text(Field::Realm, &response.realm)
            .text_or_kept(Field::LocalAccountId, local.as_deref())
            .text_or_kept(Field::Username, username.as_deref())
            .text_or_kept(Field::AuthorityType, authority.as_deref())
            .text_or_kept(Field::Name, response.name.as_deref())
            .text_or_kept(Field::ClientInfo, response.client_info.as_deref())
    }

    /// The granted scopes, sorted as MSAL Python does, each once.
    fn target(&self) -> String {
        let mut scopes: Vec<&str> = self.response.scopes.iter().flat_map(|scopes| scopes::split(scopes)).collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes.join(" ")
    }

    /// The conventional key: home account id, environment, type and the parts, lower-cased.
    fn key(&self, kind: &str, parts: &[&str]) -> String {
        let head = [self.response.home_account_id.as_str(), self.environment, kind];
        head.iter().chain(parts).copied().collect::<Vec<_>>().join("-").to_lowercase()
    }
}
