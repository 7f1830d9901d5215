"""What a stateful consumer's manifests must have; each rule is also shown a manifest that breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from orchestrator.config import KAFKA_PREFIX, READERS, Settings
from orchestrator.ending import END_S
from tests.k8s.manifests import Manifest, container, manifests, one, pod, services, workloads

GRACE_S = float(one("ConfigMap", "orchestrator")["data"].get("ORCHESTRATOR_GRACE_S", Settings().grace_s))
LONGEST_SHUTDOWN_S = GRACE_S + END_S
"""What a consumer ends itself within, whatever it waits for."""
PROBES = {"startupProbe": "/startup", "readinessProbe": "/ready", "livenessProbe": "/live"}
Rule = Callable[[Manifest], bool]


def locked_down(workload: Manifest) -> bool:
    """No root, no privileges, nothing writable but declared volumes, no API token."""
    inside, around = container(workload)["securityContext"], pod(workload)["securityContext"]
    return (
        around["runAsNonRoot"] is True
        and around["runAsUser"] >= 1000
        and around["seccompProfile"] == {"type": "RuntimeDefault"}
        and inside["allowPrivilegeEscalation"] is False
        and inside["readOnlyRootFilesystem"] is True
        and inside["capabilities"] == {"drop": ["ALL"]}
        and pod(workload)["automountServiceAccountToken"] is False
        and not {"hostNetwork", "hostPID", "hostIPC"} & pod(workload).keys()
    )


def exec_form(workload: Manifest) -> bool:
    """No shell between the kubelet's SIGTERM and Python."""
    command = container(workload).get("command", [])
    return bool(command) and command[0] not in {"sh", "bash", "/bin/sh", "/bin/bash"}


def bounded(workload: Manifest) -> bool:
    """Requests for both, a limit for memory, none for CPU (throttling would miss heartbeats)."""
    resources = container(workload)["resources"]
    return {"cpu", "memory"} <= resources["requests"].keys() and resources["limits"].keys() == {"memory"}


def configured_by_environment(workload: Manifest) -> bool:
    """Settings from the ConfigMap, secrets from an optional Secret, no value of a secret in the manifest."""
    sources = container(workload)["envFrom"]
    literal = [item["name"] for item in container(workload).get("env", []) if "value" in item]
    return sources == [
        {"configMapRef": {"name": "orchestrator"}},
        {"secretRef": {"name": "orchestrator-kafka", "optional": True}},
    ] and not any("PASSWORD" in name or "KEY" in name for name in literal)


def pinned_image(workload: Manifest) -> bool:
    """The name that kustomization.yaml gives a version; never a floating tag of its own."""
    return container(workload)["image"] == "durable-orchestrator"


EVERY_WORKLOAD: list[Rule] = [locked_down, exec_form, bounded, configured_by_environment, pinned_image]


def probed(workload: Manifest) -> bool:
    """The three probes ask their own path on the named port."""
    body = container(workload)
    port = {"name": "health", "containerPort": 8080}
    asked = {probe: body.get(probe, {}).get("httpGet") for probe in PROBES}
    return port in body["ports"] and asked == {name: {"path": path, "port": "health"} for name, path in PROBES.items()}


def patient(workload: Manifest) -> bool:
    """More than the longest end of a consumer, and a second of liveness trouble is not a reason to kill."""
    alive = container(workload)["livenessProbe"]
    patience = alive["periodSeconds"] * alive["failureThreshold"]
    return pod(workload)["terminationGracePeriodSeconds"] > LONGEST_SHUTDOWN_S and patience >= 45


def spread(workload: Manifest) -> bool:
    """Over zones and hosts, counting its own pods."""
    rules = pod(workload).get("topologySpreadConstraints", [])
    keys = {rule["topologyKey"] for rule in rules}
    own = workload["spec"]["selector"]
    return keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"} and all(
        rule["labelSelector"] == own for rule in rules
    )


def selected(workload: Manifest) -> bool:
    """The selector matches its own pods."""
    labels = workload["spec"]["template"]["metadata"]["labels"]
    return workload["spec"]["selector"]["matchLabels"].items() <= labels.items()


EVERY_SERVICE: list[Rule] = [probed, patient, spread, selected]


