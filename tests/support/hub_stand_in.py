"""A Hub on this machine, as far as making a repository and uploading into it goes; it keeps what it is sent."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HubStandIn:
    """`created`: the request for a repository; `files`: what was committed; `existing`: a name that is taken."""

    def __init__(self) -> None:
        self.url = ""
        self.token = ""
        self.existing = ""
        self.created: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON for one request."""
        if path == "/api/repos/create":
            self.created = json.loads(body)
            name = f"{self.created['organization']}/{self.created['name']}"
            return (409, {"error": "You already created this model repo"}) if name == self.existing else (
                200, {"url": f"{self.url}/{name}", "name": name}
            )  # fmt: skip
        if path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
        if path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            name = path.removeprefix("/api/models/").removesuffix("/commit/main")
            commit = {"commitUrl": f"{self.url}/{name}/commit/1", "commitOid": "1", "success": True}
            return 200, commit
        return 200, {}


@contextmanager
def serving_hub() -> Iterator[HubStandIn]:
    """The stand-in, answering at its `url` until the block ends."""
    hub = HubStandIn()

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            hub.token = self.headers.get("Authorization", f"Bearer {hub.token}").removeprefix("Bearer ")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, values = hub.answer(self.path.partition("?")[0], body)
            sent = json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(sent)

        do_GET = do_POST = do_HEAD = reply

        def log_message(self, *_: Any) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
