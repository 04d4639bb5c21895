"""What the job that makes the bucket asks of MinIO's client; a script stands in for that."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from deploy.make_secrets import make
from tests.deploy.known import DEPLOY

_CLIENT = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in
"admin user add"*) cat > "$CALLS.stdin" ;;
"admin policy attach"*) exit "$ATTACH_STATUS" ;;
"admin user info"*) printf '%s\\n' "$INFO" ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    client = tmp_path / "bin" / "mc"
    client.parent.mkdir()
    client.write_text(_CLIENT, encoding="utf-8")
    client.chmod(0o755)
    make(tmp_path / "secrets")
    return tmp_path


def _run(folder: Path, **variables: str) -> tuple[int, list[str]]:
    given = {
        "BUCKET": "pics",
        "SECRETS": f"{folder}/secrets",
        "CALLS": f"{folder}/calls",
        "TMPDIR": str(folder),
        "ATTACH_STATUS": "0",
    }
    path = f"{folder}/bin:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", DEPLOY / "minio" / "setup.sh"], env={"PATH": path, **given, **variables}, capture_output=True, check=False
    )
    return done.returncode, (folder / "calls").read_text(encoding="utf-8").splitlines()


def _secret(folder: Path, name: str) -> str:
    return (folder / "secrets" / name).read_text(encoding="utf-8")


def test_the_roles_user_may_use_this_bucket_and_nothing_else(folder: Path) -> None:
    status, calls = _run(folder)
    assert status == 0
    user = _secret(folder, "TAMPERWATCH_BLOBS__ACCESS_KEY")
    assert calls[0] == "mb --ignore-existing store/pics"
    assert calls[-1] == f"admin policy attach store tamperwatch --user {user}"
    policy = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
    resources = {name for statement in policy["Statement"] for name in statement["Resource"]}
    assert resources == {"arn:aws:s3:::pics", "arn:aws:s3:::pics/*"}
    assert [action for statement in policy["Statement"] for action in statement["Action"] if "*" in action] == []


def test_no_secret_is_an_argument(folder: Path) -> None:
    _, calls = _run(folder)
    key = _secret(folder, "TAMPERWATCH_BLOBS__SECRET_KEY")
    assert [line for line in calls if key in line or _secret(folder, "minio_root_password") in line] == []
    assert (folder / "calls.stdin").read_text(encoding="utf-8").splitlines()[1] == key


def test_pictures_expire_only_where_somebody_says_so(folder: Path) -> None:
    assert [line for line in _run(folder)[1] if line.startswith("ilm rule add")] == []
    kept = [line for line in _run(folder, PICTURES_KEPT_DAYS="90")[1] if line.startswith("ilm rule add")]
    assert kept == ["ilm rule add --prefix pictures/ --expire-days 90 store/pics"]


@pytest.mark.parametrize(("info", "status"), [("PolicyName: tamperwatch", 0), ("PolicyName: readonly", 1)])
def test_a_policy_that_is_attached_already_is_no_error(folder: Path, info: str, status: int) -> None:
    assert _run(folder, ATTACH_STATUS="1", INFO=info)[0] == status
