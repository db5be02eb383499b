"""Verifies natshook's webhooks (Standard Webhooks 1.0, v1) with the standard library alone."""

import base64
import hmac
import time

TOLERANCE = 300  # seconds by which the timestamp may be off


def verify(secrets, headers, body, now=None):
    """Returns the id of the webhook whose raw `body` (bytes) is signed with one of `secrets` ("whsec_…").

    Raises ValueError for anything else. `headers` are looked up in lower case, as most servers have them.
    """
    id, timestamp, signatures = (headers.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
    if not (id and signatures and timestamp.isascii() and timestamp.isdigit()):
        raise ValueError("a webhook header is missing or unreadable")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE:
        raise ValueError("the timestamp is too far from now")
    signed = f"{id}.{timestamp}.".encode() + body
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    keys = [key for key in keys if len(key) >= 24]  # an empty secret must not let anybody in
    expected = [f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in keys]
    for signature in signatures.split(" "):
        for own in expected:
            if hmac.compare_digest(signature.encode(), own.encode()):  # constant time
                return id
    raise ValueError("no signature matches")
