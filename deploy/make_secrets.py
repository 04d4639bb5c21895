"""Write the secrets that compose.yaml mounts, each into a file of its own in deploy/secrets/. What is there already stays."""

import secrets
import sys
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "secrets"


def make(folder: Path) -> list[str]:
    """Write what is missing; returns the names of the files that were written.

    The folder may be entered by its owner only. The files in it may be read by all: containers get them one by one, and read
    them as users that this machine does not know.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    written: list[str] = []

    def kept(name: str, value: Callable[[], str]) -> str:
        path = folder / name
        if not path.exists():
            path.write_text(value(), encoding="utf-8")
            path.chmod(0o444)
            written.append(name)
        return path.read_text(encoding="utf-8").strip()

    def drawn(name: str) -> str:
        # Hexadecimal digits mean nothing special in a URL.
        return kept(name, lambda: secrets.token_hex(24))

    redis, postgres = drawn("redis_password"), drawn("postgres_password")
    kept("TAMPERWATCH_BROKER_URL", lambda: f"redis://:{redis}@redis:6379/0")
    kept("TAMPERWATCH_DATABASE_URL", lambda: f"postgresql+psycopg://tamperwatch:{postgres}@postgres:5432/tamperwatch")
    kept("minio_root_user", lambda: f"root-{secrets.token_hex(4)}")
    kept("TAMPERWATCH_BLOBS__ACCESS_KEY", lambda: f"tamperwatch-{secrets.token_hex(4)}")
    for name in (
        "minio_root_password",
        "TAMPERWATCH_BLOBS__SECRET_KEY",
        "TAMPERWATCH_SELECTION__HOLDOUT_SALT",
        "grafana_password",
    ):
        drawn(name)
    return written


if __name__ == "__main__":
    made = make(FOLDER)
    sys.stdout.write(f"{len(made)} secrets written to {FOLDER}\n" if made else f"{FOLDER} has every secret already\n")
