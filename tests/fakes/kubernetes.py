"""A fake Kubernetes API server."""

import datetime
import json
import re

import yaml
from werkzeug import Response


class Kubernetes:
    """The part of a Kubernetes API server that the charm uses: it stores applied objects.

    Attributes:
        objects: Stored objects by path.
        requests: Method with path, and content type, of each request.
        refuse: Status codes to respond with, by "METHOD /path".
        controller: Whether a profile's namespace is created with it, as by Kubeflow's controller.
        status: What a controller writes into an object's status, by path.
        token_age: How much earlier tokens expire than requested.
        lists: Rows of pods, events and other lists by path.
        logs: Logs by pod.
        log_requests: Query parameters of each request for a log.
    """

    def __init__(self, server):
        self.objects: dict[str, dict] = {}
        self.requests: list[tuple[str, str]] = []
        self.refuse: dict[str, int] = {}
        self.controller = True
        self.status: dict[str, dict] = {}
        self.token_age = datetime.timedelta()
        self.lists: dict[str, list[dict]] = {}
        self.logs: dict[str, str] = {}
        self.log_requests: list[dict] = []
        self.url = server.url_for("")
        server.expect_request(re.compile("/api.*")).respond_with_handler(self._respond)

    def _respond(self, request):
        line = f"{request.method} {request.path}"
        self.requests.append((line, request.headers.get("content-type", "")))
        if line in self.refuse:
            return self._status(self.refuse[line], "made to refuse")
        if request.path.endswith("/token"):
            spec = request.get_json()["spec"]
            token = f"token for {','.join(spec['audiences'])}"
            life = datetime.timedelta(seconds=spec["expirationSeconds"])
            expires = datetime.datetime.now(datetime.timezone.utc) - self.token_age + life
            stamp = expires.strftime("%Y-%m-%dT%H:%M:%SZ")
            status = {"token": token, "expirationTimestamp": stamp}
            return self._json({"spec": spec, "status": status}, 201)
        if request.path.endswith(("/pods", "/events")) or request.path in self.lists:
            return self._list(request)
        if request.path.endswith("/workflows"):
            return self._status(404, "no such kind")
        if request.path.endswith("/rolebindings"):
            _, _, name = request.args["fieldSelector"].partition("=")
            rows = [
                row for path, row in self.objects.items() if path.endswith(f"/rolebindings/{name}")
            ]
            return self._json({"metadata": {}, "items": rows})
        if request.path.endswith("/log"):
            self.log_requests.append(dict(request.args))
            text = self.logs.get(request.path.split("/")[-2])
            return self._status(400, "no log") if text is None else Response(text)
        if request.method == "PATCH":
            self.objects[request.path] = yaml.safe_load(request.data)
            if "/profiles/" in request.path and self.controller:
                namespace = request.path.rsplit("/", 1)[1]
                self.objects[f"/api/v1/namespaces/{namespace}"] = {"status": {"phase": "Active"}}
        folder, _, name = request.path.rpartition("/")
        if request.method == "DELETE" and folder in self.lists:
            rows = self.lists[folder]
            self.lists[folder] = [row for row in rows if row["metadata"]["name"] != name]
            return self._json({})
        if request.path not in self.objects:
            return self._status(404, "not found")
        if request.method == "DELETE":
            return self._json(self.objects.pop(request.path))
        status = self.status.get(request.path)
        return self._json({**self.objects[request.path], **({"status": status} if status else {})})

    def _list(self, request):
        """Return the rows that the label and field selectors match."""
        selector = request.args.get("labelSelector", "")
        labels = set(re.sub(r".*?(=| in \((.*)\))", r"\2", selector).split(",")) - {""}
        fields = dict(f.split("=") for f in request.args.get("fieldSelector", "").split(",") if f)
        rows = [
            row
            for row in self.lists.get(request.path, [])
            if (not labels or labels & set(row["metadata"].get("labels", {}).values()))
            and fields.get("type") in (None, row.get("type"))
            and fields.get("involvedObject.name")
            in (None, row.get("involvedObject", {}).get("name"))
        ]
        return self._json({"metadata": {}, "items": rows})

    def _json(self, body, status=200):
        return Response(json.dumps(body), status, content_type="application/json")

    def _status(self, code, message):
        if code == 404 and message != "not found":
            return Response("404 page not found", code, content_type="text/plain")
        return self._json({"kind": "Status", "code": code, "message": message}, code)
