"""docker-compose.yml: a healthy Kafka first, topics next, everything on 127.0.0.1, nothing as root."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from orchestrator.config import READERS, Settings
from orchestrator.ending import END_S
from orchestrator.worker.loading import load_app
from tests.k8s.manifests import ROOT, Manifest, one

COMPOSE: Manifest = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Manifest] = COMPOSE["services"]
CONSUMERS = {name: item for name, item in SERVICES.items() if name not in {"kafka", "topics"}}


def test_every_published_port_is_local() -> None:
    published = [port for item in SERVICES.values() for port in item.get("ports", [])]
    assert published
    assert all(str(port).startswith("127.0.0.1:") for port in published), published
    assert len({port.rsplit(":", 1)[0] for port in published}) == len(published), "two services on one port of the host"


def test_kafka_is_one_pinned_node_that_says_when_it_is_healthy() -> None:
    kafka = SERVICES["kafka"]
    settings: dict[str, Any] = kafka["environment"]
    assert kafka["image"] == "apache/kafka:4.4.0"
    assert kafka["healthcheck"]["test"][0] == "CMD"
    assert settings["KAFKA_PROCESS_ROLES"] == "broker,controller"
    assert settings["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert settings["KAFKA_TRANSACTION_PARTITION_VERIFICATION_ENABLE"] == "true"
    assert settings["KAFKA_GROUP_CONSUMER_MIN_SESSION_TIMEOUT_MS"] == "6000"
    assert settings["KAFKA_GROUP_CONSUMER_MIN_HEARTBEAT_INTERVAL_MS"] == "500"


def test_consumers_wait_for_kafka_and_topics() -> None:
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert CONSUMERS
    for item in CONSUMERS.values():
        assert item["depends_on"]["topics"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_the_application_is_there_and_its_workers_have_a_queue(where: str) -> None:
    settings = SERVICES["worker"]["environment"] if where == "compose" else one("ConfigMap", "orchestrator")["data"]
    shown = {name: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value) for name, value in settings.items()}
    app = load_app(shown["ORCHESTRATOR_APP"])
    assert list(app.registry.workflows())
    needed = {step.options.queue for step in app.registry.steps()} - {""}
    served = set(shown["ORCHESTRATOR_QUEUES"].split(","))
    assert served - {""}, "a worker without a queue ends at once"
    assert needed <= served


def test_consumers_drain_and_may_not_write() -> None:
    for item in CONSUMERS.values():
        assert item["read_only"] is True
        assert item["cap_drop"] == ["ALL"]
        grace = item["environment"].get("ORCHESTRATOR_GRACE_S", Settings().grace_s)
        assert int(item["stop_grace_period"].removesuffix("s")) > float(grace) + END_S
        assert item["init"] is True


def test_the_image_runs_as_a_user_with_locked_requirements() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    assert "USER 1000:1000" in lines
    installs = [line for line in lines if line.lstrip().startswith("RUN") and "pip install" in line]
    assert installs
    for line in installs:
        for part in line.split("&&"):
            if "pip install" in part:
                assert "--require-hashes" in part or ("--no-deps" in part and "--no-index" in part), part
    assert all(line.split(" ", 1)[1].startswith("[") for line in lines if line.startswith(("CMD", "ENTRYPOINT")))


def test_the_settings_are_ones_that_we_read() -> None:
    for item in (*CONSUMERS.values(), SERVICES["topics"]):
        settings = {name: str(value) for name, value in item["environment"].items()}
        assert settings.keys() - {"OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"} <= READERS.keys()
        read = Settings.from_env(settings | {"ORCHESTRATOR_APP": "shop:app"})
        assert read.bootstrap == "kafka:19092"
        assert read.health_port == 8080


def test_state_and_blobs_lie_on_volumes() -> None:
    settings = SERVICES["engine"]["environment"]
    mounts = {volume.split(":")[1] for volume in SERVICES["engine"]["volumes"]}
    assert mounts == {"/var/lib/orchestrator", settings["ORCHESTRATOR_BLOB_DIR"]}
    assert settings["ORCHESTRATOR_BLOB_DIR"] in {volume.split(":")[1] for volume in SERVICES["worker"]["volumes"]}
