"""Real MSAL for Python against the development identity provider.

    msal_sign_in.py sign-in --provider URL --tenant TENANT --client-id ID --client-secret SECRET --scope S USER...
    msal_sign_in.py silent  --provider URL --tenant TENANT --client-id ID --client-secret SECRET --scope S USER [--force]

`sign-in` prints one JSON line per user: username, home_account_id, tenant, client_id, cache (the serialized cache).
`silent` reads a serialized cache from standard input and prints one JSON line: kind (cache, identity_provider or none),
network_calls, username, error, suberror, access_token, refresh_token_changed, cache.

With --redis URL, --redis-key KEY and --redis-layout string|aspnet the cache is kept there: `sign-in` writes it, `silent`
reads it from there and writes it back where MSAL has changed it, over whatever is there, as a Python web app would.

MSAL accepts only https authorities, so it is given https://login.microsoftonline.com and a transport that calls the
provider instead; the blobs look as in production. Exit code: 0 done, 1 refused, 2 wrong usage.
"""

import argparse
import json
import os
import socket
import sys
from urllib.parse import parse_qs, urlsplit, urlunsplit

import msal
import requests

AUTHORITY_HOST = "login.microsoftonline.com"
TIMEOUT_SECONDS = 30


class ProviderTransport:
    """The http_client MSAL is given: calls for the authority's host go to the provider."""

    def __init__(self, provider):
        self.provider = urlsplit(provider)
        self.session = requests.Session()
        # A proxy or a certificate bundle of the machine has no say in a call over loopback.
        self.session.trust_env = False
        self.calls = 0

    def rewrite(self, url):
        parts = urlsplit(url)
        if parts.hostname != AUTHORITY_HOST:
            return url
        return urlunsplit((self.provider.scheme, self.provider.netloc, parts.path, parts.query, parts.fragment))

    def get(self, url, params=None, headers=None, **kwargs):
        self.calls += 1
        response = self.session.get(
            self.rewrite(url), params=params, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
        )
        return Answer(response, self.provider.geturl().rstrip("/"))

    def post(self, url, params=None, data=None, headers=None, **kwargs):
        self.calls += 1
        return self.session.post(self.rewrite(url), params=params, data=data, headers=headers, timeout=TIMEOUT_SECONDS)

    def close(self):
        self.session.close()


class Answer:
    """A response whose text names the authority's host where the provider named itself."""

    def __init__(self, response, provider):
        self.status_code = response.status_code
        self.headers = response.headers
        self.text = response.text.replace(provider, f"https://{AUTHORITY_HOST}")

    def raise_for_status(self):
        if self.status_code >= 400:
            raise requests.HTTPError(f"the provider answered {self.status_code}")


