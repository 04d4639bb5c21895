import re
from collections.abc import Iterator
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from schemas.settings import Settings
from schemas.states import AuditQueue
from tests.deploy.known import DEPLOY, command, metric_names, setting_names

CHART = DEPLOY / "helm" / "tamperwatch"
# The oldest that the schemas package and the chart's kubeVersion share with a cluster in use today, and a new one.
KUBERNETES = ("1.31", "1.37")
# Of operators: their schemas are not among Kubernetes' own.
FOREIGN = {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"}

STORES_OUTSIDE: dict[str, Any] = {"settings": {"TAMPERWATCH_BLOBS__ENDPOINT": "s3.example.com"}}
SCALED = STORES_OUTSIDE | {
    "workers": {"cpu": {"autoscaling": {"enabled": True}}, "gpu": {"enabled": True, "autoscaling": {"enabled": True}}},
    "autoscaling": {"redis": {"address": "redis.example.com:6379", "tls": True}},
    "trainer": {"enabled": True, "gpus": 1},
    "monitoring": {"podMonitor": True, "prometheusRule": True, "dashboard": True, "labels": {"release": "prometheus"}},
    "web": {"ingress": {"enabled": True, "host": "audit.example.com", "tlsSecret": "audit-tls", "className": "nginx"}},
    "networkPolicy": {
        "workersMayFetch": True,
        "stores": [{"ipBlock": {"cidr": "10.20.0.0/16"}}],
        "webFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
        "metricsFrom": [{"namespaceSelector": {}}],
    },
    "podLabels": {"team": "safety"},
    "podAnnotations": {"example.com/note": "x"},
    "image": {"pullSecrets": [{"name": "registry"}]},
    "priorityClassName": "high",
}
ALL_BUNDLED: dict[str, Any] = {"bundled": {name: {"enabled": True} for name in ("redis", "postgres", "minio")}}
SMALLEST = STORES_OUTSIDE | {
    "beat": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "podDisruptionBudgets": {"enabled": False},
}
CASES = {"outside": STORES_OUTSIDE, "scaled": SCALED, "bundled": ALL_BUNDLED, "smallest": SMALLEST}


def _rendered(values: dict[str, Any], name: str = "tamperwatch") -> list[dict[str, Any]]:
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(values, name=name, namespace="audit")
    documents = [text for path, text in texts.items() if path.endswith(".yaml")]
    return [found for text in documents for found in yaml.safe_load_all(text) if found]


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[dict[str, Any]]]:
    return {name: _rendered(values) for name, values in CASES.items()}


