"""An in-memory Hugging Face Hub on the loopback address, with the endpoints for pushing, loading and streaming only.

Real clients connect to it if `HF_ENDPOINT` is its address, with `HF_HUB_DISABLE_XET=1` (large files are then sent by
git-lfs's "basic" transfer). Unknown requests get status 404 and are recorded in `unknown`, which tests check.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

LARGE_SUFFIXES = (".safetensors", ".bin", ".parquet", ".pt", ".mp4", ".arrow")
KINDS = {"model": "models", "dataset": "datasets", "space": "spaces"}


class LoopbackHub:
    """Repositories by `"models/user/name"`: path -> content. `start` returns the endpoint's address.

    Args:
        port (`int`, *optional*): By default any free port.

    Attributes:
        history (`dict[str, list[dict[str, bytes]]]`): Each repository after every commit, the empty one first.
        variables (`dict[str, dict[str, str]]`): Variables of each Space.
        tokens (`set[str]`): Tokens that clients sent.
        large_files_left (`int`, *optional*): Number of large files still accepted before uploads are refused.
    """

    def __init__(self, port: int = 0):
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.history: dict[str, list[dict[str, bytes]]] = {}
        self.large_files: dict[str, bytes] = {}
        self.large_files_left: int | None = None
        self.variables: dict[str, dict[str, str]] = {}
        self.tokens: set[str] = set()
        self.unknown: list[str] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)

    def start(self) -> str:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def keep(self, repository: str):
        self.history.setdefault(repository, []).append(dict(self.repositories[repository]))

    def commit_of(self, repository: str) -> str:
        content = sorted((path, hashlib.sha1(data).hexdigest()) for path, data in self.repositories[repository].items())
        return hashlib.sha1(json.dumps([repository, content]).encode()).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith(LARGE_SUFFIXES)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True  # Nagle's delays bodies by 40 ms
    hub: LoopbackHub

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urlparse(self.path)
        path, query, body = unquote(url.path), parse_qs(url.query), self.read_body()
        if token := self.headers.get("Authorization", "").removeprefix("Bearer "):
            self.hub.tokens.add(token)
        for method, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                return answer(self, *match.groups(), query=query, body=body)
        self.hub.unknown.append(f"{self.command} {path}")
        return self.refuse("EntryNotFound")

    do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def reply(self, content, status: int = 200, **headers: str):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, code: str, status: int = 404):
        self.reply({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

    # Accounts and repositories

    def who_am_i(self, **_):
        token = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
        self.reply({"type": "user", "name": "user", "fullname": "user", "orgs": [], "auth": token})

    def validate_card(self, **_):
        self.reply({"errors": [], "warnings": []})

    def create(self, *, body: bytes, **_):
        request = json.loads(body)
        name = f"{request.get('organization') or 'user'}/{request['name']}"
        repository = f"{KINDS[request.get('type') or 'model']}/{name}"
        url = f"http://{self.headers['Host']}/{name}"
        if repository in self.hub.repositories:
            return self.reply({"error": "You already created this repo", "url": url}, 409)
        self.hub.repositories[repository] = {".gitattributes": b"*.safetensors filter=lfs\n"}
        self.hub.keep(repository)
        return self.reply({"url": url, "name": name, "id": name})

    def describe(self, repository: str, *_, **__):
        if repository not in self.hub.repositories:
            return self.refuse("RepoNotFound")
        name = repository.split("/", 1)[1]
        files = [{"rfilename": path} for path in sorted(self.hub.repositories[repository])]
        facts = {"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}
        return self.reply({"id": name, "sha": self.hub.commit_of(repository), "siblings": files, **facts})

    def tree(self, repository: str, folder: str | None, **_):
        if repository not in self.hub.repositories:
            return self.refuse("RepoNotFound")
        prefix = f"{folder.strip('/')}/" if folder else ""
        paths = [path for path in sorted(self.hub.repositories[repository]) if path.startswith(prefix)]
        folders = {path[: end.start()] for path in paths for end in re.finditer("/", path) if end.start() > len(prefix)}
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in sorted(folders)]
        entries += [self.describe_file(path, self.hub.repositories[repository][path]) for path in paths]
        return self.reply(entries) if paths else self.refuse("EntryNotFound")

    def describe_file(self, path: str, content: bytes) -> dict:
        entry = {"type": "file", "oid": git_oid(content), "size": len(content), "path": path}
        if is_large(path):
            entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
        return entry

    def set_variable(self, repository: str, *, body: bytes, **_):
        variable = json.loads(body)
        self.hub.variables.setdefault(repository, {})[variable["key"]] = variable["value"]
        self.reply({variable["key"]: {"key": variable["key"], "value": variable["value"], "updatedAt": None}})

    # Writing

    def before_upload(self, repository: str, *, body: bytes, **_):
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = [
            {"path": path, "uploadMode": "lfs" if is_large(path) else "regular", "shouldIgnore": False}
            for path in paths
        ]
        self.reply({"files": modes})

    def offer_large(self, *_, body: bytes, **__):
        objects = json.loads(body)["objects"]
        for entry in objects:
            if entry["oid"] not in self.hub.large_files:
                href = f"http://{self.headers['Host']}/large/{entry['oid']}"
                entry["actions"] = {"upload": {"href": href, "header": {}}}
        self.reply({"transfer": "basic", "objects": objects})

    def upload_large(self, oid: str, *, body: bytes, **_):
        if sha256(body) != oid:
            return self.refuse("BadChecksum", 400)
        if self.hub.large_files_left is not None:
            if not self.hub.large_files_left:
                return self.refuse("NoSpaceLeft", 400)
            self.hub.large_files_left -= 1
        self.hub.large_files[oid] = body
        return self.reply({})

    def commit(self, repository: str, *, body: bytes, **_):
        files = self.hub.repositories[repository]
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.large_files[value["oid"]]
            elif entry["key"] == "deletedFile":
                files.pop(value["path"], None)
        self.hub.keep(repository)
        commit = self.hub.commit_of(repository)
        url = f"http://{self.headers['Host']}/{repository}/commit/{commit}"
        self.reply({"success": True, "commitUrl": url, "commitOid": commit, "hookOutput": ""})

    # Reading

    def resolve(self, kind: str | None, name: str, path: str, **_):
        repository = f"{kind or 'models/'}{name}"
        if repository not in self.hub.repositories:
            return self.refuse("RepoNotFound")
        if path not in self.hub.repositories[repository]:
            return self.refuse("EntryNotFound")
        content = self.hub.repositories[repository][path]
        headers = {"X_Repo_Commit": self.hub.commit_of(repository), "Accept_Ranges": "bytes"}
        headers |= {"ETag": f'"{sha256(content) if is_large(path) else git_oid(content)}"'}
        if is_large(path):
            headers |= {"X_Linked_Etag": f'"{sha256(content)}"', "X_Linked_Size": str(len(content))}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None or self.command == "HEAD":
            return self.reply(content, **headers)
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        part = content[first : last + 1]
        return self.reply(part, 206, Content_Range=f"bytes {first}-{first + len(part) - 1}/{len(content)}", **headers)


REPOSITORY = r"/api/((?:models|datasets|spaces)/[^/]+/[^/]+)"
NAME = r"/(datasets/|spaces/)?([^/]+/[^/]+?)"
ROUTES = [
    ("GET", r"/api/whoami-v2", _Handler.who_am_i),
    ("POST", r"/api/validate-yaml", _Handler.validate_card),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", REPOSITORY + r"/variables", _Handler.set_variable),
    ("POST", REPOSITORY + r"/preupload/[^/]+", _Handler.before_upload),
    ("POST", REPOSITORY + r"/commit/[^/]+", _Handler.commit),
    ("GET", REPOSITORY + r"/tree/[^/]+(?:/(.+))?", _Handler.tree),
    ("GET", REPOSITORY + r"(/revision/[^/]+)?", _Handler.describe),
    ("POST", NAME + r"(?:\.git)?/info/lfs/objects/batch", _Handler.offer_large),
    ("PUT", r"/large/([0-9a-f]{64})", _Handler.upload_large),
    ("GET HEAD", NAME + r"/resolve/[^/]+/(.+)", _Handler.resolve),
]