class RedisCache:
    """A cache under one key: three commands of Redis' protocol, so that no client library is needed."""

    def __init__(self, arguments):
        url = urlsplit(arguments.redis)
        self.address = (url.hostname, url.port or 6379)
        self.key = arguments.redis_key
        self.is_hash = arguments.redis_layout == "aspnet"

    def read(self):
        value = self.ask("HGET", self.key, "data") if self.is_hash else self.ask("GET", self.key)
        return (value or b"").decode()

    def write(self, text):
        if self.is_hash:
            self.ask("HSET", self.key, "absexp", "-1", "sldexp", "-1", "data", text)
        else:
            self.ask("SET", self.key, text)

    def ask(self, *words):
        words = [word.encode() for word in words]
        parts = [b"*%d\r\n" % len(words)] + [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        with socket.create_connection(self.address, TIMEOUT_SECONDS) as connection, connection.makefile("rb") as answers:
            connection.sendall(b"".join(parts))
            kind, rest = (line := answers.readline())[:1], line[1:].strip()
            if kind == b"-":
                refuse(f"Redis refuses: {rest.decode()}")
            if kind != b"$" or rest == b"-1":
                return None
            return answers.read(int(rest))


def credential_of(arguments):
    if arguments.client_key:
        with open(arguments.client_key, encoding="ascii") as key, open(
            arguments.client_certificate, encoding="ascii"
        ) as certificate:
            return {"private_key": key.read(), "public_certificate": certificate.read(), "thumbprint": None}
    return arguments.client_secret


def app_for(arguments, transport, cache):
    return msal.ConfidentialClientApplication(
        arguments.client_id,
        client_credential=credential_of(arguments),
        authority=f"https://{AUTHORITY_HOST}/{arguments.tenant}",
        token_cache=cache,
        http_client=transport,
        instance_discovery=False,
    )


def refuse(text):
    print(text, file=sys.stderr)
    sys.exit(1)


def sign_in(arguments):
    transport = ProviderTransport(arguments.provider)
    for username in arguments.users:
        cache = msal.SerializableTokenCache()
        app = app_for(arguments, transport, cache)
        flow = app.initiate_auth_code_flow(
            arguments.scope, redirect_uri=arguments.redirect_uri, login_hint=username
        )
        answer = follow(transport, flow["auth_uri"])
        result = app.acquire_token_by_auth_code_flow(flow, answer)
        if "access_token" not in result:
            refuse(f"{username} was not signed in: {result.get('error')}: {result.get('error_description')}")
        account = app.get_accounts(username)[0]
        if arguments.redis:
            RedisCache(arguments).write(cache.serialize())
        print(
            json.dumps(
                {
                    "username": account["username"],
                    "home_account_id": account["home_account_id"],
                    "tenant": result["id_token_claims"]["tid"],
                    "client_id": arguments.client_id,
                    "cache": cache.serialize(),
                }
            ),
            flush=True,
        )


def follow(transport, auth_uri):
    """What the browser brings back to the app's redirect address."""
    response = transport.get(auth_uri)
    if response.status_code != 302:
        refuse(f"the provider did not redirect but answered {response.status_code}: {response.text[:500]}")
    query = parse_qs(urlsplit(response.headers["Location"]).query)
    return {name: values[0] for name, values in query.items()}


def silent(arguments):
    transport = ProviderTransport(arguments.provider)
    cache = msal.SerializableTokenCache()
    stored = RedisCache(arguments) if arguments.redis else None
    before = stored.read() if stored else sys.stdin.read()
    cache.deserialize(before)
    app = app_for(arguments, transport, cache)
    accounts = app.get_accounts(arguments.users[0])
    if len(accounts) != 1:
        refuse(f"MSAL finds {len(accounts)} accounts of {arguments.users[0]} in the cache")
    # The authority's configuration is fetched when the app is made; only what follows is counted.
    transport.calls = 0
    result = app.acquire_token_silent_with_error(arguments.scope, accounts[0], force_refresh=arguments.force) or {}
    if stored and cache.has_state_changed:
        stored.write(cache.serialize())
    print(
        json.dumps(
            {
                "kind": result.get("token_source", "none"),
                "network_calls": transport.calls,
                "username": accounts[0]["username"],
                "home_account_id": accounts[0]["home_account_id"],
                "error": result.get("error"),
                "suberror": result.get("suberror"),
                "access_token": result.get("access_token"),
                "refresh_token_changed": refresh_tokens(before) != refresh_tokens(cache.serialize()),
                "cache": cache.serialize(),
            }
        )
    )
    if "access_token" not in result:
        refuse(f"no token: {result.get('error')}: {result.get('error_description')}")


def refresh_tokens(blob):
    return sorted(entry["secret"] for entry in json.loads(blob).get("RefreshToken", {}).values())


def parse(arguments):
    parser = argparse.ArgumentParser(description="MSAL for Python against the development identity provider.")
    parser.add_argument("command", choices=["sign-in", "silent"])
    parser.add_argument("users", nargs="+", metavar="USER")
    parser.add_argument("--provider", required=True, help="base URL of the development identity provider")
    parser.add_argument("--tenant", default="common", help="tenant id, or common")
    parser.add_argument("--client-id", required=True)
    parser.add_argument("--client-secret", default=os.environ.get("CLIENT_SECRET"))
    parser.add_argument("--client-key", help="PEM file of the private key of --client-certificate")
    parser.add_argument("--client-certificate", help="PEM file; instead of a secret")
    parser.add_argument("--redirect-uri", default="http://localhost/callback")
    parser.add_argument("--scope", action="append", default=[])
    parser.add_argument("--redis", help="URL of the Redis that keeps the cache")
    parser.add_argument("--redis-key", help="the cache's key there")
    parser.add_argument("--redis-layout", choices=["string", "aspnet"], default="string")
    parser.add_argument("--force", action="store_true", help="silent: refresh even when the access token is valid")
    return parser.parse_args(arguments)


def main():
    arguments = parse(sys.argv[1:])
    arguments.scope = arguments.scope or ["User.Read"]
    {"sign-in": sign_in, "silent": silent}[arguments.command](arguments)


if __name__ == "__main__":
    main()