@pytest.fixture(scope="module")
def scaled(rendered: dict[str, list[dict[str, Any]]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"].removeprefix("tamperwatch-")): each for each in rendered["scaled"]}


def _pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


@pytest.mark.parametrize("case", CASES)
def test_the_chart_lints(case: str) -> None:
    found = helm.lint(CHART, CASES[case], strict=True)
    assert found["errors"] == []
    assert [each["error"] for each in found["messages"] if each["severity"] > 1] == []


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_fits_the_schema_of_kubernetes(rendered: dict[str, list[dict[str, Any]]], case: str, version: str) -> None:
    ours = [each for each in rendered[case] if each["kind"] not in FOREIGN]
    assert len(ours) >= 4
    for each in ours:
        kubernetes_validate.validate(each, version, strict=True)


def test_a_wrong_field_is_noticed(rendered: dict[str, list[dict[str, Any]]]) -> None:
    """The validation above can fail."""
    deployment = next(each for each in rendered["outside"] if each["kind"] == "Deployment")
    wrong = deployment | {"spec": deployment["spec"] | {"replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("case", CASES)
def test_names_are_used_once(rendered: dict[str, list[dict[str, Any]]], case: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered[case]]
    assert len(names) == len(set(names))
    assert [name for _, name in names if len(name) > 63] == []


@pytest.mark.parametrize("case", CASES)
def test_pods_may_do_no_more_than_they_must(rendered: dict[str, list[dict[str, Any]]], case: str) -> None:
    for name, pod in _pods(rendered[case]):
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True and security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name


@pytest.mark.parametrize("case", CASES)
def test_what_runs_for_long_is_asked_whether_it_is_well(rendered: dict[str, list[dict[str, Any]]], case: str) -> None:
    for name, pod in _pods([each for each in rendered[case] if each["kind"] != "Job"]):
        for container in pod["containers"]:
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name


@pytest.mark.parametrize("case", CASES)
def test_roles_are_verbs_and_their_variables_settings(rendered: dict[str, list[dict[str, Any]]], case: str) -> None:
    ours = [
        pod for name, pod in _pods(rendered[case]) if "/run/secrets/tamperwatch" in str(pod) and "args" in pod["containers"][0]
    ]
    ours = [pod for pod in ours if "command" not in pod["containers"][0]]
    assert len(ours) >= 3
    for pod in ours:
        (container,) = pod["containers"]
        verb, *options = container["args"]
        assert CliRunner().invoke(command(), [verb, *options, "--help"]).exit_code == 0
        names = [each["name"] for each in container["env"]]
        assert set(names) - setting_names() == set()
        assert len(names) == len(set(names))


def test_no_secret_is_a_variable(rendered: dict[str, list[dict[str, Any]]]) -> None:
    secrets = {"TAMPERWATCH_DATABASE_URL", "TAMPERWATCH_BROKER_URL", "TAMPERWATCH_BLOBS__SECRET_KEY"}
    for objects in rendered.values():
        for name, pod in _pods(objects):
            given = {each["name"] for container in pod["containers"] for each in container.get("env", [])}
            assert given & secrets == set(), name


def test_a_worker_has_longer_to_stop_than_it_may_take(scaled: dict[tuple[str, str], dict[str, Any]]) -> None:
    predict_s = Settings.model_fields["worker"].get_default(call_default_factory=True).predict_timeout_s
    for name in ("worker-cpu", "worker-gpu"):
        pod = scaled["Deployment", name]["spec"]["template"]["spec"]
        env = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
        assert pod["terminationGracePeriodSeconds"] > float(env["TAMPERWATCH_WORKER__SHUTDOWN_GRACE_S"]) + predict_s


def test_a_longer_wait_for_a_batch_lengthens_the_stop() -> None:
    values = {"settings": STORES_OUTSIDE["settings"] | {"TAMPERWATCH_WORKER__PREDICT_TIMEOUT_S": "99.5"}}
    worker = next(pod for name, pod in _pods(_rendered(values)) if name.endswith("worker-cpu"))
    assert worker["terminationGracePeriodSeconds"] == 30 + 100 + 30


def test_web_waits_for_load_balancers_before_it_stops(scaled: dict[tuple[str, str], dict[str, Any]]) -> None:
    pod = scaled["Deployment", "web"]["spec"]["template"]["spec"]
    slept_s = int(re.findall(r"sleep\((\d+)\)", str(pod["containers"][0]["lifecycle"]["preStop"]))[0])
    env = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    assert pod["terminationGracePeriodSeconds"] > slept_s + float(env["TAMPERWATCH_WEB__SHUTDOWN_GRACE_S"])


def test_scaling_counts_what_waits_and_what_is_in_hand(scaled: dict[tuple[str, str], dict[str, Any]]) -> None:
    spec = scaled["ScaledObject", "worker-cpu"]["spec"]
    triggers = {each["name"]: each["metadata"]["listName"] for each in spec["triggers"]}
    queues = {f"queue_{queue.value}": queue.celery_name for queue in AuditQueue}
    assert triggers == queues | {"in_hand": "unacked"}
    formula = spec["advanced"]["scalingModifiers"]["formula"]
    assert set(formula.split(" + ")) == set(triggers)
    assert "replicas" not in scaled["Deployment", "worker-cpu"]["spec"], "an update would undo what KEDA decided"
    assert [each for each in spec["triggers"] if each["authenticationRef"]["name"] != "tamperwatch-redis"] == []
    assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300


def test_the_hash_of_what_is_in_hand_is_kombus() -> None:
    from kombu.transport.redis import Channel

    assert Channel.unacked_key == "unacked"


def test_scaling_by_prometheus_asks_for_metrics_that_exist() -> None:
    values = STORES_OUTSIDE | {
        "workers": {"cpu": {"autoscaling": {"enabled": True}}},
        "autoscaling": {"source": "prometheus", "prometheus": {"serverAddress": "http://prometheus:9090"}},
    }
    (scaled,) = [each for each in _rendered(values) if each["kind"] == "ScaledObject"]
    (trigger,) = scaled["spec"]["triggers"]
    named = set(re.findall(r"tamperwatch_\w+", trigger["metadata"]["query"]))
    assert named == {"tamperwatch_queue_messages", "tamperwatch_unacked_messages"} and named <= metric_names()
    assert 'queue=~"high|default|bulk"' in trigger["metadata"]["query"]
    assert [each for each in _rendered(values) if each["kind"] == "TriggerAuthentication"] == []


def test_a_gpu_is_asked_for_and_freed_before_the_next_pod(scaled: dict[tuple[str, str], dict[str, Any]]) -> None:
    deployment = scaled["Deployment", "worker-gpu"]["spec"]
    container = deployment["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["image"].endswith("-gpu") and container["args"][1:3] == ["--device", "cuda:0"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    assert [each["key"] for each in deployment["template"]["spec"]["tolerations"]] == ["nvidia.com/gpu"]


def test_the_trainer_keeps_its_runs(scaled: dict[tuple[str, str], dict[str, Any]]) -> None:
    deployment = scaled["Deployment", "trainer"]["spec"]
    volumes = {each["name"]: each for each in deployment["template"]["spec"]["volumes"]}
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == "tamperwatch-trainer"
    assert ("PersistentVolumeClaim", "trainer") in scaled
    assert deployment["strategy"] == {"type": "Recreate"} and deployment["replicas"] == 1


def test_the_schema_comes_first_where_the_database_is_there_already(rendered: dict[str, list[dict[str, Any]]]) -> None:
    (hook,) = [each for each in rendered["outside"] if each["kind"] == "Job"]
    assert hook["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    # A hook is run before anything of the release is made: it may lean on the Secret alone.
    assert re.findall(r"'(?:configMap|persistentVolumeClaim)\w*'", str(hook)) == []
    (job,) = [each for each in rendered["bundled"] if each["kind"] == "Job"]
    assert "annotations" not in job["metadata"] and job["metadata"]["name"] == "tamperwatch-migrate-1"


def test_every_role_but_the_timetable_has_a_budget(scaled: dict[tuple[str, str], dict[str, Any]]) -> None:
    budgets = {name for kind, name in scaled if kind == "PodDisruptionBudget"}
    assert budgets == {"web", "worker-cpu", "worker-gpu", "trainer"}


def test_pods_reach_stores_and_names_only(scaled: dict[tuple[str, str], dict[str, Any]]) -> None:
    policy = scaled["NetworkPolicy", "tamperwatch"]["spec"]
    names, stores = policy["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert {port["port"] for port in stores["ports"]} == {5432, 6379, 9000, 443}
    assert stores["to"] == [{"ipBlock": {"cidr": "10.20.0.0/16"}}]
    (fetch,) = scaled["NetworkPolicy", "fetch"]["spec"]["egress"]
    assert {"10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16"} <= set(fetch["to"][0]["ipBlock"]["except"])


def test_services_find_their_pods(rendered: dict[str, list[dict[str, Any]]]) -> None:
    for objects in rendered.values():
        pods = [
            each["spec"]["template"]["metadata"]["labels"] for each in objects if each["kind"] in ("Deployment", "StatefulSet")
        ]
        selectors = [each["spec"]["selector"] for each in objects if each["kind"] == "Service"]
        selectors += [
            each["spec"]["selector"]["matchLabels"] for each in objects if each["kind"] in ("Deployment", "StatefulSet")
        ]
        for selector in selectors:
            assert len([labels for labels in pods if selector.items() <= labels.items()]) == 1, selector


def test_rules_and_dashboard_are_those_of_the_repository(scaled: dict[tuple[str, str], dict[str, Any]]) -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    assert scaled["PrometheusRule", "tamperwatch"]["spec"] == rules
    shown = (DEPLOY / "grafana" / "dashboards" / "tamperwatch.json").read_text(encoding="utf-8")
    assert scaled["ConfigMap", "dashboard"]["data"]["tamperwatch.json"].strip() == shown.strip()


@pytest.mark.parametrize(
    "values",
    [
        {"webb": {}},
        {"web": {"replicas": 0}},
        {"settings": {"BLOBS__ENDPOINT": "x"}},
        {"settings": {"TAMPERWATCH_BLOBS__SECURE": True}},
        {"workers": {"cpu": {"queues": "urgent"}}},
        {"workers": {"cpu": {"device": "gpu"}}},
        {"autoscaling": {"source": "cpu"}},
        {"trainer": {"persistence": {"size": "much"}}},
    ],
)
def test_misspelt_values_are_refused(values: dict[str, Any]) -> None:
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmError):
        chart.validate_schema(chart.merge_values(values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "settings.TAMPERWATCH_BLOBS__ENDPOINT"),
        (STORES_OUTSIDE | {"workers": {"cpu": {"autoscaling": {"enabled": True}}}}, "autoscaling.redis.address"),
        (STORES_OUTSIDE | {"web": {"ingress": {"enabled": True}}}, "web.ingress.host"),
    ],
)
def test_what_is_missing_is_said(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm.HelmError, match=re.escape(words)):
        _rendered(values)


def test_nights_begin_only_where_a_trainer_runs() -> None:
    def begins(values: dict[str, Any]) -> str:
        beat = dict(_pods(_rendered(values)))["tamperwatch-beat"]
        return str({each["name"]: each["value"] for each in beat["containers"][0]["env"]}["TAMPERWATCH_SCHEDULE__ENABLED"])

    trained = STORES_OUTSIDE | {"trainer": {"enabled": True}}
    asked = {"settings": STORES_OUTSIDE["settings"] | {"TAMPERWATCH_SCHEDULE__ENABLED": "true"}}
    assert (begins(STORES_OUTSIDE), begins(trained), begins(asked)) == ("false", "true", "true")


def test_a_bundled_redis_lets_keda_in_where_it_is_told_to() -> None:
    keda = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}
    values = ALL_BUNDLED | {"networkPolicy": {"redisFrom": [keda]}}
    policies = {each["metadata"]["name"]: each["spec"] for each in _rendered(values) if each["kind"] == "NetworkPolicy"}
    assert keda in policies["tamperwatch-redis"]["ingress"][0]["from"]
    assert keda not in policies["tamperwatch-postgres"]["ingress"][0]["from"]


def test_bundled_stores_are_found_by_the_roles(rendered: dict[str, list[dict[str, Any]]]) -> None:
    pods = dict(_pods(rendered["bundled"]))
    env = {each["name"]: each["value"] for each in pods["tamperwatch-web"]["containers"][0]["env"]}
    services = {each["metadata"]["name"] for each in rendered["bundled"] if each["kind"] == "Service"}
    assert env["TAMPERWATCH_BLOBS__ENDPOINT"] == "tamperwatch-minio:9000" and env["TAMPERWATCH_BLOBS__SECURE"] == "false"
    assert {"tamperwatch-minio", "tamperwatch-redis", "tamperwatch-postgres"} <= services


def test_another_releases_name_goes_before_the_charts() -> None:
    names = {each["metadata"]["name"] for each in _rendered(STORES_OUTSIDE, name="blue")}
    assert "blue-tamperwatch-web" in names
