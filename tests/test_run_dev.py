"""`run_dev.sh` and `python -m backend`, run in a copy of the project as a person would."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.servers import ROOT, SECRET_KEY, free_port, is_up

SET_UP_TIMEOUT = 120  # seconds
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
STARTUP_FAILURE = 3

# How programs and packages are found here; nothing else of the environment is passed on.
SURROUNDINGS = {
    name: value
    for name, value in os.environ.items()
    if name == "PATH" or name.startswith("PIP_") or name.lower().endswith("_proxy")
}

# What it says of the packages of this test run, which are there already.
INSTALLING = "Installing requirements.txt ..."

# What the script calls besides Python.
TOOLS = ["bash", "cat", "cmp", "cp", "dirname", "env", "mkdir", "rm", "touch", "tr"]


@dataclass
class Project:
    """A copy of the project, and the variables it is run with."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**SURROUNDINGS, "HOME": str(self.folder.parent), **self.variables}

    def run_dev(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the script, which ends by itself, from another folder."""
        return subprocess.run(
            [self.folder / "run_dev.sh", *arguments],
            cwd="/",
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SET_UP_TIMEOUT,
            check=False,
        )

    @contextmanager
    def started(self) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """Starts the API with the script, in a process group of its own as a terminal does."""
        output = self.folder.parent / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [self.folder / "run_dev.sh"],
                cwd="/",
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process, output
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def bare_project(tmp_path: Path) -> Project:
    """A project as cloned, in a folder with a blank in its name."""
    folder = tmp_path / "my todos"
    folder.mkdir()
    for name in ["run_dev.sh", "requirements.txt", "constraints.txt", ".env.example"]:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(
        ROOT / "backend", folder / "backend", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "tests").mkdir()
    (folder / "tests" / "requirements.txt").write_text("pytest\n")
    return Project(folder)


@pytest.fixture
def project(bare_project: Project) -> Project:
    """A project that has been started before, and can reach no network now.

    Its packages are those of this test run, so that making it takes no time.
    """
    venv = bare_project.folder / ".venv"
    venv.mkdir()
    for part in Path(sys.prefix).iterdir():
        if not part.name.endswith("requirements.txt"):
            (venv / part.name).symlink_to(part)
    # The others take seconds to import.
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}
    bare_project.variables |= {**OFFLINE, **plugins, "PORT": str(free_port())}
    return bare_project


def fake_python(folder: Path, name: str, version: tuple[int, int], *, can_make_venv: bool) -> None:
    """Puts a command into the folder that takes itself for Python of that version."""
    pretend = f"import sys; sys.version_info = {(*version, 0)}; exec(sys.argv.pop(1))"
    make_venv = f"exec {shlex.quote(sys.executable)} " if can_make_venv else "exit 1; :"
    command = folder / name
    command.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = -m ]; then {make_venv} "$@"; fi\n'
        f'exec {shlex.quote(sys.executable)} -c {shlex.quote(pretend)} "$2"\n'
    )
    command.chmod(0o755)


@pytest.fixture
def commands(bare_project: Project, tmp_path: Path) -> Path:
    """The only folder in the project's `PATH`, still without any Python."""
    folder = tmp_path / "commands"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(str(shutil.which(tool)))
    bare_project.variables |= {**OFFLINE, "PATH": str(folder)}
    return folder


def test_no_python_names_the_fix(bare_project: Project, commands: Path) -> None:
    ended = bare_project.run_dev()
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == (
        "Python 3.11 or newer is needed: install it from https://www.python.org/downloads, "
        "or install uv (https://docs.astral.sh/uv), then start again.\n"
    )


def test_old_python_names_the_fix(bare_project: Project, commands: Path) -> None:
    fake_python(commands, "python3", (3, 10), can_make_venv=True)
    fake_python(commands, "python", (2, 7), can_make_venv=False)
    ended = bare_project.run_dev()
    assert ended.returncode == 1
    assert ended.stderr == (
        "Python 3.11 or newer is needed, and this one is 3.10: "
        "install it from https://www.python.org/downloads, "
        "or install uv (https://docs.astral.sh/uv), then start again.\n"
    )


def test_python_without_venv_names_the_fix(bare_project: Project, commands: Path) -> None:
    fake_python(commands, "python3", (3, 12), can_make_venv=False)
    ended = bare_project.run_dev()
    assert ended.returncode == 1
    assert ended.stderr == (
        "Python 3.12 cannot make virtual environments here: install python3.12-venv "
        "(on Debian and Ubuntu: sudo apt install python3.12-venv) "
        "or uv (https://docs.astral.sh/uv), then start again.\n"
    )
    assert not (bare_project.folder / ".venv").exists()


@pytest.mark.slow
def test_first_python_that_works_is_taken(bare_project: Project, commands: Path) -> None:
    broken = commands / "python3.13"  # as pyenv's, for a version that is not chosen
    broken.write_text("#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n")
    broken.chmod(0o755)
    fake_python(commands, "python3.12", (3, 12), can_make_venv=False)
    fake_python(commands, "python3", (3, 14), can_make_venv=True)
    for requirements in bare_project.folder.rglob("requirements.txt"):
        requirements.write_text("")
    ended = bare_project.run_dev("test")
    assert ended.stdout.splitlines()[0] == "Made .venv with Python 3.14."
    assert ended.stderr.endswith("No module named pytest\n")  # and so of a whole .venv


def test_starts_again_without_network_reloads_and_stops_on_ctrl_c(project: Project) -> None:
    base_url = f"http://127.0.0.1:{project.variables['PORT']}"
    with project.started() as (process, output):
        wait_until(lambda: is_up(f"{base_url}/api/todos"))
        assert f"API:  {base_url}/api/todos\nDocs: {base_url}/docs\n" in output.read_text()
        assert (project.folder / "todos.db").exists()

        changed = project.folder / "backend" / "main.py"
        os.utime(changed)
        wait_until(lambda: "detected changes" in output.read_text())
        wait_until(lambda: output.read_text().count("Application startup complete") == 2)

        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(15) == 0
    assert "Traceback" not in output.read_text()


def test_dotenv_is_made_once_with_a_secret_of_its_own_and_then_kept(project: Project) -> None:
    dotenv = project.folder / ".env"
    sample = (ROOT / ".env.example").read_text()
    with socket.create_server(("127.0.0.1", int(project.variables["PORT"]))):
        first = project.run_dev()  # ends at once
        made = dotenv.read_text()
        again = project.run_dev()
    assert re.fullmatch(re.escape(sample) + r"SECRET_KEY=[\w-]{43}\n", made)
    assert dotenv.stat().st_mode & 0o077 == 0  # nobody else reads it
    assert first.stdout.splitlines() == [INSTALLING, "Added a random SECRET_KEY to .env."]
    assert again.stdout == ""
    assert dotenv.read_text() == made


@pytest.mark.parametrize(
    "before",
    ["DATABASE_URL=sqlite:///mine.db", "DATABASE_URL=sqlite:///mine.db\nSECRET_KEY=\n"],
    ids=["without one, nor a newline at its end", "with an empty one"],
)
def test_dotenv_without_a_secret_is_given_one(before: str, project: Project) -> None:
    dotenv = project.folder / ".env"
    dotenv.write_text(before)
    with socket.create_server(("127.0.0.1", int(project.variables["PORT"]))):
        said = project.run_dev()
    assert said.stdout.splitlines() == [INSTALLING, "Added a random SECRET_KEY to .env."]
    *lines, last = dotenv.read_text().splitlines()
    assert lines == before.splitlines()
    assert re.fullmatch(r"SECRET_KEY=[\w-]{43}", last)


def test_port_in_use_is_said_in_one_sentence(project: Project) -> None:
    port = int(project.variables["PORT"])
    with socket.create_server(("127.0.0.1", port)):
        ended = project.run_dev()
    assert ended.returncode == STARTUP_FAILURE
    assert ended.stderr == (
        f"PORT {port} of HOST 127.0.0.1 is in use; stop the program that listens there, "
        f"or set another port, for example PORT={port + 1}\n"
    )


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("203.0.113.1", id="address of another machine"),
        *(
            pytest.param(host, id=name, marks=pytest.mark.slow)
            for name, host in {
                "URL": "http://localhost",
                "brackets": "[::1]",
                "no name": "x" * 64,
            }.items()
        ),
    ],
)
def test_host_that_cannot_be_bound_is_said_in_one_sentence(host: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "backend"],
        cwd=ROOT,
        env={
            **SURROUNDINGS,
            "DATABASE_URL": "sqlite:///todos.db",
            "SECRET_KEY": SECRET_KEY,
            "HOST": host,
            "PORT": "8000",
        },
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == STARTUP_FAILURE
    assert ended.stderr == (
        f"PORT 8000 of HOST {host} cannot be opened; "
        "set HOST to an address of this machine and PORT to a number above 1023, "
        "for example HOST=127.0.0.1 PORT=8000\n"
    )


