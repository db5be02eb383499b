"""Verifies natshook's webhooks with the library of Standard Webhooks: pip install standardwebhooks.

It takes bodies that are UTF-8, and no `v1a` signatures. To be used as verify.py is.
"""

from standardwebhooks import Webhook


def verify(secrets, headers, body):
    """Returns the id of the webhook whose raw `body` (bytes) is signed with one of `secrets` ("whsec_…").

    Raises ValueError for anything else.
    """
    reason = "there is no secret"
    for secret in secrets:
        try:
            Webhook(secret).verify(body, dict(headers.items()), json_parse=False)
            return headers["webhook-id"]
        except Exception as error:  # also where a header or a secret is no base64
            reason = error
    raise ValueError(f"not verified: {reason}")
