"""Run what deploy/Dockerfile does for one target, without Docker: its COPY and RUN lines, in a folder in place of `/`.

    python .ci/docker_steps.py FOLDER [TARGET]

Left out is what only a container has: users, labels, secrets, and all RUN lines of the stages that begin the final images.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The absolute paths that build stages write to.
_PLACES = re.compile(r"(?<![\w.])/(?=(?:build|opt/tamperwatch)\b)")
_MOUNT = re.compile(r"--mount=\S+\s+")


@dataclass
class Stage:
    """One FROM: what it begins with and its lines."""

    name: str
    parent: str
    lines: list[tuple[str, str]] = field(default_factory=list)


def stages(text: str) -> dict[str, Stage]:
    """The stages of a Dockerfile, in order, by name."""
    found: dict[str, Stage] = {}
    current: Stage | None = None
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    for line in filter(None, map(str.strip, joined.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            parent, _, name = rest.split()
            current = found[name] = Stage(name, parent)
        elif current is not None:
            current.lines.append((instruction, rest.strip()))
    return found


def context_files() -> list[Path]:
    """What Docker would be sent, by .dockerignore; relative to the repository."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    tops = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    files = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*")) if path.is_file()]
    return sorted(path for path in (file.relative_to(ROOT) for file in files) if not _ignored(path, patterns))


def _ignored(path: Path, patterns: list[str]) -> bool:
    """As Docker decides: the last pattern that matches the path, or a folder it is in, from the root on."""
    ignored = False
    for pattern in patterns:
        parts = re.escape(pattern.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(parts, place.as_posix()) for place in (path, *path.parents)):
            ignored = not pattern.startswith("!")
    return ignored


class DryBuild:
    """Runs stages, each once, parents first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stages = stages((ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8"))
        self._done: set[str] = set()

    def run(self, name: str) -> None:
        """Run one stage, and before it what it begins with and copies from."""
        stage = self._stages.get(name)
        if stage is None or name in self._done:
            return
        self._done.add(name)
        self.run(stage.parent)
        # A final image begins with a bare system: its users and its environment are not this machine's.
        final = stage.parent == "runtime" or name == "runtime"
        here, variables = self._inherited(stage)
        for instruction, rest in stage.lines:
            if instruction == "COPY":
                self._copy(rest, here)
            elif instruction == "RUN" and not final:
                self._shell(rest, here, variables)

    def _inherited(self, stage: Stage) -> tuple[Path, dict[str, str]]:
        above = self._inherited(self._stages[stage.parent]) if stage.parent in self._stages else (self.folder, {})
        here, variables = above[0], dict(above[1])
        for instruction, rest in stage.lines:
            if instruction == "WORKDIR":
                here = self._place(rest)
            elif instruction == "ENV":
                variables |= dict(each.split("=", 1) for each in rest.split())
        here.mkdir(parents=True, exist_ok=True)
        return here, variables

    def _place(self, path: str) -> Path:
        return self.folder / path.removeprefix("/")

    def _copy(self, rest: str, here: Path) -> None:
        *sources, target = rest.split()
        if sources[0].startswith("--from="):
            self.run(sources[0].removeprefix("--from="))
            # Stages share this folder: what keeps its place is there already.
            if sources[1] != target:
                shutil.copytree(self._place(sources[1]), self._place(target), symlinks=True, dirs_exist_ok=True)
            return
        for path in context_files() if sources == ["."] else map(Path, sources):
            to = here / path if sources == ["."] else here / path.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, to)

    def _shell(self, rest: str, here: Path, variables: dict[str, str]) -> None:
        command = _PLACES.sub(f"{self.folder}/", _MOUNT.sub("", rest))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        done = subprocess.run(["sh", "-ec", command], cwd=here, env=inherited | variables, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{command}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    DryBuild(Path(sys.argv[1]).resolve()).run(sys.argv[2] if len(sys.argv) > 2 else "cpu")
