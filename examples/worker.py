"""A worker over the HTTP API: claims accounts that are due, does its job with a token of each, says what became of it.

API_URL and API_TOKEN (scopes claim and token) are the server's, which was told to --hand-out-tokens; JOB_URL is where the
job is done: one call for each user, with the user's access token.
"""
import json, os, socket, time
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

API, KEY, JOB = os.environ["API_URL"], os.environ["API_TOKEN"], os.environ["JOB_URL"]
WORKER = f"{socket.gethostname()}-{os.getpid()}"

def post(path, **body):
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with urlopen(Request(API + path, json.dumps({"worker": WORKER, **body}).encode(), headers), timeout=60) as answer:
        return json.loads(answer.read() or "null")

def patiently(path, **body):
    try:
        return post(path, **body)
    except URLError as error:  # The fence is stale, or the server is busy: what is claimed comes back by itself.
        time.sleep(int((getattr(error, "headers", None) or {}).get("Retry-After", 1)))

def work(claim, held):
    try:
        is_idle = claim["due"]["reason"] == "refresh_token_idle"
        token = post("/v1/claims/token", **held, lease_seconds=300, force_refresh=is_idle)
    except URLError as error:
        reason = json.load(error).get("reason") if isinstance(error, HTTPError) else None
        return reason and {"result": "failed", "reason": reason, "is_told": True}
    try:
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        urlopen(Request(f"{JOB}/{claim['account']['username']}", headers=headers), timeout=60).close()
    except URLError:
        return {"result": "failed"}
    return {"result": "hydrated", "due_again_at": token["renew_from"]}

while True:
    answer = patiently("/v1/claims", limit=10, lease_seconds=300)
    for claim in answer["claims"] if answer else []:
        held = {"cache_key": claim["cache_key"], "fence": claim["fence"]}
        outcome = work(claim, held)
        if outcome:
            patiently("/v1/claims/complete", **held, outcome=outcome)
        else:
            patiently("/v1/claims/release", claims=[held])
    time.sleep(0 if answer and answer["claims"] else 2)
