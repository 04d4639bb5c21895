import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from compose_spec import PyCompose

from deploy.make_secrets import make
from schemas.settings import SECRETS_DIR_VARIABLE, Settings
from tests.deploy.known import DEPLOY, command, setting_names

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"bucket", "migrate"}
OURS = {name for name, service in SERVICES.items() if "tamperwatch:" in service["image"]}
STORES = {"redis", "postgres", "minio"}


def _with_defaults(value: Any) -> Any:
    """The file as it is where no variable is set. The reader below knows no retries of `on-failure`, which Compose does."""
    if isinstance(value, dict):
        return {name: _with_defaults(each) for name, each in value.items() if not name.startswith("x-")}
    if isinstance(value, list):
        return [_with_defaults(each) for each in value]
    if not isinstance(value, str):
        return value
    found = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", re.sub(r"^on-failure:\d+$", "on-failure", value))
    # It takes numbers as text but here.
    return int(found) if "{WORKERS:" in value else found


def _by_the_specification(services: dict[str, dict[str, Any]]) -> PyCompose:
    return PyCompose.from_yaml(yaml.safe_dump(_with_defaults(COMPOSE | {"services": services})))


def test_the_file_fits_the_compose_specification() -> None:
    read = _by_the_specification(SERVICES)
    assert set(read.service_names()) == set(SERVICES)
    with pytest.raises(ValueError, match="reed_only"):
        _by_the_specification(SERVICES | {"web": SERVICES["web"] | {"reed_only": True}})


def test_every_role_and_every_store_is_there() -> None:
    assert {"migrate", "web", "beat", "worker-cpu", "worker-gpu", "trainer"} == OURS
    assert set(SERVICES) - OURS == {*STORES, "bucket", "prometheus", "grafana"}


def test_profiles_hold_what_not_everybody_wants() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    observed = ["observability"]
    assert profiles == {"worker-gpu": ["gpu"], "trainer": ["trainer"], "prometheus": observed, "grafana": observed}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_container_may_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert [each for each in service["tmpfs"] if "size=" not in each] == []
    assert "@sha256" in service["image"] or re.search(r":[^:]*\d", service["image"]), "an image without a version"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_container_is_started_again_and_asked_whether_it_is_well(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"].startswith("on-failure")
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"] and service["healthcheck"]["retries"] >= 3


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_role_is_a_verb_and_knows_its_options(name: str) -> None:
    verb, *options = SERVICES[name]["command"]
    assert verb in command().commands
    ran = CliRunner().invoke(command(), [verb, *options, "--help"])
    assert ran.exit_code == 0, ran.output


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    given = set(SERVICES[name]["environment"]) | {each for each in SERVICES[name]["secrets"] if each.isupper()}
    assert given - setting_names() == set()
    assert SERVICES[name]["environment"][SECRETS_DIR_VARIABLE] == "/run/secrets"


@pytest.mark.parametrize("name", sorted(OURS - {"migrate"}))
def test_roles_wait_for_stores_bucket_and_schema(name: str) -> None:
    waits = {other: how["condition"] for other, how in SERVICES[name]["depends_on"].items()}
    healthy, done = "service_healthy", "service_completed_successfully"
    assert waits == {**dict.fromkeys(STORES, healthy), "bucket": done, "migrate": done}


def test_stores_are_reached_by_nobody_outside() -> None:
    assert COMPOSE["networks"]["stores"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"web", "grafana"}
    assert {name for name in STORES if SERVICES[name]["networks"] != ["stores"]} == set()
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [port for port in published if ":-127.0.0.1:" not in port] == []


def test_no_secret_stands_in_the_file() -> None:
    secret = re.compile(r"password|secret_key|access_key", re.IGNORECASE)
    shown = {
        f"{name}.{variable}"
        for name, service in SERVICES.items()
        for variable, value in service.get("environment", {}).items()
        if secret.search(variable) and not str(value).startswith("/run/secrets/")
    }
    assert shown == set()


def test_every_secret_that_is_used_is_declared_and_made(tmp_path: Path) -> None:
    used = {each for service in SERVICES.values() for each in service.get("secrets", [])}
    made = make(tmp_path / "secrets")
    assert used == set(COMPOSE["secrets"]) == set(made)
    assert {each["file"] for each in COMPOSE["secrets"].values()} == {f"secrets/{name}" for name in used}


def test_every_volume_that_is_used_is_declared_and_every_folder_is_there() -> None:
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    named = {mount for mount in mounts if not mount.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    assert [mount for mount in mounts if mount.startswith(".") and not (DEPLOY / mount).is_dir()] == []


def test_workers_are_given_longer_to_stop_than_they_take() -> None:
    grace_s = float(SERVICES["worker-cpu"]["environment"]["TAMPERWATCH_WORKER__SHUTDOWN_GRACE_S"])
    longest_s = grace_s + Settings.model_fields["worker"].get_default(call_default_factory=True).predict_timeout_s
    for name in ("worker-cpu", "worker-gpu"):
        assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) > longest_s


def test_redis_keeps_what_it_was_given() -> None:
    line = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in line and "--maxmemory-policy noeviction" in line
    # Compose takes one dollar sign of two.
    assert re.findall(r"(?<!\$)\$\(", line) == []


def test_made_secrets_open_what_they_are_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "secrets"
    make(folder)
    for name in setting_names():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(folder))
    monkeypatch.setenv("TAMPERWATCH_BLOBS__BACKEND", "minio")
    settings = Settings()
    assert f":{(folder / 'postgres_password').read_text()}@postgres:5432/" in settings.database_url
    assert f":{(folder / 'redis_password').read_text()}@redis:6379/0" in settings.broker_url
    assert settings.blobs.secret_key is not None
    assert len(settings.selection.holdout_salt) == 48


def test_secrets_stay_as_they_are_and_strangers_do_not_enter(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make(folder)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    (folder / "grafana_password").unlink()
    assert make(folder) == ["grafana_password"]
    assert {path.name: path.read_text() for path in folder.iterdir() if path.name != "grafana_password"} == {
        name: value for name, value in before.items() if name != "grafana_password"
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(set(before.values())) == len(before)


@pytest.mark.parametrize("script", ["minio/setup.sh", "smoke.sh"])
def test_shell_scripts_parse(script: str) -> None:
    subprocess.run(["sh", "-n", str(DEPLOY / script)], check=True)