def test_test_command_passes_arguments_to_pytest(project: Project) -> None:
    (project.folder / "tests" / "test_two.py").write_text(
        "def test_red_car(): pass\n\ndef test_blue_car(): pass\n"
    )
    ended = project.run_dev("test", "-q", "-k", "red and car", "tests/test_two.py")
    assert ended.returncode == 0
    assert "1 passed in" in ended.stdout
    assert not (project.folder / ".env").exists()


@pytest.mark.slow
def test_migrate_command_makes_the_database(project: Project) -> None:
    ended = project.run_dev("migrate")
    assert ended.returncode == 0, ended.stderr
    assert "Applied 0001_todos." in ended.stdout.splitlines()
    assert ended.stdout.splitlines()[-1] == "The database has what models.py says."
    assert (project.folder / "todos.db").exists()
    nothing = project.run_dev("migrate", "add nothing")
    assert nothing.stdout.splitlines()[0] == "Nothing to do."


@pytest.mark.slow
def test_requirements_are_installed_again_only_when_changed(project: Project) -> None:
    first, second = project.run_dev("test", "--version"), project.run_dev("test", "--version")
    assert first.stdout.splitlines()[:2] == [
        "Installing requirements.txt ...",
        "Installing tests/requirements.txt ...",
    ]
    assert "Installing" not in second.stdout

    with (project.folder / "constraints.txt").open("a") as constraints:
        constraints.write("a-package-of-nobody==1\n")  # that nothing needs
    assert "Installing requirements.txt ..." in project.run_dev("test", "--version").stdout
    with (project.folder / "requirements.txt").open("a") as requirements:
        requirements.write("a-package-of-nobody==1\n")
    ended = project.run_dev("test", "--version")
    assert ended.returncode == 1
    assert ended.stdout == "Installing requirements.txt ...\n"
    assert ended.stderr.splitlines()[-1] == (
        "The packages of requirements.txt could not be installed, for the reason above: "
        "check the network, then start again."
    )
    shutil.copy(ROOT / "requirements.txt", project.folder)
    assert project.run_dev("test", "--version").stdout == second.stdout