def stateful(workload: Manifest) -> bool:
    """A volume of its own, parallel start, no stale volume after scaling down, no chown of a big volume at start."""
    spec = workload["spec"]
    claims = {claim["metadata"]["name"]: claim["spec"]["accessModes"] for claim in spec["volumeClaimTemplates"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container(workload)["volumeMounts"]}
    around = pod(workload)["securityContext"]
    return (
        claims == {"state": ["ReadWriteOnce"]}
        and mounts.get("state") == "/var/lib/orchestrator"
        and spec["podManagementPolicy"] == "Parallel"
        and spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Delete"}
        and spec["updateStrategy"]["type"] == "RollingUpdate"
        and around["fsGroup"] == 1000
        and around["fsGroupChangePolicy"] == "OnRootMismatch"
    )


def long_restore(workload: Manifest) -> bool:
    """Ten minutes to restore before anyone judges liveness."""
    probe = container(workload)["startupProbe"]
    return bool(probe["periodSeconds"] * probe["failureThreshold"] >= 600)


EVERY_STATEFUL: list[Rule] = [stateful, long_restore]


def applying() -> list[tuple[Rule, Manifest]]:
    """Each rule with each manifest that it judges."""
    stateful_sets = manifests("StatefulSet")
    assert stateful_sets
    return [
        *((rule, item) for rule in EVERY_WORKLOAD for item in workloads()),
        *((rule, item) for rule in EVERY_SERVICE for item in services()),
        *((rule, item) for rule in EVERY_STATEFUL for item in stateful_sets),
    ]


@pytest.mark.parametrize(
    ("rule", "workload"), applying(), ids=[f"{rule.__name__}-{item['metadata']['name']}" for rule, item in applying()]
)
def test_the_rule_holds(rule: Rule, workload: Manifest) -> None:
    assert rule(workload), f"{workload['metadata']['name']}: {rule.__doc__}"


BREAKS: list[tuple[Rule, Callable[[Manifest], object]]] = [
    (locked_down, lambda w: container(w)["securityContext"].update(readOnlyRootFilesystem=False)),
    (locked_down, lambda w: pod(w)["securityContext"].update(runAsNonRoot=False)),
    (exec_form, lambda w: container(w).update(command=["sh", "-c", "python consumers/engine.py"])),
    (bounded, lambda w: container(w)["resources"].pop("limits") and container(w)["resources"].update(limits={})),
    (configured_by_environment, lambda w: container(w)["env"].append({"name": "SASL_PASSWORD", "value": "x"})),
    (pinned_image, lambda w: container(w).update(image="durable-orchestrator:latest")),
    (probed, lambda w: container(w).pop("readinessProbe")),
    (probed, lambda w: container(w)["livenessProbe"]["httpGet"].update(path="/ready")),
    (patient, lambda w: pod(w).update(terminationGracePeriodSeconds=int(LONGEST_SHUTDOWN_S))),
    (spread, lambda w: pod(w)["topologySpreadConstraints"].pop()),
    (selected, lambda w: w["spec"]["selector"]["matchLabels"].update({"app.kubernetes.io/name": "other"})),
    (stateful, lambda w: w["spec"].update(volumeClaimTemplates=[])),
    (stateful, lambda w: w["spec"].update(podManagementPolicy="OrderedReady")),
    (long_restore, lambda w: container(w)["startupProbe"].update(failureThreshold=3)),
]


@pytest.mark.parametrize(("rule", "damage"), BREAKS, ids=[f"{n}-{rule.__name__}" for n, (rule, _) in enumerate(BREAKS)])
def test_the_rule_sees_an_offence(rule: Rule, damage: Callable[[Manifest], object]) -> None:
    engine = copy.deepcopy(one("StatefulSet", "engine"))
    damage(engine)
    assert not rule(engine)


def test_every_service_has_a_disruption_budget_of_one() -> None:
    for workload in services():
        budget = one("PodDisruptionBudget", workload["metadata"]["name"])["spec"]
        assert budget == {"maxUnavailable": 1, "selector": workload["spec"]["selector"]}
    assert len(manifests("PodDisruptionBudget")) == len(services())


def test_the_stateful_set_has_its_headless_service() -> None:
    for workload in manifests("StatefulSet"):
        service = one("Service", workload["spec"]["serviceName"])["spec"]
        assert service["clusterIP"] == "None"
        assert service["publishNotReadyAddresses"] is True
        assert service["selector"] == workload["spec"]["selector"]["matchLabels"]


def test_only_declared_temporary_space_is_writable() -> None:
    for workload in workloads():
        for volume in pod(workload).get("volumes", []):
            if volume["name"] == "blobs":
                assert volume["persistentVolumeClaim"] == {"claimName": "blobs"}
            else:
                assert volume.keys() == {"name", "emptyDir"}
                assert "sizeLimit" in volume["emptyDir"]


def test_blobs_are_shared_by_every_pod_and_state_by_none() -> None:
    """A payload's blob must be there for whichever pod owns the partition next."""
    where = one("ConfigMap", "orchestrator")["data"]["ORCHESTRATOR_BLOB_DIR"]
    assert one("PersistentVolumeClaim", "blobs")["spec"]["accessModes"] == ["ReadWriteMany"]
    for workload in services():
        mounts = {mount["name"]: mount["mountPath"] for mount in container(workload)["volumeMounts"]}
        assert mounts["blobs"] == where
        assert pod(workload)["securityContext"]["fsGroup"] == 1000


def test_the_topics_job_repeats_until_kafka_answers() -> None:
    job = one("Job", "topics")
    assert container(job)["command"] == ["orchestrator", "topics", "init"]
    assert job["spec"]["backoffLimit"] >= 5
    assert pod(job)["restartPolicy"] == "OnFailure"


def test_settings_are_ours_and_not_secret() -> None:
    data = one("ConfigMap", "orchestrator")["data"]
    assert {"ORCHESTRATOR_APP", "ORCHESTRATOR_BOOTSTRAP", "ORCHESTRATOR_STATE_DIR"} <= data.keys()
    settings = Settings.from_env(data)
    assert data.keys() <= READERS.keys() | {name for name in data if name.startswith(KAFKA_PREFIX)}
    assert settings.kafka["security.protocol"] == "SASL_SSL"
    assert settings.replication_factor >= 3
    assert not [name for name in data if "PASSWORD" in name or name.endswith("_KEY")]
    assert not manifests("Secret"), "secrets are created by their owner, never kept here"
    assert data["ORCHESTRATOR_HEALTH_HOST"] == "0.0.0.0", "the kubelet probes from outside of the pod"


def test_the_network_policy_covers_every_pod_and_lets_nobody_in() -> None:
    policy = one("NetworkPolicy", "orchestrator")["spec"]
    assert policy["ingress"] == []
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    for workload in workloads():
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
