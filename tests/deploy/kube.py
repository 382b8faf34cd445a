"""podman in the place of a cluster: it runs the pods that the controllers would make of a chart's manifests."""

from __future__ import annotations

import base64
import copy
import json
import secrets
import shutil
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from containers import Engine, unavailable

from taskq_exporter.testing.page import Page

Document = dict[str, Any]
#: What podman keeps in a volume, and where a pod has its name.
VOLUMES = {"configMap": "name", "persistentVolumeClaim": "claimName"}


def pods(documents: list[Document]) -> list[list[Document]]:
    """What the controllers make of a Deployment or a StatefulSet: each pod, after the claims that are its own."""
    made = []
    for workload in (d for d in documents if d["kind"] in ("Deployment", "StatefulSet")):
        name, spec = workload["metadata"]["name"], workload["spec"]
        for number in range(spec["replicas"]):
            pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(spec["template"])}
            pod["metadata"]["name"] = name if workload["kind"] == "Deployment" else f"{name}-{number}"
            claims = []
            for template in spec.get("volumeClaimTemplates", ()):
                claim = f"{template['metadata']['name']}-{pod['metadata']['name']}"
                claims.append(
                    {**template, "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim}}
                )
                volume = {"name": template["metadata"]["name"], "persistentVolumeClaim": {"claimName": claim}}
                pod["spec"]["volumes"].append(volume)
            made.append([*claims, pod])
    return made


def as_config_map(document: Document) -> Document:
    """A Secret in the words of podman 4.3, which mounts its values as base64, and cannot read one for a variable."""
    data = {key: base64.b64decode(value).decode() for key, value in document.get("data", {}).items()}
    return {**document, "kind": "ConfigMap", "data": {**data, **document.get("stringData", {})}}


def for_podman(pod: Document) -> Document:
    """The pod in the words of podman 4.3."""
    pod = copy.deepcopy(pod)
    pod["metadata"].pop("annotations", None)  # it refuses values longer than 63 characters
    spec = pod["spec"]
    spec["restartPolicy"] = "Never"  # it would run an init container again that ended well
    # It has no sidecars among them: docs/kubernetes.md says where one goes before Kubernetes 1.29.
    sidecars = [c for c in spec.get("initContainers", ()) if c.pop("restartPolicy", None)]
    spec["initContainers"] = [c for c in spec.get("initContainers", ()) if c not in sidecars]
    spec["containers"] += sidecars
    # It would share a directory of one name among pods, and keep it.
    own = {v["name"]: f"{pod['metadata']['name']}-{v['name']}" for v in spec.get("volumes", ()) if "emptyDir" in v}
    for container in (*spec["initContainers"], *spec["containers"]):
        for mount in container.get("volumeMounts", ()):
            mount["name"] = own.get(mount["name"], mount["name"])
        container.pop("ports", None)  # it would publish them on every address of this machine
        for variable in container.get("env", ()):
            if reference := variable.get("valueFrom", {}).pop("secretKeyRef", None):
                variable["valueFrom"]["configMapKeyRef"] = reference
    for volume in spec.get("volumes", ()):
        volume["name"] = own.get(volume["name"], volume["name"])
        if secret := volume.pop("secret", None):
            volume["configMap"] = {"name": secret["secretName"]}
    return pod


class Cluster:
    """podman in the place of a cluster, and what was started in it."""

    def __init__(self, engine: Engine, image: str, folder: Path) -> None:
        if not shutil.which("catatonit"):  # the process that holds a pod together
            unavailable("not installed: catatonit")
        self.engine, self.folder = engine, folder
        #: Of all that it makes: podman's names are the machine's.
        self.name = f"taskq-{secrets.token_hex(4)}"
        registry, _, rest = image.partition("/")
        repository, _, tag = rest.partition(":")
        self.values = {
            "fullnameOverride": self.name,
            "image": {"registry": registry, "repository": repository, "tag": tag},
        }
        self.objects: list[Document] = []
        self.started: list[str] = []
        self.volumes: set[str] = set()

    def secret(self, suffix: str, **values: str) -> str:
        """An existing Secret; its name."""
        name = f"{self.name}-{suffix}"
        self.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}])
        return name

    def apply(self, documents: list[Document]) -> None:
        """Remember what pods refer to."""
        self.objects += [d for d in documents if d["kind"] == "ConfigMap"]
        self.objects += [as_config_map(d) for d in documents if d["kind"] == "Secret"]

    def start(self, pod: Document, *claims: Document, network: str = "host", check: bool = True) -> str:
        """Run a pod until its containers are started; what podman complains of."""
        pod = for_podman(pod)
        for volume in pod["spec"].get("volumes", ()):
            self.volumes |= {volume[kind][key] for kind, key in VOLUMES.items() if kind in volume}
            self.volumes |= {volume["name"]} if "emptyDir" in volume else set()
        name = pod["metadata"]["name"]
        self.started.append(name)
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump_all([*self.objects, *claims, pod]))
        done = self.engine.run("podman", "kube", "play", "--network", network, file, check=check)
        assert check or done.returncode != 0
        return done.stderr

    def run(self, *command: str) -> str:
        return self.engine.run("podman", *command).stdout

    def inside(self, pod: Document, script: str) -> str:
        """What a shell in the pod's first container prints."""
        container = f"{pod['metadata']['name']}-{pod['spec']['containers'][0]['name']}"
        return self.run("exec", container, "sh", "-c", script)

    def stop(self, pod: Document, within: float = 2) -> None:
        """Stop and remove a pod as the kubelet does: its processes end within seconds, and well."""
        name = pod["metadata"]["name"]
        start = time.monotonic()
        self.run("pod", "stop", "--time", str(pod["spec"]["terminationGracePeriodSeconds"]), name)
        took = time.monotonic() - start
        containers = [c["name"] for c in for_podman(pod)["spec"]["containers"]]
        for container in json.loads(self.run("inspect", *(f"{name}-{container}" for container in containers))):
            assert container["State"]["ExitCode"] == 0, self.run("logs", container["Id"])
        assert took < within
        self.run("pod", "rm", name)

    def close(self) -> None:
        for name in self.started:
            self.engine.run("podman", "pod", "rm", "--force", "--time", "1", name, check=False)
        self.engine.run("podman", "volume", "rm", "--force", *self.volumes, check=False)


def wait_for_page(url: str, wanted: Callable[[Page], object]) -> Page:
    """A page of metrics, as soon as it has what is wanted."""
    seen: object = None
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                page = Page(response.read().decode())
            if wanted(page):
                return page
            seen = page.text
        except OSError as error:
            seen = error
        time.sleep(0.2)
    return pytest.fail(f"{url}: {seen}")
