"""A webhook receiver to try natshook with: python3 docs/verify/receiver.py PORT

Checks the signature where WEBHOOK_SECRET is set, answers 503 once to each message of a subject that ends in
".flaky" and 500 always to ".broken", and tells which messages it has had before.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from verify import verify

SECRETS = [secret for secret in [os.environ.get("WEBHOOK_SECRET")] if secret]
attempted, accepted = set(), set()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        status, text = self.judge(body)
        id, subject = self.headers["webhook-id"], self.headers["natshook-subject"]
        print(id, subject, body.decode(), "->", status, text, flush=True)
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def judge(self, body):
        id, subject = self.headers["webhook-id"], self.headers.get("natshook-subject", "")
        try:
            if SECRETS:
                verify(SECRETS, self.headers, body)
        except ValueError as error:
            return 401, str(error)
        first = id not in attempted
        attempted.add(id)
        if subject.endswith(".broken"):
            return 500, "out of order"
        if subject.endswith(".flaky") and first:
            return 503, "not now"
        if id in accepted:
            return 200, "seen before"
        accepted.add(id)
        return 200, "accepted"

    def log_message(self, *_):
        pass


print("receiver on port", sys.argv[1], flush=True)
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
