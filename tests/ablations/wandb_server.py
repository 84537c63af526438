"""A server on this machine that answers as W&B's does, for uploads and reports; it keeps what it gets."""

import gzip
import json
import re
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
        refuses: Operations that are answered with an error.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.files: dict[str, bytes] = {}
        self.refuses: set[str] = set()

    def variables(self, operation: str) -> list[Mapping[str, Any]]:
        """What was sent with an operation, in order."""
        return [variables for name, variables in self.asked if name == operation]

    def answer(self, operation: str, variables: Mapping[str, Any]) -> Any:
        answers: dict[str, Answer] = {
            "Viewer": lambda v: {"viewer": viewer()},
            "GetDefaultEntity": lambda v: {"viewer": viewer()},
            "RunResumeStatus": lambda v: {"model": None},
            "UpsertBucket": self.run,
            "CreateRunFiles": self.run_files,
            "CreateArtifact": self.artifact,
            "CreateArtifactManifest": self.manifest,
            "CreateArtifactFiles": self.artifact_files,
            "CommitArtifact": lambda v: {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}},
            "GetProjects": lambda v: {"models": self.projects},
            "ServerFeaturesQuery": lambda v: {"serverInfo": {"features": []}},
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

    def run_files(self, variables: Mapping[str, Any]) -> Any:
        files = [
            {"name": name, "uploadUrl": f"{self.url}/storage/{variables['run']}/{name}"}
            for name in variables["files"]
        ]
        return {"createRunFiles": {"runID": "UnVuOjE=", "uploadHeaders": [], "files": files}}

    def artifact(self, variables: Mapping[str, Any]) -> Any:
        name = variables["input"]["artifactCollectionName"]
        latest = {"latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": name, "state": "PENDING", "artifactSequence": latest}}}

    def manifest(self, variables: Mapping[str, Any]) -> Any:
        file = self.file(f"{variables['artifactID']}/{variables['name']}")
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def artifact_files(self, variables: Mapping[str, Any]) -> Any:
        files = [
            self.file(f"{file['artifactID']}/{file['name']}") | {"artifact": {"id": file["artifactID"]}}
            for file in variables["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": file} for file in files]}}}

    def file(self, name: str) -> dict[str, Any]:
        return {
            "id": "f", "name": name, "displayName": name.partition("/")[2], "uploadHeaders": [],
            "uploadUrl": f"{self.url}/storage/artifacts/{name}", "storagePath": name,
            "uploadMultipartUrls": None,
        }  # fmt: skip

    @property
    def projects(self) -> Any:
        project = {
            "__typename": "Project", "id": "p", "name": "xception-ablations", "entityName": ENTITY,
            "createdAt": "2026-01-02T03:04:05Z", "isBenchmark": False, "user": None,
        }  # fmt: skip
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"pageInfo": page, "edges": [{"node": project}]}

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
def serve() -> Iterator[WandbServer]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            last = self.path.rpartition("/")[2]
            if last == "graphql":
                request = json.loads(body)
                named = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
                operation = named[1] if named else ""
                data = server.answer(operation, request.get("variables") or {})
                refused = operation in server.refuses or data is None
                error = {"errors": [{"message": f"{operation} refused"}], "data": None}
                self.reply(403 if refused else 200, error if refused else {"data": data})
            else:
                if self.command == "PUT":
                    server.files[self.path] = body
                self.reply(200, {})

        do_GET = do_PUT = do_POST

        def reply(self, code: int, content: Any) -> None:
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that was ended half way is no error of the server's."""

    listening = Quiet(("127.0.0.1", 0), Handler)
    server = WandbServer(f"http://127.0.0.1:{listening.server_port}")
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