def test_unknown_word_is_answered_with_the_usage(project: Project) -> None:
    ended = project.run_dev("serve")
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: ./run_dev.sh ")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["interpreter is gone", "set-up was interrupted"])
def test_broken_venv_is_made_anew(damage: str, bare_project: Project) -> None:
    for requirements in bare_project.folder.rglob("requirements.txt"):
        requirements.write_text("")
    bare_project.variables |= OFFLINE
    python = bare_project.folder / ".venv" / "bin" / "python"
    if damage == "interpreter is gone":
        python.parent.mkdir(parents=True)
        python.symlink_to(bare_project.folder / "gone")
    else:
        with bare_project.started() as (process, _output):
            wait_until(python.exists)
            os.killpg(process.pid, signal.SIGKILL)
    ended = bare_project.run_dev("test")
    assert "Made .venv" in ended.stdout
    assert ended.stderr.endswith("No module named pytest\n")
    assert "Made .venv" not in bare_project.run_dev("test").stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", ["this one", "too old"])
def test_venv_without_pip_is_kept_if_it_can_be(bare_project: Project, version: str) -> None:
    venv = bare_project.folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    if version == "too old":
        (venv / "bin" / "python").unlink()
        fake_python(venv / "bin", "python", (3, 10), can_make_venv=False)
    mine = venv / "mine"
    mine.touch()
    for requirements in bare_project.folder.rglob("requirements.txt"):
        requirements.write_text("")
    bare_project.variables |= OFFLINE
    ended = bare_project.run_dev("test")
    assert ended.stderr.endswith("No module named pytest\n")  # and so of a .venv that works
    assert mine.exists() == (version == "this one")
    assert ("Made .venv" in ended.stdout) == (version == "too old")
    assert not (venv / "incomplete").exists()


@pytest.mark.slow
def test_new_clone_is_set_up_and_serves(bare_project: Project) -> None:
    assert bare_project.run_dev("test", "--version").returncode == 0
    port = bare_project.variables["PORT"] = str(free_port())
    with bare_project.started():
        wait_until(lambda: is_up(f"http://127.0.0.1:{port}/api/todos"))
