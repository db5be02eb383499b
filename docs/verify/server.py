"""A complete receiver in Python: PORT=8080 WEBHOOK_SECRETS="whsec_…" python3 server.py

Verifies, stores each webhook once in a SQLite file (DATABASE, else inbox.db), answers, and works afterwards.
"""

import os
import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from verify import verify

SECRETS = os.environ["WEBHOOK_SECRETS"].split()  # two while a secret is rotated
BODY_MAX = 1 << 20  # what natshook sends at most, unless max_payload_bytes says otherwise
stored = threading.Event()


def database():
    connection = sqlite3.connect(os.environ.get("DATABASE", "inbox.db"), timeout=5)
    connection.execute("CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, body BLOB, done INT DEFAULT 0)")
    return connection


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > BODY_MAX:
            self.close_connection = True
            return self.answer(413, "too large")
        body = self.rfile.read(length)  # raw: what a JSON parser writes again has other bytes
        try:
            id = verify(SECRETS, self.headers, body)
        except ValueError as error:
            return self.answer(401, str(error))
        try:
            with closing(database()) as connection, connection:  # commits, so that the answer is true
                connection.execute("INSERT OR IGNORE INTO inbox (id, body) VALUES (?, ?)", (id, body))
        except sqlite3.Error:
            return self.answer(503, "not now", {"retry-after": "30"})
        stored.set()
        self.answer(204)  # also for an id that was there: the first answer may have been lost

    def answer(self, status, text="", headers={}):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def work():
    """What is stored and not done, also what was when this program last ended."""
    while True:
        with closing(database()) as connection:
            rows = connection.execute("SELECT id, body FROM inbox WHERE NOT done ORDER BY rowid").fetchall()
            for id, body in rows:
                print("working on", id, body.decode(errors="replace"), flush=True)
                with connection:  # in a real one, together with what the work changes
                    connection.execute("UPDATE inbox SET done = 1 WHERE id = ?", (id,))
        stored.wait(timeout=60)
        stored.clear()


threading.Thread(target=work, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Receiver).serve_forever()
