"""A server on this machine that answers as W&B's does, for uploads and reports; it keeps what it gets."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "some-team"
Answer = Callable[[Mapping[str, Any]], Any]


class WandbServer:
    """What it was asked, and what it refuses.

    Attributes:
        url: Where it listens.
        asked: Per request of GraphQL its operation and variables, in order.
        files: Content per path that was uploaded.
        streamed: Per W&B run id the bodies of its file stream.
        refuses: Operations, and paths' last parts, that are answered with an error.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.files: dict[str, bytes] = {}
        self.streamed: dict[str, list[Any]] = {}
        self.refuses: set[str] = set()

    def variables(self, operation: str) -> list[Mapping[str, Any]]:
        """What was sent with an operation, in order."""
        return [variables for name, variables in self.asked if name == operation]

    def answer(self, operation: str, variables: Mapping[str, Any]) -> Any:
        answers: dict[str, Answer] = {
            "Viewer": lambda v: {"viewer": viewer()},
            "RunResumeStatus": lambda v: {"model": None},
            "UpsertBucket": self.run,
            "upsertView": lambda v: {"upsertView": {"view": self.view(v), "inserted": True}},
        }
        self.asked.append((operation, variables))
        return answers[operation](variables) if operation in answers else None

    def run(self, variables: Mapping[str, Any]) -> Any:
        bucket = {
            "id": "UnVuOjE=",
            "name": variables["name"],
            "displayName": variables.get("displayName"),
            "description": None,
            "config": variables.get("config"),
            "sweepName": None,
            "project": {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": ENTITY}},
            "historyLineCount": 0,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def view(self, variables: Mapping[str, Any]) -> Any:
        project = {"id": "p", "name": variables["projectName"], "entityName": ENTITY}
        given = {key: variables[key] for key in ("name", "displayName", "description", "type", "spec")}
        return given | {"id": variables.get("id") or "Vmlldzox", "project": project, "updatedAt": None}


def viewer() -> Mapping[str, Any]:
    return {
        "id": "u", "entity": ENTITY, "username": "someone", "email": "someone@example.org", "flags": "{}",
        "admin": False, "name": "Someone", "teams": {"edges": []},
    }  # fmt: skip


@contextmanager
def serve(port: int = 0, log: bool = False) -> Iterator[WandbServer]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if log:
                print(self.command, self.path, body[:600], flush=True)
            last = self.path.rpartition("/")[2]
            if last == "graphql":
                request = json.loads(body)
                operation = request["operationName"]
                data = server.answer(operation, request.get("variables") or {})
                refused = operation in server.refuses or data is None
                error = {"errors": [{"message": f"{operation} refused"}], "data": None}
                self.reply(403 if refused else 200, error if refused else {"data": data})
            elif last in server.refuses:
                self.reply(403, {"error": "refused"})
            else:
                if last == "file_stream":
                    server.streamed.setdefault(self.path.split("/")[-2], []).append(json.loads(body))
                elif self.command == "PUT":
                    server.files[self.path] = body
                self.reply(200, {})

        do_GET = do_PUT = do_POST  # noqa: N815

        def reply(self, code: int, content: Any) -> None:
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    listening = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server = WandbServer(f"http://127.0.0.1:{listening.server_port}")
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


if __name__ == "__main__":
    import sys
    import time

    with serve(int(sys.argv[1]), log=True):
        time.sleep(float(sys.argv[2]))
